"""Nodes of a Ray cluster on this machine, as processes of `ray start`."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from peercollab.errors import PeercollabError

# In the environment of all that a node starts: how `end` finds it, also where Ray has renamed a
# process or it has lost its parent.
MARK = "PEERCOLLAB_LOCAL_CLUSTER"

SECONDS_TO_BEGIN = 180.0
SECONDS_TO_END = 20.0
SECONDS_BETWEEN = 0.5

# Ray's sockets lie below this folder, and their paths may have 107 bytes.
LONGEST_FOLDER = 35

LOCALHOST = "127.0.0.1"
DESCRIPTION = "cluster.json"
TOKEN = "token"


@dataclass(frozen=True)
class LocalCluster:
    """A cluster that is up: addresses, the file of its token, and a process a node, head first."""

    address: str
    jobs: str
    token: str
    pids: list[int]

    def environment(self) -> dict[str, str]:
        """The variables by which Ray's clients show the token."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token}


@dataclass(frozen=True)
class Sizes:
    """How large a cluster is: workers beside the head, cores and bytes of objects of each node."""

    workers: int = 2
    cpus: int = 1
    object_store_memory: int = 100 << 20


def begin(folder: Path, sizes: Sizes) -> LocalCluster:
    """Start a head and workers, and wait until they have found each other.

    Parameters
    ----------
    folder
        Made anew, for all that Ray and this write; its path must be short.
    sizes
        How many nodes, and how large.

    Raises
    ------
    PeercollabError
        The folder exists, or a node does not start. Nothing is left of the others.
    """
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise PeercollabError(
            f"--folder {folder}: Ray's sockets need a path of at most {LONGEST_FOLDER} bytes"
        )
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        raise PeercollabError(
            f"{folder} exists already: a cluster is up, which ./scripts/local-cluster down ends, "
            "or name another --folder"
        ) from error
    except OSError as error:
        raise PeercollabError(f"--folder {folder}: {error.strerror}") from error
    try:
        return _begin(folder, sizes)
    except BaseException:
        end(folder)
        raise


def end(folder: Path) -> None:
    """End every process of the cluster, and remove its folder.

    Raises
    ------
    PeercollabError
        The folder is none of a cluster.
    """
    if not folder.is_dir():
        raise PeercollabError(f"no cluster is up: there is no {folder}")
    if not (folder / TOKEN).is_file():
        raise PeercollabError(f"{folder} is not the folder of a local cluster")
    _end_processes(folder)
    shutil.rmtree(folder)


def processes(folder: Path) -> list[psutil.Process]:
    """The living processes of the cluster in this folder, jobs on it included."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder):
                found.append(process)
        except (psutil.Error, OSError):
            continue  # Another's, or just ended.
    return found


def read(folder: Path) -> LocalCluster:
    """The cluster that is up in this folder."""
    return LocalCluster(**json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")))


def _begin(folder: Path, sizes: Sizes) -> LocalCluster:
    token = folder / TOKEN
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    port, dashboard_port, client_port = _free_ports(3)
    cluster = LocalCluster(
        address=f"{LOCALHOST}:{port}",
        jobs=f"http://{LOCALHOST}:{dashboard_port}",
        token=str(token),
        pids=[],
    )
    settings = _environment(folder, cluster)
    head = [
        "--head",
        f"--port={port}",
        "--include-dashboard=true",
        f"--dashboard-host={LOCALHOST}",
        f"--dashboard-port={dashboard_port}",
        f"--ray-client-server-port={client_port}",
    ]
    nodes = [_start("head", head, folder, sizes, settings)]
    _wait(cluster, nodes, 1, folder)
    worker = [f"--address={cluster.address}"]
    for number in range(1, sizes.workers + 1):
        nodes.append(_start(f"worker-{number}", worker, folder, sizes, settings))
    _wait(cluster, nodes, len(nodes), folder)
    cluster.pids.extend(node.pid for node in nodes)
    (folder / DESCRIPTION).write_text(json.dumps(asdict(cluster)), encoding="utf-8")
    return cluster


def _environment(folder: Path, cluster: LocalCluster) -> dict[str, str]:
    """Of the nodes: this process's own, without what it says of other clusters."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_AUTH") and name != "RAY_ADDRESS"
    }
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    return own | quiet | cluster.environment() | {MARK: str(folder)}


def _start(
    name: str, options: Sequence[str], folder: Path, sizes: Sizes, settings: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    limits = [
        f"--num-cpus={sizes.cpus}",
        "--num-gpus=0",
        f"--object-store-memory={sizes.object_store_memory}",
    ]
    # Several nodes on one machine: ports that the system chooses, a folder for each.
    apart = [
        "--min-worker-port=0",
        "--max-worker-port=0",
        "--dashboard-agent-listen-port=0",
        f"--node-ip-address={LOCALHOST}",
        f"--temp-dir={folder / name}",
    ]
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--disable-usage-stats",
    ]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, *options, *limits, *apart],
            env=dict(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(
    cluster: LocalCluster, nodes: Sequence[subprocess.Popen[bytes]], many: int, folder: Path
) -> None:
    deadline = time.monotonic() + SECONDS_TO_BEGIN
    while _nodes_alive(cluster) < many:
        ended = [node for node in nodes if node.poll() is not None]
        if ended or time.monotonic() > deadline:
            raise PeercollabError(f"a node did not start: {_last_words(folder)}")
        time.sleep(SECONDS_BETWEEN)


def _nodes_alive(cluster: LocalCluster) -> int:
    # Ray reads its settings when it is imported.
    os.environ |= cluster.environment()
    from ray.exceptions import RayError
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    try:
        return sum(node.state == "ALIVE" for node in list_nodes(address=cluster.jobs))
    except (RayError, RayStateApiException, OSError, RuntimeError, ValueError):
        return 0  # Not yet.


def _last_words(folder: Path) -> str:
    lines = [
        line
        for log in sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    return lines[-1] if lines else "it says nothing"


def _free_ports(many: int) -> list[int]:
    sockets = [socket.create_server((LOCALHOST, 0)) for _ in range(many)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end_processes(folder: Path) -> None:
    """Ask the nodes to end, which `ray start` does in order; kill what is left."""
    nodes = [process for process in processes(folder) if _has(process, "--block")]
    for node in nodes:
        with suppress(psutil.NoSuchProcess):
            node.terminate()
    psutil.wait_procs(nodes, timeout=SECONDS_TO_END)
    # Python's trackers of semaphores remove those from shared memory once all others have ended.
    others = [each for each in processes(folder) if not _has(each, "resource_tracker")]
    for process in others:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(others, timeout=SECONDS_TO_END)
    psutil.wait_procs(processes(folder), timeout=SECONDS_TO_END)
    while left := processes(folder):
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=SECONDS_TO_END)


def _has(process: psutil.Process, word: str) -> bool:
    """Whether a word is in its command; not of one that has just ended."""
    try:
        return word in " ".join(process.cmdline())
    except psutil.Error:
        return False
