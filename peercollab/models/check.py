"""Whether a network of the user's own is one that can be trained, ranked and mixed."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from peercollab.data.batches import Rows
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.own_model import OwnModelOptions

# Positions that are tried at most.
LONGEST = 1000

# How far states may be apart, as a share of the largest: those of a batch of another shape, which
# are rounded otherwise, and those for which nothing has changed.
RESHAPED = 1e-4
UNCHANGED = 1e-5

# What is added to biases; what is added to matrices leaves products about as large as their input.
BIAS_DEVIATION = 0.1


@torch.no_grad()
def require_sound(settings: OwnModelOptions, n_items: int) -> None:
    """Try a network on a small batch, of rows as long as it is given any.

    Raises
    ------
    PeercollabError
        It cannot be made or run, gives other shapes than it should, sees later items without being
        declared bidirectional, or is changed by the padding behind a row.
    """
    model = build_model(n_items, settings, seed=0).eval()
    where = settings.where
    size = _require_table(model, n_items, where)
    length = min(settings.max_length, LONGEST)
    generator = torch.Generator().manual_seed(0)
    items_BL = torch.randint(n_items, (2, length), generator=generator)
    short = max(1, length - 2)
    items_BL[1, short:] = 0
    rows = Rows(items_BL, torch.tensor([length, short]))
    before_BLD = _hidden(model, rows, size, where)
    if settings.is_causal:
        _require_causal(model, rows, where)
    alone = Rows(items_BL[1:, :short], rows.lengths_B[1:])
    if not _same(before_BLD[1, :short], _hidden(model, alone, size, where)[0], RESHAPED):
        raise PeercollabError(
            f"{where} gives a row other states beside a longer one: positions from its length on "
            "are padding, and must not change the others"
        )
    if settings.has_loss:
        hidden_ND = before_BLD.flatten(0, 1)
        targets_N = items_BL.flatten()
        loss = _tried(lambda: model.own_loss(hidden_ND, targets_N), where, "loss(hidden, targets)")
        if not (isinstance(loss, Tensor) and loss.shape == () and loss.isfinite()):
            raise PeercollabError(f"{where}: loss must return one finite number, and gave {loss!r}")
    with torch.random.fork_rng(devices=[]):
        _hidden(model.train(), rows, size, where)
    model.eval()
    if settings.is_causal:
        # Weights that begin at 0, or small, hide what training makes of them.
        _add_noise(model)
        _require_causal(model, rows, where)


def _require_causal(model: SequenceModel, rows: Rows, where: str) -> None:
    """Refuse a model if another last item in the first row changes earlier positions."""
    items_BL = rows.items_BL.clone()
    items_BL[0, -1] = (items_BL[0, -1] + 1) % len(model.item_table()[0])
    before_BLD, after_BLD = model(rows), model(Rows(items_BL, rows.lengths_B))
    before_LD, after_LD = before_BLD[0, :-1], after_BLD[0, :-1]
    # With noise they may be infinite, which says nothing.
    if before_LD.isfinite().all() and not _same(before_LD, after_LD, UNCHANGED):
        raise PeercollabError(
            f"{where} sees the future: the state of a position changes with a later item, which it "
            "is to tell. Make it causal, or declare `bidirectional = True` in the class, and it "
            "learns from the last item of each window alone"
        )


def _add_noise(model: SequenceModel) -> None:
    generator = torch.Generator().manual_seed(0)
    for weight_T in model.parameters():
        if weight_T.requires_grad and weight_T.numel():
            noise_T = torch.randn(weight_T.shape, generator=generator).to(weight_T.dtype)
            inputs = weight_T[0].numel() if weight_T.ndim > 1 else 0
            weight_T.add_(noise_T, alpha=inputs**-0.5 if inputs else BIAS_DEVIATION)


def _require_table(model: SequenceModel, n_items: int, where: str) -> int:
    """The hidden size, from an item table of the right shape."""
    table = _tried(model.item_table, where, "item_table()")
    table_VD, bias_V = table if len(table) == 2 else (None, None)
    if not isinstance(table_VD, Tensor) or table_VD.ndim != 2 or len(table_VD) != n_items:
        shape = tuple(table_VD.shape) if isinstance(table_VD, Tensor) else type(table_VD).__name__
        raise PeercollabError(
            f"{where}: item_table() must return the items' vectors [{n_items:,} items, hidden "
            f"size], or these and a bias [{n_items:,} items], and gave {shape}"
        )
    if bias_V is not None and (not isinstance(bias_V, Tensor) or bias_V.shape != (n_items,)):
        shape = tuple(bias_V.shape) if isinstance(bias_V, Tensor) else type(bias_V).__name__
        raise PeercollabError(
            f"{where}: the bias of item_table() must have the shape [{n_items:,} items], and has "
            f"{shape}"
        )
    return table_VD.shape[1]


def _hidden(model: SequenceModel, rows: Rows, size: int, where: str) -> Tensor:
    expected = (*rows.items_BL.shape, size)
    hidden_BLD = _tried(lambda: model(rows), where, "forward(items, lengths)")
    if not isinstance(hidden_BLD, Tensor) or hidden_BLD.shape != expected:
        shape = (
            tuple(hidden_BLD.shape) if isinstance(hidden_BLD, Tensor) else type(hidden_BLD).__name__
        )
        raise PeercollabError(
            f"{where}: forward must return hidden states [rows, positions, hidden size], here "
            f"{expected} to go with the item table, and gave {shape}"
        )
    if not hidden_BLD.isfinite().all():
        raise PeercollabError(f"{where}: forward gave NaN or infinite values")
    return hidden_BLD


def _tried(call: Callable[[], Any], where: str, what: str) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:
        said = (str(error).splitlines() or [""])[0]
        raise PeercollabError(
            f"{where}: {what} failed on a batch that was tried: {type(error).__name__}: {said}"
        ) from error


def _same(one_T: Tensor, other_T: Tensor, tolerance: float) -> bool:
    if not one_T.numel():
        return True
    return bool((one_T - other_T).abs().max() <= tolerance * one_T.abs().max())
