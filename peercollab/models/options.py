"""Which model a run trains: the options, and the settings they describe."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from typing import Annotated, Any, Literal

import tyro
from torch import nn

from peercollab.command_line import did_you_mean, require_owned, unless_given
from peercollab.errors import PeercollabError
from peercollab.models.bpr_mf import BPRMFOptions
from peercollab.models.model import ModelSettings
from peercollab.models.nextitnet import NextItNetOptions
from peercollab.models.own_model import OWN_MODEL, MakeNetwork, OwnModelOptions
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.youtube_dnn import YouTubeDNNOptions
from peercollab.own_code import is_own

MODELS: Mapping[str, type[ModelSettings]] = {
    model.name: model
    for model in (SASRecOptions, NextItNetOptions, YouTubeDNNOptions, BPRMFOptions)
}
NAMES = (*MODELS, OWN_MODEL)


def _default(option: str) -> str:
    """What an option is unless it is given, in every model that has it."""
    models: dict[str, list[str]] = {}
    for name, kind in MODELS.items():
        if option in (defaults := options_of(kind)):
            models.setdefault(_word(defaults[option]), []).append(name)
    if len(models) == 1:
        return next(iter(models))
    return ", ".join(f"{value} for {' and '.join(names)}" for value, names in models.items())


def options_of(kind: type[ModelSettings]) -> dict[str, Any]:
    """A model's options with their defaults."""
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


def _word(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


@dataclass(frozen=True)
class ModelOptions:
    """The network. An option that the model does not have is refused, not ignored."""

    model: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(NAMES) + "}")] = "sasrec"
    """What peers are; a network of your own is a class in a file (docs/bring-your-model.md)."""
    hidden_size: Annotated[int | None, unless_given(_default("hidden_size"))] = None
    """Size of an item's vector and of every hidden state."""
    blocks: Annotated[int | None, unless_given(_default("blocks"))] = None
    """Of sasrec: blocks of self-attention and feed-forward; of youtube-dnn: layers on each item."""
    heads: Annotated[int | None, unless_given(_default("heads"))] = None
    """Of sasrec: attention heads; must divide the hidden size."""
    dropout: Annotated[float | None, unless_given(_default("dropout"))] = None
    """Share of activations dropped while training, from 0 up to, not including, 1."""
    max_length: Annotated[int | None, unless_given(_default("max_length"))] = None
    """Latest items of a history that the model looks at."""
    norm: Annotated[Literal["after", "before"] | None, unless_given(_default("norm"))] = None
    """Of sasrec: normalise what each part of a block and its input add up to, or what goes into the
    part."""
    final_norm: Annotated[bool | None, unless_given("off")] = None
    """Of sasrec: normalise the hidden states behind the last block."""
    projection: Annotated[bool | None, unless_given("off")] = None
    """Of sasrec: let a linear layer mix the heads of attention."""
    activation: Annotated[Literal["relu", "gelu"] | None, unless_given(_default("activation"))] = (
        None
    )
    """Of sasrec: of the feed-forward network."""
    tied: Annotated[bool | None, unless_given("off")] = None
    """Of sasrec: score items with the vectors that histories are read with, without an output
    layer."""
    residual: Annotated[
        Literal["plain", "bottleneck"] | None, unless_given(_default("residual"))
    ] = None
    """Of nextitnet: blocks of two dilated convolutions, or of one at half the hidden size."""
    dilations: Annotated[tuple[int, ...] | None, unless_given(_default("dilations"))] = None
    """Of nextitnet: the dilation of each block."""
    kernel_size: Annotated[int | None, unless_given(_default("kernel_size"))] = None
    """Of nextitnet: positions that a convolution sees."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> ModelSettings:
        """The options with the model's defaults filled in, the same object at every call.

        A model in a file of the user's is read once, when the options are made.

        Raises
        ------
        PeercollabError
            An option is out of range, or the model does not have it.
        """
        return self._built

    def given(self) -> dict[str, Any]:
        """The options that are not left to the model."""
        return {
            field.name: value
            for field in fields(ModelOptions)
            if field.name != "model" and (value := getattr(self, field.name)) is not None
        }

    @cached_property
    def _built(self) -> ModelSettings:
        given = self.given()
        if is_own(self.model):
            return OwnModelOptions.from_file(self.model, given)
        kind = MODELS.get(self.model)
        if kind is None:
            raise PeercollabError(
                f"--model is {self.model!r}: take one of {', '.join(NAMES)}"
                f"{did_you_mean(self.model, list(MODELS))}"
            )
        owned = {name: options_of(of) for name, of in MODELS.items()}
        require_owned(given, "--model", self.model, owned)
        return kind(**given)


class GivenModel(ModelOptions):
    """A network that Python has, in place of one with a name.

    Parameters
    ----------
    network
        A class, a function of the number of items, or a network, of which all peers are copies.
    options
        Those of `ModelOptions` that it takes.
    """

    def __init__(self, network: MakeNetwork | nn.Module, **options: Any) -> None:
        object.__setattr__(self, "_network", network)
        name = getattr(network, "__name__", type(network).__name__)
        super().__init__(model=name, **options)

    @cached_property
    def _built(self) -> ModelSettings:
        network: MakeNetwork | nn.Module = self.__dict__["_network"]
        return OwnModelOptions.from_object(network, self.given())
