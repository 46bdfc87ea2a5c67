"""The layers of a model: what transplants read, plan and move."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

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

# Types of weights that numpy, which peers exchange them by, knows, and that mixing does not round.
MIXED = (torch.float32, torch.float64)

# The layer of parameters that are the model's own, in none of its modules.
OWN_PARAMETERS = "(model)"


def layer_map(model: nn.Module) -> LayerMap:
    """Every layer of a model by name, in the model's order.

    By themselves embeddings are in the scope ``embedding``, the module that holds the item table
    in ``final``, and all others in ``middle``; of a network that is no recommender the last layer
    is in ``final``. A model may say otherwise. A tensor that two modules share on purpose belongs
    to the first of them, so it is mixed once.

    Raises
    ------
    PeercollabError
        Modules share a tensor and the model does not say so, a layer has a weight that is neither
        float32 nor float64, or the model speaks of a layer or a scope that there is not.
    """
    taken: dict[int, str] = {}
    state = model.state_dict()
    stated: Mapping[str, Scope] = getattr(model, "layer_scopes", {})
    output = _output(model)
    layers: dict[str, Layer] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        parameters = dict(module.named_parameters(recurse=False))
        for key, value in list(parameters.items()):
            if value.dtype not in MIXED:
                remedy = (
                    "keep it in float32, and have --precision bf16 round in training"
                    if value.is_floating_point()
                    else "make it a buffer"
                )
                raise PeercollabError(
                    f"layer {name or OWN_PARAMETERS}: {key} is of {value.dtype}, and weights are "
                    f"mixed in float32 or float64: {remedy}"
                )
            if id(value) in taken:
                _require_stated(model, prefix + key, name, taken[id(value)])
                del parameters[key]
        # Statistics without weights of their own are a layer, too: they go with those around them.
        if not parameters and not isinstance(module, _NormBase):
            continue
        taken |= {id(value): prefix + key for key, value in parameters.items()}
        buffers = {
            key: value
            for key, value in module.named_buffers(recurse=False)
            if value.is_floating_point() and prefix + key in state
        }
        # Python's sort is stable: the weight first, the rest as the module has them.
        if not parameters and not buffers:
            continue
        tensors = sorted((parameters | buffers).items(), key=lambda item: item[0] != "weight")
        name = name or OWN_PARAMETERS
        layers[name] = Layer(
            name,
            stated.get(name) or _scope(module, parameters, output),
            {prefix + key: tuple(value.shape) for key, value in tensors},
            frozenset(prefix + key for key in buffers),
        )
    _require_known(stated, layers)
    return layers


def _output(model: nn.Module) -> Tensor | None:
    """A tensor of the layer that gives the model's output; None if it has no parameters."""
    if isinstance(model, SequenceModel):
        return model.item_table()[0]
    return next(reversed(list(model.parameters())), None)


def _scope(module: nn.Module, parameters: Mapping[str, Tensor], output: Tensor | None) -> Scope:
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return "embedding"
    return "final" if any(value is output for value in parameters.values()) else "middle"


def _require_stated(model: nn.Module, tensor: str, layer: str, first: str) -> None:
    if layer not in getattr(model, "shared_layers", ()):
        raise PeercollabError(
            f"{tensor} is {first}, too: if it is meant to be, name {layer!r} in shared_layers of "
            "the model, and it is mixed once; otherwise give each layer a tensor of its own"
        )


def _require_known(stated: Mapping[str, Scope], layers: LayerMap) -> None:
    for name, scope in stated.items():
        if name not in layers:
            raise PeercollabError(
                f"layer_scopes of the model names {name}, which is no layer: it has "
                f"{', '.join(layers)}"
            )
        if scope not in get_args(Scope):
            raise PeercollabError(
                f"layer_scopes of the model puts {name} into {scope!r}: take one of "
                f"{', '.join(get_args(Scope))}"
            )


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


def layer_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a model by name, detached: writing to one changes the model."""
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items()}
