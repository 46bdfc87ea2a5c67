"""Join a Ray cluster, or start one in this process."""

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import ray
from ray._private import ray_constants
from ray._private.ray_constants import ENABLE_RAY_CLUSTERS_ENV_VAR
from ray.exceptions import AuthenticationError, RayError

from peercollab.actors.options import ExecutionOptions
from peercollab.errors import PeercollabError
from peercollab.machine import usable_cores

SECONDS_TO_ANSWER = 10.0


def connect(options: ExecutionOptions) -> Callable[[], None]:
    """Join a Ray cluster, or start one in this process; how to leave it, which ends ours.

    Raises
    ------
    PeercollabError
        There is no cluster at the address, or nothing to wait for without one, or none comes up.
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
            with _on_loopback_alone():
                started = ray.init(
                    "local",
                    num_cpus=usable_cores(),
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
        else:
            started = ray.init(address, log_to_driver=False, logging_level="ERROR")
    except AuthenticationError as error:
        raise PeercollabError(
            f"{source} {address}: the cluster wants another token, or one at all: have that of its "
            "head node in ~/.ray/auth_token, RAY_AUTH_TOKEN, or a file named by RAY_AUTH_TOKEN_PATH"
        ) from error
    except (ConnectionError, ValueError, RuntimeError, RayError) as error:
        reason = str(error).strip().splitlines()[0]
        if address is not None and "RAY_AUTH_MODE" not in os.environ:
            reason += "; if the cluster asks for a token, set RAY_AUTH_MODE=token"
        raise PeercollabError(f"Ray could not be reached or started: {reason}") from error
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        raise PeercollabError(
            "Ray was not up within half a minute, as on a machine that is busy: try again, or take "
            "--executor local"
        ) from error
    # Ray puts its own handler here, which ends the process without cleaning up.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    if address is not None:
        return ray.shutdown
    return partial(_end, Path(started.address_info["session_dir"]))


@contextmanager
def _on_loopback_alone() -> Iterator[None]:
    """Have a Ray that is started here listen on this machine's loopback, and nowhere else.

    Ray takes an address of the machine's network, also where it is told 127.0.0.1, unless it is
    told that there can be no cluster; what it starts learns of that by the variable.
    """
    before = os.environ.get(ENABLE_RAY_CLUSTERS_ENV_VAR), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        variable, ray_constants.ENABLE_RAY_CLUSTER = before
        if variable is None:
            del os.environ[ENABLE_RAY_CLUSTERS_ENV_VAR]
        else:
            os.environ[ENABLE_RAY_CLUSTERS_ENV_VAR] = variable


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
