"""A rule from a file of the user's own."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from peercollab.errors import PeercollabError
from peercollab.own_code import load, read_source
from peercollab.transplant.rules.layer_wise import LayerWise
from peercollab.transplant.rules.rule import Bundle

Mix = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True, kw_only=True)
class OwnRule(LayerWise):
    """A function of your own: ``W_new = name(W, V, alpha)``, tensor by tensor.

    W is the receiver's tensor, V the donor's, and alpha the share that layer-wise would keep, which
    the function may use or leave. How to write one stands in docs/write-a-rule.md.

    Attributes
    ----------
    path, function
        The file, and the name in it.
    source
        The file's text: it travels to the peers, which need not see the file.
    """

    name = "path/to/file.py:name"
    reference = "yours"
    moments_travel = False
    measured = True

    path: str = ""
    function: str = ""
    source: str = ""

    def keep(self, own: float, donor: float) -> float:
        # Never quite 1: the function is to be asked about every layer, also where layer-wise would
        # take nothing.
        return min(super().keep(own, donor), 1 - 2**-20)

    @classmethod
    def from_file(cls, rule: str, **options: Any) -> "OwnRule":
        """The rule that ``path/to/file.py:name`` stands for, with the options of layer-wise.

        Raises
        ------
        PeercollabError
            The file cannot be read or run, or has no such function of three arguments.
        """
        path, function, source = read_source("--rule", rule)
        own = cls(path=path, function=function, source=source, **options)
        own.require_callable()
        return own

    def require_callable(self) -> None:
        """Refuse what is no function of receiver's tensor, donor's tensor and share."""
        function = self._function
        try:
            inspect.signature(function).bind(None, None, None)
        except ValueError:
            return  # A builtin, such as torch.lerp, that does not tell what it takes.
        except TypeError as error:
            raise PeercollabError(
                f"{self._where}: it must take the receiver's tensor, the donor's tensor and a "
                f"share: {error}"
            ) from error

    def mix(self, name: str, own: Bundle, donor: Bundle, keep: float) -> Bundle:
        """Ask the function.

        Raises
        ------
        PeercollabError
            It failed, or gave another shape or type, or values that are not finite.
        """
        # It gets copies: what it writes to its arguments must not reach a donor's snapshot.
        own_T, donor_T = own[0].clone(), donor[0].clone()
        try:
            new_T = self._function(own_T, donor_T, keep)
        except (Exception, SystemExit) as error:
            raise PeercollabError(
                f"{self._where} failed on {name}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(new_T, Tensor):
            raise PeercollabError(
                f"{self._where} gave {type(new_T).__name__} for {name}: return a tensor"
            )
        if new_T.shape != own_T.shape:
            raise PeercollabError(
                f"{self._where} gave shape {tuple(new_T.shape)} for {name}, which has "
                f"{tuple(own_T.shape)}: return the receiver's shape"
            )
        if new_T.dtype != own_T.dtype:
            raise PeercollabError(
                f"{self._where} gave {new_T.dtype} for {name}, which has {own_T.dtype}: return the "
                "receiver's type"
            )
        if not torch.isfinite(new_T).all():
            raise PeercollabError(f"{self._where} gave NaN or infinite values for {name}")
        return (new_T,)

    @property
    def _function(self) -> Mix:
        return load("--rule", self.path, self.function, self.source)

    @property
    def _where(self) -> str:
        return f"--rule {self.path}:{self.function}"
