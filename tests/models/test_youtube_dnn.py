"""YouTubeDNN against loops written from the paper, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peercollab.models.youtube_dnn import YouTubeDNNOptions
from tests.models.common import (
    LENGTH,
    State,
    any_weights,
    linear,
    rows_of,
    some_histories,
    state_of,
)

OPTIONS = YouTubeDNNOptions(hidden_size=6, dropout=0.0, max_length=LENGTH)


def reference_hidden(state: State, history: list[int | None], blocks: int) -> np.ndarray:
    """Hidden states of one history, item by item; None is an item that is hidden."""
    made: list[np.ndarray | None] = []
    for item in history:
        if item is None:
            made.append(None)
            continue
        x = state["item_embedding.weight"][item]
        for number in range(blocks):
            x = np.maximum(linear(state, f"layers.{number}", x), 0)
        made.append(x)
    states = []
    for at in range(len(history)):
        seen = [x for x in made[: at + 1] if x is not None]
        states.append(np.mean(seen, axis=0) if seen else np.zeros(OPTIONS.hidden_size))
    return np.stack(states)


@pytest.mark.parametrize("blocks", [1, 2])
def test_hidden_states_equal_the_loop_written_reference(blocks: int) -> None:
    model = any_weights(replace(OPTIONS, blocks=blocks))
    histories = some_histories(1, 4, LENGTH, 2)
    with torch.no_grad():
        hidden = model(rows_of(*histories)).numpy()
    for row, history in enumerate(histories):
        expected = reference_hidden(state_of(model), [*history], blocks)
        np.testing.assert_allclose(hidden[row, : len(history)], expected, rtol=1e-9, atol=1e-12)


def test_hidden_items_do_not_count() -> None:
    model = any_weights(OPTIONS)
    (history,) = some_histories(5)
    hides = [True, False, True, False, False]
    rows = replace(rows_of(history), hidden_BL=torch.tensor([hides]))
    with torch.no_grad():
        hidden = model(rows)[0].numpy()
    seen = [None if hide else item for item, hide in zip(history, hides, strict=True)]
    expected = reference_hidden(state_of(model), seen, 1)
    np.testing.assert_allclose(hidden, expected, rtol=1e-9, atol=1e-12)
