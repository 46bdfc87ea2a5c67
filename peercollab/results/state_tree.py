"""A tree of plain values and tensors as JSON and safetensors, and back."""

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from peercollab.errors import PeercollabError


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """The tree as JSON can hold it, and the tensors that it refers to by name.

    Dicts (of any plain keys), lists, tuples, tensors, strings, numbers, booleans and None are kept
    as what they are.

    Raises
    ------
    TypeError
        It holds something else.
    """
    tensors: dict[str, Tensor] = {}

    def shape_of(part: Any, place: str) -> Any:
        match part:
            case Tensor():
                tensors[place] = part.detach().cpu()
                return {"tensor": place}
            case dict():
                return {"dict": [[key, shape_of(of, f"{place}/{key}")] for key, of in part.items()]}
            case list() | tuple():
                members = [shape_of(of, f"{place}/{i}") for i, of in enumerate(part)]
                return {"tuple" if isinstance(part, tuple) else "list": members}
            case float() if not math.isfinite(part):
                return {"float": repr(part)}
            case str() | int() | float() | None:
                return part
        raise TypeError(f"{place} is a {type(part).__name__}, which a checkpoint cannot hold")

    return shape_of(tree, ""), tensors


def load_tree(shape: Path, tensors: Path) -> Any:
    """The tree whose two files these are.

    Raises
    ------
    PeercollabError
        A file is missing or damaged.
    """
    try:
        found = load_file(tensors)

        def tree_of(part: Any) -> Any:
            if not isinstance(part, dict):
                return part
            ((kind, of),) = part.items()
            match kind:
                case "tensor":
                    return found[of]
                case "dict":
                    return {key: tree_of(value) for key, value in of}
                case "list":
                    return [tree_of(value) for value in of]
                case "tuple":
                    return tuple(tree_of(value) for value in of)
                case "float":
                    return float(of)
            raise ValueError(f"{kind} is no kind of value")

        return tree_of(json.loads(shape.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise PeercollabError(
            f"{shape} or {tensors.name} is missing or damaged: {error}"
        ) from error
