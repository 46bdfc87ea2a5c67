"""The layers of a model: what transplants read, plan and move."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from peercollab.errors import PeercollabError
from peercollab.models.model import Scope, SequenceModel

LayerChoice = Literal["all", "embedding", "middle", "final"]


@dataclass(frozen=True)
class Layer:
    """One module's own parameters.

    Attributes
    ----------
    name
        The module's name in the model.
    scope
        The part of the network it belongs to.
    tensors
        Shapes of its tensors by their name in the model's state, the weight first: criteria
        measure the weight, and bias and statistics buffers follow it.
    buffers
        Which of these are statistics, not parameters.
    """

    name: str
    scope: Scope
    tensors: Mapping[str, tuple[int, ...]]
    buffers: frozenset[str] = frozenset()

    @property
    def weight(self) -> str:
        return next(iter(self.tensors))


LayerMap = Mapping[str, Layer]

# The layer of parameters that are the model's own, in none of its modules.
OWN_PARAMETERS = "(model)"


def layer_map(model: SequenceModel) -> LayerMap:
    """Every layer of a model by name, in the model's order.

    A tensor that two modules share belongs to the first of them, so it is mixed once.
    """
    taken: set[int] = set()
    state = model.state_dict()
    layers: dict[str, Layer] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        parameters = {
            key: value
            for key, value in module.named_parameters(recurse=False)
            if id(value) not in taken
        }
        if not parameters:
            continue
        taken.update(id(value) for value in parameters.values())
        buffers = {
            key: value
            for key, value in module.named_buffers(recurse=False)
            if value.is_floating_point() and prefix + key in state
        }
        # Python's sort is stable: the weight first, the rest as the module has them.
        tensors = sorted((parameters | buffers).items(), key=lambda item: item[0] != "weight")
        name = name or OWN_PARAMETERS
        layers[name] = Layer(
            name,
            model.layer_scopes.get(name, "middle"),
            {prefix + key: tuple(value.shape) for key, value in tensors},
            frozenset(prefix + key for key in buffers),
        )
    return layers


def choose_layers(layers: LayerMap, choice: LayerChoice) -> LayerMap:
    """The layers of one scope, or all of them.

    Raises
    ------
    PeercollabError
        The model has no layer in that scope.
    """
    chosen = {name: layer for name, layer in layers.items() if choice in ("all", layer.scope)}
    if not chosen:
        raise PeercollabError(
            f"--layers {choice} names no layer: this model has none in that scope "
            "(a tied output belongs to the embedding)"
        )
    return chosen


def layer_tensors(model: SequenceModel) -> dict[str, Tensor]:
    """Parameters and buffers of a model by name, detached: writing to one changes the model."""
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items()}
