"""torch.compile, with what it needs looked for before training begins."""

import os
import shutil
import sys
from typing import Any

import torch
from torch import nn

from peercollab.errors import PeercollabError


def compiled(model: nn.Module, device: torch.device) -> Any:
    """The model's forward pass, compiled at its first call, once for all sizes of batches.

    Raises
    ------
    PeercollabError
        A CPU is to run it, and there is no C++ compiler; or a GPU, and there is no C compiler.
    """
    if device.type == "cpu":
        _require("C++", "CXX", "clang++" if sys.platform == "darwin" else "g++")
    else:
        _require("C", "CC", "gcc", "clang")
    return torch.compile(model, dynamic=True)


def _require(language: str, variable: str, *usual: str) -> None:
    """Look for a compiler as torch does, and Triton: where a variable names it, there alone.

    Both take the variable for the name of one program: ``ccache g++`` would fail when training
    has begun.
    """
    names = (os.environ[variable],) if variable in os.environ else usual
    if not any(map(shutil.which, names)):
        raise PeercollabError(
            f"--compile needs a {language} compiler, and {' or '.join(names)} is not there: "
            f"install one, give its name without arguments in {variable}, or leave --compile out"
        )
