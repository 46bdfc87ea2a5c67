"""torch.compile, with what it needs looked for before training begins."""

import os
import shutil
from typing import Any

import torch
from torch import nn

from peercollab.errors import PeercollabError


def compiled(model: nn.Module, device: torch.device) -> Any:
    """The model's forward pass, compiled at its first call, once for all sizes of batches.

    Raises
    ------
    PeercollabError
        A CPU is to run it, and there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise PeercollabError(
            f"--compile needs a C++ compiler, and {compiler} is not there: install one, name it in "
            "CXX, or leave --compile out"
        )
    return torch.compile(model, dynamic=True)
