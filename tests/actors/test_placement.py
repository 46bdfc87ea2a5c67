"""What a peer asks of the cluster, and what is said when it cannot be had."""

import subprocess
import sys

import pytest

from peercollab.actors.options import ExecutionOptions
from peercollab.actors.placement import bundle_of_a_peer
from peercollab.errors import PeercollabError


def test_peers_on_a_cpu_share_its_cores() -> None:
    options = ExecutionOptions(peers=2)
    assert bundle_of_a_peer(options, 4, {"CPU": 8}) == {"CPU": 4}
    assert bundle_of_a_peer(options, 1, {"CPU": 8}) == {"CPU": 1}
    eight = ExecutionOptions(peers=8)
    assert bundle_of_a_peer(eight, 1, {"CPU": 2}) == {"CPU": 0.25}


def test_each_peer_has_a_gpu_where_there_are_gpus() -> None:
    options = ExecutionOptions(peers=2)
    assert bundle_of_a_peer(options, 1, {"CPU": 8, "GPU": 2}) == {"CPU": 1, "GPU": 1}
    on_cpu = ExecutionOptions(peers=2, device="cpu")
    assert bundle_of_a_peer(on_cpu, 1, {"CPU": 8, "GPU": 2}) == {"CPU": 1}
    shared = ExecutionOptions(peers=3, gpus_per_peer=0.5)
    assert bundle_of_a_peer(shared, 1, {"CPU": 8, "GPU": 2}) == {"CPU": 1, "GPU": 0.5}


def test_too_few_gpus_are_refused_with_what_there_is_and_the_remedy() -> None:
    with pytest.raises(PeercollabError, match=r"3 peers need 3 GPUs.*has 2.*--gpus-per-peer 0.66"):
        bundle_of_a_peer(ExecutionOptions(peers=3), 1, {"CPU": 8, "GPU": 2})
    with pytest.raises(PeercollabError, match="2 GPUs, the cluster has 0: fewer --peers"):
        bundle_of_a_peer(ExecutionOptions(device="cuda"), 1, {"CPU": 8})


PROMISED_GPUS = """
import os, sys
import numpy as np
import ray
from pathlib import Path
from peercollab.cli import main

ray.init(num_cpus=3, num_gpus=2, include_dashboard=False, object_store_memory=100 << 20,
         log_to_driver=False, logging_level="ERROR")
out = sys.argv[1]
assert main(["train", "--out", out, "--peers", "3", "--epochs", "1"]) == 2
assert not Path(out).exists()

from peercollab.actors import ray_executor

seen = []
run_round = ray_executor.RayExecutor.run_round

def spy(self, round, watch):
    devices = [peer.__ray_call__.remote(lambda _: os.environ["CUDA_VISIBLE_DEVICES"])
               for peer in self._peers]
    seen.extend(ray.get(devices))
    return run_round(self, round, watch)

ray_executor.RayExecutor.run_round = spy
short = ["--epochs", "1", "--hidden-size", "8", "--blocks", "1"]
assert main(["train", "--out", out, "--peers", "2", *short]) == 0
assert sorted(seen) == ["0", "1"], seen
ray.shutdown()
"""


def test_peers_get_a_gpu_each_and_a_third_is_refused(tmp_path: object) -> None:
    """GPUs are promised to Ray by hand, so placement is real though the machine has none."""
    done = subprocess.run(
        [sys.executable, "-c", PROMISED_GPUS, f"{tmp_path}/run"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "3 peers need 3 GPUs, the cluster has 2" in done.stderr
    assert "Traceback" not in done.stderr
