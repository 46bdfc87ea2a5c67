"""Join a Ray cluster, or start one in this process."""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ray

from peercollab.actors.options import ExecutionOptions
from peercollab.errors import PeercollabError
from peercollab.machine import usable_cores

SECONDS_TO_ANSWER = 10.0


def connect(options: ExecutionOptions) -> Callable[[], None]:
    """Join a Ray cluster, or start one in this process; how to leave it, which ends ours.

    Raises
    ------
    PeercollabError
        There is no cluster at the address, or nothing to wait for without one.
    """
    source = "--address" if options.address else "RAY_ADDRESS"
    address = options.address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _require_listener(address, source)
    if ray.is_initialized():
        return lambda: None
    if address is None and options.wait_for_resources:
        raise PeercollabError(
            "--wait-for-resources has no effect where Ray is started for the run alone, as no node "
            "joins it: name a cluster with --address, or leave it out"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's workers yield to all else by default, and barely start beside any other work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            started = ray.init(
                "local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        else:
            started = ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        if address is not None and "RAY_AUTH_MODE" not in os.environ:
            reason += "; if the cluster asks for a token, set RAY_AUTH_MODE=token"
        raise PeercollabError(f"Ray could not be reached or started: {reason}") from error
    # Ray puts its own handler here, which ends the process without cleaning up.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    if address is not None:
        return ray.shutdown
    return partial(_end, Path(started.address_info["session_dir"]))


def _end(session: Path) -> None:
    """End the Ray that was started here, and take its logs and sockets away with it."""
    ray.shutdown()
    shutil.rmtree(session, ignore_errors=True)


def _require_listener(address: str, source: str) -> None:
    """Look whether anything listens at ``host:port``: Ray itself tries for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:
        return  # A word that Ray explains, such as auto.
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
    except (OSError, ValueError, OverflowError) as error:
        raise PeercollabError(
            f"{source} {address}: nothing answers there ({error}); give the host:port that "
            "`ray start --head` printed, or auto"
        ) from error
