"""A model on disk: weights as safetensors, and one JSON file that says how to build it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from peercollab.disk import replacing
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings, SequenceModel
from peercollab.models.options import MODELS
from peercollab.models.own_model import OwnModelOptions

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


def save_description(n_items: int, settings: ModelSettings, folder: Path, n_users: int = 0) -> None:
    """Write what is needed, besides the weights, to build the model again.

    Of a network of the user's own that is its name: its code is not run unless the user names it.
    """
    description: dict[str, Any] = {"items": n_items, "users": n_users}
    if isinstance(settings, OwnModelOptions):
        description["own"] = settings.class_name
    else:
        description |= {"model": settings.name, "options": asdict(settings)}
    with replacing(folder / DESCRIPTION) as unfinished:
        unfinished.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def load_model(
    folder: Path, device: torch.device, settings: ModelSettings | None = None
) -> SequenceModel:
    """The saved model, ready to score.

    Parameters
    ----------
    folder
        Where it lies.
    device
        Where it is to be.
    settings
        Of a network of the user's own, what it is; other models say it themselves, and these are
        not looked at.

    Raises
    ------
    PeercollabError
        A file is missing, damaged, or does not fit the other; or it is a network of somebody's
        own, and `settings` do not say which.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if not isinstance(settings, OwnModelOptions):
            settings = _settings(description, folder)
        model = build_model(description["items"], settings, 0, description.get("users", 0))
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
        if isinstance(error, RuntimeError) and isinstance(settings, OwnModelOptions):
            raise PeercollabError(
                f"the model in {folder} does not fit {settings.where}: give the network, and the "
                "text, that it was trained with"
            ) from error
        raise PeercollabError(f"the model in {folder} is damaged: {first_line}") from error
    return model.to(device).eval()


def is_own_in(folder: Path) -> bool:
    """Whether the model of a folder is a network of the user's own."""
    try:
        return "own" in json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return False


def _settings(description: Mapping[str, Any], folder: Path) -> ModelSettings:
    if "own" in description:
        raise PeercollabError(
            f"the model in {folder} is {description['own']}, a network from a file, whose code "
            f"would be executed: give --model path/to/file.py:{description['own']} if it is yours"
        )
    kind = MODELS[description.get("model", "sasrec")]
    options = description["options"]
    return kind(**{n: tuple(v) if isinstance(v, list) else v for n, v in options.items()})
