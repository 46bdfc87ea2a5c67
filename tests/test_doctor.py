"""The doctor: facts are measured, judged and shown."""

import json
import os
import re
import subprocess
import sys
import tomllib
import warnings
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from peercollab import doctor
from peercollab import machine as facts
from peercollab.doctor import GIB, Finding, examine, render
from peercollab.machine import Device, Machine, measure
from peercollab.version import __version__

SOUND = Machine(
    peercollab="1.2.3",
    commit=None,
    python="3.11.7",
    platform="Linux",
    packages={"torch": "2.13.0", "ray": "2.60.0"},
    devices=[Device("cuda:0 NVIDIA A100", 80 * GIB)],
    torch_threads=8,
    torch_trouble="",
    nvidia_driver=True,
    cores=16,
    usable_cores=8,
    memory=64 * GIB,
    available_memory=60 * GIB,
    shared_memory=32 * GIB,
    free_disk=500 * GIB,
    folder_writable=True,
    ray_address=None,
)


def finding(machine: Machine, topic: str) -> Finding:
    (only,) = [finding for finding in examine(machine) if finding.topic == topic]
    return only


def test_a_sound_machine_needs_nothing() -> None:
    assert [finding for finding in examine(SOUND) if finding.advice] == []
    assert render(examine(SOUND)).endswith("All is well.")
    assert "cuda:0 NVIDIA A100 (80.0 GiB)" in render(examine(SOUND))


def test_without_accelerators_peers_share_the_cpu() -> None:
    bare = replace(SOUND, devices=[], nvidia_driver=False)
    assert finding(bare, "devices") == Finding("devices", "none: peers share the CPU")


def test_the_cluster_that_a_run_would_join_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "starts its own Ray here" in finding(measure(), "ray").text
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "joins that cluster" in finding(measure(), "ray").text
    assert "10.0.0.1:6379" in finding(measure(), "ray").text


@pytest.mark.parametrize(
    ("change", "topic", "advice"),
    [
        ({"packages": {"torch": "2.13.0", "ray": None}}, "packages", "pip install ray"),
        ({"devices": []}, "devices", "torch 2.13.0 sees no GPU"),
        ({"torch_threads": None, "torch_trouble": "libc is old"}, "devices", "libc is old"),
        ({"torch_trouble": "driver is old"}, "devices", "driver is old"),
        ({"available_memory": GIB}, "memory", "two peers want about 2.0 GiB"),
        ({"memory": None, "available_memory": None}, "memory", "psutil"),
        ({"shared_memory": 64 << 20}, "object store", "--shm-size=11g"),
        ({"free_disk": GIB // 2}, "disk", "little room"),
        ({"folder_writable": False}, "disk", "cannot be written"),
    ],
)
def test_trouble_is_found_and_comes_with_advice(
    change: dict[str, object], topic: str, advice: str
) -> None:
    sick = replace(SOUND, **change)  # type: ignore[arg-type]
    assert advice in finding(sick, topic).advice
    assert [finding.topic for finding in examine(sick) if finding.advice] == [topic]
    assert render(examine(sick)).endswith("1 to look at.")


@pytest.mark.parametrize("shared_gib", [0.0625, 8, 20, 100, 1000])
@pytest.mark.parametrize("available_gib", [1, 24, 120, 2000])
def test_the_object_store_is_sized_as_ray_sizes_it(
    available_gib: int, shared_gib: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray._private import utils

    available, shared = available_gib * GIB, int(shared_gib * GIB)
    monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda: shared)
    expected = utils.resolve_object_store_memory(available)
    assert doctor.object_store_size(available, shared) == expected


def test_every_line_fits_80_columns_and_an_ascii_terminal() -> None:
    odd = replace(
        SOUND,
        devices=[Device("cuda:0 Grafikkarte für Größeres™ " + "ü" * 100, 8 * GIB)],
        shared_memory=0,
        ray_address="ray://" + "a-long-name." * 12 + "example:10001",
    )
    text = render(examine(odd), "ascii")
    assert text.isascii()
    assert "f\\xfcr" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "für" in render(examine(odd), "utf-8")


def test_measured_facts_are_those_of_this_process() -> None:
    machine = measure()
    assert machine.peercollab == __version__
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert machine.packages["torch"] == metadata.version("torch")
    assert machine.torch_threads == torch.get_num_threads()
    assert len(machine.devices) >= torch.cuda.device_count()
    assert machine.memory is not None
    assert machine.available_memory is not None
    assert 0 < machine.available_memory <= machine.memory
    assert 1 <= machine.usable_cores <= machine.cores


def test_the_packages_are_the_projects_dependencies() -> None:
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text("utf-8"))
    named = [re.split(r"[\[<>=~!]", line)[0] for line in project["project"]["dependencies"]]
    assert sorted(facts.PACKAGES) == sorted(named)


def test_the_environment_survives_json() -> None:
    environment = facts.environment()
    assert json.loads(json.dumps(environment)) == environment


def test_a_process_bound_to_one_core_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert facts.usable_cores() == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)]
)
def test_a_containers_quota_limits_the_cores(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(facts, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert facts.usable_cores() == cores


def test_a_containers_memory_limit_counts_without_its_idle_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(f"{1 << 26}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 25}\n")
    (tmp_path / "memory.stat").write_text(f"anon 4096\ninactive_file {1 << 24}\n")
    monkeypatch.setattr(facts, "CGROUP", tmp_path)
    machine = measure()
    assert machine.memory == 1 << 26
    assert machine.available_memory == (1 << 26) - (1 << 25) + (1 << 24)


def test_gpus_are_listed_and_a_warning_of_torch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def warned() -> bool:
        warnings.warn("the driver is old", stacklevel=1)
        return True

    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(name=f"Card {index}", total_memory=8 * GIB)

    monkeypatch.setattr(torch.cuda, "is_available", warned)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    machine = measure()
    assert machine.devices == [
        Device("cuda:0 Card 0", 8 * GIB),
        Device("cuda:1 Card 1", 8 * GIB),
    ]
    assert machine.torch_trouble == "the driver is old"


def test_a_gpu_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(index: int) -> None:
        raise RuntimeError("CUDA error: all devices are busy")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", busy)
    assert "all devices are busy" in finding(measure(), "devices").advice


def test_it_works_without_any_package() -> None:
    """With -ES no installed package can be imported or found."""
    command = [sys.executable, "-ES", "-m", "peercollab.doctor"]
    root = Path(__file__).parents[1]
    report = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in facts.PACKAGES:
        assert f"{name} MISSING" in " ".join(report.split())
    assert "No module named 'torch'" in " ".join(report.split())


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository from which the package seems to run."""
    package = tmp_path / "peercollab"
    package.mkdir()
    (package / "machine.py").write_text("")
    monkeypatch.setattr(facts, "__file__", str(package / "machine.py"))
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    # What the developer's own configuration asks for, as signed commits, is left out.
    plain = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    answer = subprocess.run(command, check=True, capture_output=True, text=True, env=plain)
    return answer.stdout.strip()


def test_the_commit_is_named_and_changed_files_are_told(checkout: Path) -> None:
    assert measure().commit is None
    git(checkout, "init")
    assert measure().commit is None
    git(checkout, "add", ".")
    git(checkout, "commit", "--message", "first")
    # A tag must not take the commit's place.
    git(checkout, "tag", "--annotate", "v1", "--message", "v1")
    head = git(checkout, "rev-parse", "HEAD")
    assert measure().commit == head
    (checkout / "peercollab" / "machine.py").write_text("changed = 1\n")
    assert measure().commit == head + "-dirty"
