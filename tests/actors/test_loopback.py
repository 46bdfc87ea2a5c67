"""A Ray that is started for one run is reached from this machine alone."""

import ipaddress
from pathlib import Path

import psutil

from tests.traces import Watched


def test_what_a_local_run_starts_listens_on_loopback_alone(tmp_path: Path) -> None:
    run = Watched(
        ["train", "--out", str(tmp_path / "run"), "--epochs=3", "--hidden-size=8", "--blocks=1"],
        tmp_path / "output.txt",
    )
    try:
        run.said_at("round 1/3")
        processes = {process.pid: process for process in run.started()}
        listening = {
            f"{processes[socket.pid].name()}: {socket.laddr.ip}"
            for socket in psutil.net_connections("inet")
            if socket.pid in processes and socket.laddr and socket.status == psutil.CONN_LISTEN
        }
        assert run.end() == 0, run.output.read_text()
    finally:
        run.clean_up()
    assert listening
    assert not {told for told in listening if not is_loopback(told.split(": ")[1])}


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    # Where one socket serves both families, an address of IPv4 is told as one of IPv6.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
