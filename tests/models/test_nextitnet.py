"""NextItNet against loops written from the paper, in float64."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.nextitnet import NextItNetOptions
from tests.models.common import (
    LENGTH,
    State,
    any_weights,
    layer_norm,
    linear,
    rows_of,
    some_histories,
    state_of,
)

OPTIONS = NextItNetOptions(hidden_size=6, dilations=(1, 3), dropout=0.0, max_length=LENGTH)
NORM_EPS = 1e-8


def convolved(state: State, name: str, x: list[np.ndarray], dilation: int) -> list[np.ndarray]:
    """A causal convolution, a position, an output and an offset at a time; zeros before it all."""
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    kernel = weight.shape[2]
    out = []
    for at in range(len(x)):
        y = bias.copy()
        for tap in range(kernel):
            # The last tap is the own position.
            before = at - (kernel - 1 - tap) * dilation
            if before >= 0:
                y += weight[:, :, tap] @ x[before]
        out.append(y)
    return out


def reference_hidden(state: State, history: list[int], options: NextItNetOptions) -> np.ndarray:
    """Hidden states of one history, from section 3 of the paper, in numpy's float64."""

    def norm(name: str, x: list[np.ndarray]) -> list[np.ndarray]:
        return [layer_norm(state, name, x_i, NORM_EPS) for x_i in x]

    def relu(x: list[np.ndarray]) -> list[np.ndarray]:
        return [np.maximum(x_i, 0) for x_i in x]

    x = [state["item_embedding.weight"][item] for item in history]
    for number, dilation in enumerate(options.dilations):
        at = f"blocks.{number}"
        if options.residual == "plain":
            y = relu(norm(f"{at}.first_norm", convolved(state, f"{at}.first", x, dilation)))
            y = convolved(state, f"{at}.second", y, 2 * dilation)
            y = relu(norm(f"{at}.second_norm", y))
        else:
            y = [linear(state, f"{at}.narrow", y_i) for y_i in relu(norm(f"{at}.narrow_norm", x))]
            y = convolved(state, f"{at}.dilated", relu(norm(f"{at}.dilated_norm", y)), dilation)
            y = [linear(state, f"{at}.widen", y_i) for y_i in relu(norm(f"{at}.widen_norm", y))]
        x = [x_i + y_i for x_i, y_i in zip(x, y, strict=True)]
    return np.stack(x)


@pytest.mark.parametrize("residual", ["plain", "bottleneck"])
@pytest.mark.parametrize("dilations", [(1,), (1, 3), (2, 1, 4)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_hidden_states_equal_the_loop_written_reference(
    residual: Any, dilations: tuple[int, ...], kernel_size: int
) -> None:
    options = replace(OPTIONS, residual=residual, dilations=dilations, kernel_size=kernel_size)
    model = any_weights(options, seed=kernel_size)
    histories = some_histories(1, 4, LENGTH, 2)
    with torch.no_grad():
        hidden = model(rows_of(*histories)).numpy()
    for row, history in enumerate(histories):
        np.testing.assert_allclose(
            hidden[row, : len(history)],
            reference_hidden(state_of(model), history, options),
            rtol=1e-9,
            atol=1e-12,
        )


def test_weights_begin_as_published() -> None:
    state = build_model(400, replace(OPTIONS, hidden_size=50), seed=1).state_dict()
    table = state["item_embedding.weight"]
    bound = 1 / 400**0.5
    assert 0.95 * bound < table.abs().max() <= bound
    assert abs(table.std().item() / (bound / 3**0.5) - 1) < 0.02
    assert abs(state["output.weight"].std().item() / 0.01 - 1) < 0.02
    assert state["output.bias"].eq(0.1).all()
    assert state["blocks.0.first_norm.weight"].eq(1).all()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"dilations": ()}, "--dilations is empty"),
        ({"dilations": (1, 0)}, "--dilations is 1 0"),
        ({"kernel_size": 0}, "--kernel-size is 0"),
        ({"residual": "bottleneck", "hidden_size": 7}, "--hidden-size is 7"),
    ],
)
def test_options_out_of_range_are_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(PeercollabError) as caught:
        NextItNetOptions(**given)
    assert str(caught.value).startswith(named)


def test_by_default_it_is_the_network_that_was_published() -> None:
    options = NextItNetOptions()
    assert (options.hidden_size, options.kernel_size, options.residual) == (100, 3, "plain")
    assert options.dilations == (1, 2, 1, 2, 1, 2)


@pytest.mark.parametrize("place", ["embeddings", "end"])
def test_dropout_acts_on_embeddings_and_at_the_end(place: str) -> None:
    options = replace(OPTIONS, dropout=0.5, dilations=(1,))
    model = any_weights(options).train()
    state = model.state_dict()
    for name in ("second_norm.weight", "second_norm.bias"):
        # What the block adds: nothing, or the same for whatever comes in.
        state[f"blocks.0.{name}"].fill_(0.0)
    if place == "end":
        state["item_embedding.weight"].zero_()
        state["blocks.0.second_norm.bias"].fill_(1.0)
    rows = rows_of(*some_histories(LENGTH))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        dropped = model(rows) == 0
    # Dropped twice, three quarters are gone; at the end alone a half.
    share = 0.5 if place == "end" else 0.75
    assert abs(float(dropped.double().mean()) - share) < 0.12
