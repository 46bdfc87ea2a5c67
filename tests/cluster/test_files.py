"""The files in cluster/ are what their readers take: schemas, syntax, versions, names."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from peercollab.cli import Command
from peercollab.command_line import parse
from peercollab.options import TrainOptions

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
LAUNCHERS = ["aws.yaml", "hosts.yaml"]
MANIFESTS = {
    "raycluster.yaml": "RayCluster",
    "rayjob.yaml": "RayJob",
    "network-policy.yaml": "NetworkPolicy",
}
SHELL = [CLUSTER / "slurm.sh"] + [
    ROOT / "scripts" / name
    for name in ["environment.sh", "submit", "local-cluster", "test", "quickstart", "benchmark"]
]

# KubeRay's fields that are used here, from its API v1: a mistyped one would be dropped silently.
JOB_FIELDS = {
    "activeDeadlineSeconds",
    "backoffLimit",
    "entrypoint",
    "rayClusterSpec",
    "shutdownAfterJobFinishes",
    "submissionMode",
    "submitterConfig",
    "ttlSecondsAfterFinished",
}
CLUSTER_FIELDS = {"authOptions", "headGroupSpec", "rayVersion", "workerGroupSpecs"}
HEAD_FIELDS = {"rayStartParams", "serviceType", "template"}
WORKER_FIELDS = {
    "groupName",
    "maxReplicas",
    "minReplicas",
    "rayStartParams",
    "replicas",
    "template",
}


def load(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def cluster_specs() -> Iterator[dict[str, Any]]:
    yield load("raycluster.yaml")["spec"]
    yield load("rayjob.yaml")["spec"]["rayClusterSpec"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_fit_rays_schema(name: str) -> None:
    config = load(name)
    validate_config(prepare_config(config))
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_name_their_kind(name: str) -> None:
    manifest = load(name)
    assert manifest["kind"] == MANIFESTS[name]
    assert manifest["metadata"]["name"] == "peercollab"


def test_manifests_have_only_fields_that_kuberay_knows() -> None:
    assert set(load("rayjob.yaml")["spec"]) <= JOB_FIELDS
    for spec in cluster_specs():
        assert set(spec) <= CLUSTER_FIELDS
        assert set(spec["headGroupSpec"]) <= HEAD_FIELDS
        assert all(set(group) <= WORKER_FIELDS for group in spec["workerGroupSpecs"])


def test_clusters_on_kubernetes_ask_for_a_token_a_gpu_and_memory_to_share() -> None:
    for spec in cluster_specs():
        assert spec["rayVersion"] == pinned("ray")
        assert spec["authOptions"] == {"mode": "token"}
        for group in spec["workerGroupSpecs"]:
            [container] = group["template"]["spec"]["containers"]
            assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            pod = group["template"]["spec"]
            [container] = pod["containers"]
            volumes = {volume["name"]: volume for volume in pod["volumes"]}
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
            assert "persistentVolumeClaim" in volumes[mounts["/shared"]]
            assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_the_ray_job_ends_with_its_run_and_its_command_is_right() -> None:
    spec = load("rayjob.yaml")["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] >= 0
    program, *command = spec["entrypoint"].split()
    assert program == "peercollab"
    options = parse(Command, command, command[0])
    assert isinstance(options, TrainOptions)
    assert options.folder.is_absolute()
    assert options.execution.peers == spec["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"]


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_files_parse(path: Path) -> None:
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_slurm_hands_the_options_on(tmp_path: Path) -> None:
    """With stand-ins for Slurm's commands: what each node would run."""
    for name, body in {
        "scontrol": 'echo "node-a\nnode-b"',
        "srun": 'echo "$RAY_AUTH_MODE ${#RAY_AUTH_TOKEN}"; printf "%s\\n" "$@"',
        "python": "echo 0123456789",
    }.items():
        command = tmp_path / name
        command.write_text(f"#!/bin/sh\n{body}\n")
        command.chmod(0o755)
    settings = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "VENV": "/none",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "12345",
        "SLURM_CPUS_PER_TASK": "16",
        "SLURM_GPUS_ON_NODE": "2",
    }
    done = subprocess.run(
        ["bash", str(CLUSTER / "slurm.sh"), "--out", "/shared/my runs/a"],
        env=settings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    token, *words = done.stdout.splitlines()
    assert token == "token 10"
    at = words.index("symmetric-run")
    assert words[at - 1] == "ray"
    assert words[at + 1 : at + 5] == ["--address", "node-a:22345", "--min-nodes", "2"]
    assert words[words.index("--num-gpus") + 1] == "2"
    train = words[words.index("--", at) + 1 :]
    assert train == [
        *["peercollab", "train", "--address", "node-a:22345"],
        *["--out", "/shared/my runs/a"],
    ]


def test_the_container_file_copies_what_there_is_and_has_pythons_version() -> None:
    lines = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sources = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert sources
    allowed = (CLUSTER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed
    assert any(line.startswith("FROM python:3.11-") for line in lines)
    assert sum("--constraint constraints.txt" in line for line in lines) == 2


def test_the_readme_names_every_file() -> None:
    text = (CLUSTER / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in CLUSTER.iterdir()} - {"README.md"}
    assert {name for name in files if f"({name})" not in text} == set()
