"""Networks of the user's own: a class in a file, or one that Python has.

The text of a file travels to the peers, which need not see it. What such a network must offer
stands in docs/bring-your-model.md.
"""

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from peercollab.command_line import flag
from peercollab.data.batches import Rows
from peercollab.errors import PeercollabError
from peercollab.models.build import FEW_ITEMS
from peercollab.models.model import LossName, ModelSettings, SequenceModel
from peercollab.own_code import load, read_source

OWN_MODEL = "path/to/file.py:Name"

DEFAULT_LENGTH = 100

MakeNetwork = Callable[..., nn.Module]


@dataclass(frozen=True)
class OwnModelOptions(ModelSettings):
    """A network of the user's own, made with what it takes of the options.

    Attributes
    ----------
    class_name
        What it is called.
    path, source
        The file that has it, and the file's text; empty where `make_network` is given.
    make_network
        A class, or any function of the number of items that gives a network.
    arguments
        What the network is made with, besides the number of items.
    max_length
        Latest items of a history that it is given.
    bidirectional, has_loss
        What it says of itself: that a position's state depends on later ones; that it has a loss.
    """

    name: ClassVar[str] = OWN_MODEL
    title: ClassVar[str] = "a network of your own"
    reference: ClassVar[str] = "yours"
    can_mask: ClassVar[bool] = False

    class_name: str
    path: str = ""
    source: str = ""
    make_network: MakeNetwork | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    max_length: int = DEFAULT_LENGTH
    bidirectional: bool = False
    has_loss: bool = False

    @classmethod
    def from_file(cls, told: str, given: Mapping[str, Any]) -> Self:
        """The network that ``path/to/file.py:Name`` stands for, with what it takes of the options.

        Raises
        ------
        PeercollabError
            The file cannot be read or run, or has no such class; it does not take an option, or
            is no network that can be trained.
        """
        path, name, source = read_source("--model", told)
        return cls(name, path, source)._taking(given)

    @classmethod
    def from_object(cls, made: MakeNetwork | nn.Module, given: Mapping[str, Any]) -> Self:
        """The same of a class or function; of a network, all peers begin as copies of it.

        Raises
        ------
        PeercollabError
            It does not take an option, or is no network that can be trained.
        """
        name = getattr(made, "__name__", type(made).__name__)
        make = _Copies(made) if isinstance(made, nn.Module) else made
        return cls(name, make_network=make)._taking(given)

    @property
    def where(self) -> str:
        return f"--model {self.path}:{self.class_name}" if self.path else f"model {self.class_name}"

    @property
    def is_causal(self) -> bool:
        return not self.bidirectional

    @property
    def loss(self) -> LossName:  # type: ignore[override]
        return "model" if self.has_loss else "full"

    @property
    def dropout_share(self) -> float | None:
        share = self.arguments.get("dropout")
        return None if share is None else float(share)

    def with_dropout(self, share: float) -> Self:
        return replace(self, arguments={**self.arguments, "dropout": share})

    def make(self, n_items: int, n_users: int) -> "OwnModel":
        return OwnModel(self._network(n_items), self.max_length)

    def _network(self, n_items: int) -> nn.Module:
        try:
            network = self._maker(n_items, **self.arguments)
        except (Exception, SystemExit) as error:
            raise PeercollabError(
                f"{self.where} could not be made for {n_items:,} items: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(network, nn.Module):
            raise PeercollabError(
                f"{self.where} makes {type(network).__name__}: it must make a torch.nn.Module"
            )
        if not callable(getattr(network, "item_table", None)):
            raise PeercollabError(
                f"{self.where} has no item table: give it a method item_table() that returns the "
                "items' vectors [items, hidden size], and a bias [items] where there is one"
            )
        return network

    @property
    def _maker(self) -> MakeNetwork:
        if self.make_network is not None:
            return self.make_network
        return load("--model", self.path, self.class_name, self.source)

    def _taking(self, given: Mapping[str, Any]) -> Self:
        """The same made with options, and with what it then says of itself."""
        parameters = dict(inspect.signature(self._maker).parameters)
        for name in given:
            if name != "max_length" and name not in parameters:
                raise PeercollabError(
                    f"{flag(name)} has no effect with {self.where}: leave it out, or let the "
                    f"network take {name}"
                )
        arguments = {name: value for name, value in given.items() if name in parameters}
        dropout = parameters.get("dropout")
        if dropout is not None and isinstance(dropout.default, int | float):
            # Peers may each have their own.
            arguments = {"dropout": dropout.default, **arguments}
        own = replace(self, arguments=arguments)
        with torch.random.fork_rng(devices=[]):
            network = own._network(FEW_ITEMS)
        own = replace(
            own,
            max_length=_length(given, network, parameters),
            bidirectional=bool(getattr(network, "bidirectional", False)),
            has_loss=callable(getattr(network, "loss", None)),
        )
        own.require_positive("max_length")
        own.require_dropout()
        return own


def _length(
    given: Mapping[str, Any], network: nn.Module, parameters: Mapping[str, inspect.Parameter]
) -> int:
    """The latest items that it is given: as asked for, as it says itself, or as it is made."""
    by_itself = getattr(network, "max_length", None)
    made_with = parameters["max_length"].default if "max_length" in parameters else None
    told = (given.get("max_length"), by_itself, made_with)
    return next((length for length in told if isinstance(length, int)), DEFAULT_LENGTH)


class OwnModel(SequenceModel):
    """A network of the user's own as training, ranking and transplant ask for it."""

    # Its table may be part of a parameter, made of several, or read by the network as well.
    has_sparse_table = False

    def __init__(self, network: nn.Module, max_length: int) -> None:
        super().__init__()
        self.network = network
        self.max_length = max_length
        scopes = getattr(network, "layer_scopes", {})
        own = dict(network.named_modules())
        self.layer_scopes = {_inside(name, own): scope for name, scope in scopes.items()}
        shared = getattr(network, "shared_layers", ())
        self.shared_layers = tuple(_inside(name, own) for name in shared)

    def forward(self, rows: Rows) -> Tensor:
        """What the network makes of item numbers and lengths."""
        items_BL = rows.items_BL
        hidden_BLD: Tensor = self.network(items_BL, rows.lengths_B)
        return hidden_BLD

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        """As the network says it."""
        table = self.network.item_table()  # type: ignore[operator]
        return (table, None) if isinstance(table, Tensor) else tuple(table)

    def own_loss(self, hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        """As the network says it."""
        loss: Tensor = self.network.loss(hidden_ND, targets_N)  # type: ignore[operator]
        return loss


def _inside(name: str, own: Collection[str]) -> str:
    """A module's name in the model, which messages have; it may be said so, or as the network's.

    The network itself, the layer of parameters in none of its modules, is ``""`` or ``network``.
    """
    return f"network.{name}".rstrip(".") if name in own else name


@dataclass(frozen=True)
class _Copies:
    """Makes copies of a network that is there."""

    network: nn.Module

    def __call__(self, n_items: int) -> nn.Module:
        return copy.deepcopy(self.network)
