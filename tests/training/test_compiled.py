"""Compiled training beside plain training, and what is said where there is no compiler."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from peercollab.errors import PeercollabError
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.compiled import compiled
from peercollab.training.options import TrainingOptions
from tests.training.walks import trainer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
OPTIONS = TrainingOptions(epochs=2, batch_size=16, seed=5)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are looked for, empty."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def install(folder: Path, name: str) -> None:
    (folder / name).touch(mode=0o755)


@pytest.mark.parametrize(
    ("device", "platform", "named"),
    [
        (CPU, "linux", r"a C\+\+ compiler, and g\+\+ is not there: .* in CXX"),
        (CPU, "darwin", r"a C\+\+ compiler, and clang\+\+ is not there: .* in CXX"),
        (CUDA, "linux", r"a C compiler, and gcc or clang is not there: .* in CC"),
    ],
)
def test_compiling_without_a_compiler_is_refused(
    device: torch.device,
    platform: str,
    named: str,
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(PeercollabError, match=named):
        compiled(nn.Linear(2, 2), device)


@pytest.mark.parametrize(("device", "compiler"), [(CPU, "g++"), (CUDA, "gcc"), (CUDA, "clang")])
def test_the_usual_compilers_are_found(
    device: torch.device, compiler: str, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    install(programs, compiler)
    compiled(nn.Linear(2, 2), device)


@pytest.mark.parametrize(("device", "variable"), [(CPU, "CXX"), (CUDA, "CC")])
def test_the_compiler_that_a_variable_names_must_be_there_as_one_program(
    device: torch.device, variable: str, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("own", "g++", "gcc", "ccache"):
        install(programs, name)
    monkeypatch.setenv(variable, "own")
    compiled(nn.Linear(2, 2), device)
    for wrong in ("no-such-compiler", "ccache g++"):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(PeercollabError, match=f"{wrong.replace('+', '.')} is not there"):
            compiled(nn.Linear(2, 2), device)


def test_a_trainer_looks_for_the_compiler_before_it_trains(programs: Path) -> None:
    with pytest.raises(PeercollabError, match="--compile needs"):
        trainer(replace(OPTIONS, compile=True))


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_compiled_network_trains_alike(dropout: float) -> None:
    model = SASRecOptions(hidden_size=16, max_length=8, dropout=dropout)
    plain, other = (trainer(replace(OPTIONS, compile=on), model) for on in (False, True))
    losses = [[own.train_epoch(epoch).loss for epoch in (1, 2)] for own in (plain, other)]
    if dropout:
        # Other entries are dropped, as many.
        assert losses[1] != losses[0]
        assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    else:
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
