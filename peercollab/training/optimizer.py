"""Adam over a model: in one pass, and where few rows have a gradient over these alone."""

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MOMENTS = ("exp_avg", "exp_avg_sq")

Kind = TypeVar("Kind", bound=Optimizer)


def _uncompiled(kind: type[Kind]) -> type[Kind]:
    """The same optimizer, but that its methods do not load torch's compiler to keep it away.

    To load it takes a second and 80 MB in every peer. Their results are the same; only `step` has
    to be called without gradients.
    """
    methods = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
    own = {method: inspect.unwrap(getattr(kind, method)) for method in methods}
    return type(f"Uncompiled{kind.__name__}", (kind,), own)


_Dense, _Sparse = _uncompiled(torch.optim.Adam), _uncompiled(torch.optim.SparseAdam)


class Adam:
    """torch's fused Adam for dense gradients, and its SparseAdam for sparse ones.

    By Adam's definition every weight moves at every step, as its moments fade, whether it has a
    gradient or not: for a table of a million items that is a pass over gigabytes. SparseAdam
    moves the rows that have a gradient, and lets the others' moments stand still meanwhile.

    Parameters
    ----------
    model
        What is optimised.
    sparse
        Parameters whose gradients are sparse.
    learning_rate, weight_decay
        Of both; `weight_decay` counts for dense gradients alone.
    """

    def __init__(
        self,
        model: nn.Module,
        sparse: Iterable[Tensor],
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        rows = {id(parameter) for parameter in sparse}
        dense = [p for p in model.parameters() if id(p) not in rows]
        few = [p for p in model.parameters() if id(p) in rows]
        self._parts: list[Optimizer] = [
            _Dense(dense, lr=learning_rate, weight_decay=weight_decay, fused=True)
        ]
        if few:
            self._parts.append(_Sparse(few, lr=learning_rate))

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._parts[0].param_groups[0]["lr"])

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move the weights by their gradients."""
        with torch.no_grad():
            for part in self._parts:
                part.step()

    def moments(self, parameter: Tensor) -> tuple[Tensor, ...]:
        """Both moments of a parameter, in place; none before its first step."""
        state = self._state(parameter)
        return tuple(state[moment] for moment in MOMENTS) if state else ()

    def forget(self, parameter: Tensor, changed_T: Tensor) -> None:
        """Set a parameter's moments to 0 where `changed_T`, bool of its shape, says so.

        Where all of them go, the count of steps that corrects their bias begins anew, too. Adam
        has one count a tensor, so where some stay it goes on, and the entries begun anew take
        steps of up to three times the learning rate at first.
        """
        for moment_T in self.moments(parameter):
            moment_T.masked_fill_(changed_T, 0.0)
        if (state := self._state(parameter)) and changed_T.all():
            state["step"] = state["step"] * 0

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of each part."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from a state, whose tensors are taken over."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        return next((p.state[parameter] for p in self._parts if parameter in p.state), {})
