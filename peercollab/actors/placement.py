"""Get a Ray cluster and a place for every peer in it, or say in seconds why there is none."""

import os
import signal
import socket
import threading
from collections.abc import Mapping

import ray
from ray.util.placement_group import (
    PlacementGroup,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

from peercollab.actors.options import ExecutionOptions
from peercollab.errors import PeercollabError
from peercollab.machine import usable_cores

SECONDS_TO_PLACE = 30.0
SECONDS_TO_ANSWER = 10.0


def connect(address: str | None) -> bool:
    """Join a Ray cluster, or start one in this process; whether it is now ours to shut down.

    Raises
    ------
    PeercollabError
        There is no cluster at the address.
    """
    source = "--address" if address else "RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS")
    if address is not None:
        _require_listener(address, source)
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's workers yield to all else by default, and barely start beside any other work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(
                "local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
            )
        else:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        if address is not None and "RAY_AUTH_MODE" not in os.environ:
            reason += "; if the cluster asks for a token, set RAY_AUTH_MODE=token"
        raise PeercollabError(f"Ray could not be reached or started: {reason}") from error
    # Ray puts its own handler here, which ends the process without cleaning up.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    return True


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


def bundle_of_a_peer(
    options: ExecutionOptions, threads: int, resources: Mapping[str, float]
) -> dict[str, float]:
    """What one peer of so many threads asks of a cluster that has `resources` in all.

    A pure function. Peers that share a core ask for a fraction of it.

    Raises
    ------
    PeercollabError
        The cluster does not have enough GPUs.
    """
    cpu = min(float(threads), max(resources.get("CPU", 0.0), 1.0) / options.peers)
    gpus = resources.get("GPU", 0.0)
    if options.device == "cpu" or (options.device == "auto" and not gpus):
        return {"CPU": cpu}
    if options.peers * options.gpus_per_peer > gpus:
        share = int(100 * gpus / options.peers) / 100
        remedy = f"take --gpus-per-peer {share:g} to share them, " if share else ""
        raise PeercollabError(
            f"{options.peers} peers need {options.peers * options.gpus_per_peer:g} GPUs, "
            f"the cluster has {gpus:g}: {remedy}fewer --peers, or --device cpu"
        )
    return {"CPU": cpu, "GPU": options.gpus_per_peer}


def reserve(bundle: dict[str, float], peers: int) -> PlacementGroup:
    """A bundle for every peer.

    Raises
    ------
    PeercollabError
        The cluster does not give it in time.
    """
    group = placement_group([bundle] * peers, strategy="PACK")
    if not group.wait(SECONDS_TO_PLACE):
        state = placement_group_table(group)["stats"]["scheduling_state"]
        remove_placement_group(group)
        free = {name: ray.available_resources().get(name, 0.0) for name in bundle}
        raise PeercollabError(
            f"Ray found no place for {peers} peers of {_words(bundle)} each within "
            f"{SECONDS_TO_PLACE:g} s ({state}); free in all: {_words(free)}. "
            "Wait until others have finished, or ask for less"
        )
    return group


def _words(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items())
