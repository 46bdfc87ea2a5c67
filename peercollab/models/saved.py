"""A model on disk: weights as safetensors, and one JSON file that says how to build it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from peercollab.disk import replacing
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRecOptions

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


def save_weights(state: Mapping[str, Tensor], folder: Path) -> None:
    """Put a model's state into the folder: whole, or not at all.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    with replacing(folder / WEIGHTS) as unfinished:
        save_tensors(state, unfinished)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors; what two of them share is written twice."""
    separate: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        # The format knows no sharing.
        separate[name] = tensor.clone() if tensor.data_ptr() in taken else tensor
        taken.add(tensor.data_ptr())
    # One key of metadata: the library writes several in random order.
    save_file(separate, path, metadata={"format": "pt"})


def save_description(n_items: int, options: SASRecOptions, folder: Path) -> None:
    """Write what is needed, besides the weights, to build the model again."""
    description = {"model": "sasrec", "items": n_items, "options": asdict(options)}
    with replacing(folder / DESCRIPTION) as unfinished:
        unfinished.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_model(folder: Path, device: torch.device) -> SequenceModel:
    """The saved model, ready to score.

    Raises
    ------
    PeercollabError
        A file is missing, damaged, or does not fit the other.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        model = build_model(description["items"], SASRecOptions(**description["options"]), seed=0)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except FileNotFoundError as error:
        raise PeercollabError(
            f"{error.filename or folder / WEIGHTS} is missing: give a run folder in which at least "
            "one round was completed"
        ) from error
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        SafetensorError,
        RuntimeError,
    ) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise PeercollabError(f"the model in {folder} is damaged: {first_line}") from error
    return model.to(device).eval()
