"""A Ray that is started for one run is reached from this machine alone."""

import ipaddress
import signal
from pathlib import Path

import psutil

from tests.traces import Watched

# It must not end before all that listens has been looked at.
ENDLESS = ("--epochs=100000", "--patience=0")


def test_what_a_local_run_starts_listens_on_loopback_alone(tmp_path: Path) -> None:
    run = Watched(
        ["train", "--out", str(tmp_path / "run"), *ENDLESS, "--hidden-size=8", "--blocks=1"],
        tmp_path / "output.txt",
    )
    try:
        run.said_at("round 1/")
        processes = {process.pid: process for process in run.started()}
        listening = {
            f"{processes[socket.pid].name()}: {socket.laddr.ip}"
            for socket in psutil.net_connections("inet")
            if socket.pid in processes and socket.laddr and socket.status == psutil.CONN_LISTEN
        }
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130, run.output.read_text()
    finally:
        run.clean_up()
    assert listening
    assert not {told for told in listening if not is_loopback(told.split(": ")[1])}


def is_loopback(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    # Where one socket serves both families, an address of IPv4 is told as one of IPv6.
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
