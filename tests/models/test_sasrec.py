"""SASRec against loops written from the paper, in float64."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.data.batches import training_batch
from peercollab.data.split import Spans
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRecOptions
from peercollab.training.loss import full_cross_entropy
from tests.models.common import (
    ITEMS,
    LENGTH,
    State,
    any_weights,
    layer_norm,
    linear,
    rows_of,
    some_histories,
    state_of,
)

OPTIONS = SASRecOptions(hidden_size=6, blocks=2, heads=2, dropout=0.0, max_length=LENGTH)
LAYER_NORM_EPS = 1e-5

# Each form by itself, and all of them together.
FORMS: dict[str, dict[str, Any]] = {
    "published": {},
    "norms before": {"norm": "before"},
    "final norm": {"final_norm": True},
    "projection": {"projection": True},
    "gelu": {"activation": "gelu"},
    "tied": {"tied": True},
    "all": {
        "norm": "before",
        "final_norm": True,
        "projection": True,
        "activation": "gelu",
        "tied": True,
    },
}
in_every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def reference_hidden(state: State, history: list[int], options: SASRecOptions) -> np.ndarray:
    """Hidden states of one history, a position and a head at a time, in numpy's float64.

    Kang and McAuley, ICDM 2018, section III, without scaling of the embeddings, and with positions
    aligned to the right; norms before the parts as in Xiong et al., ICML 2020, figure 1 (b).
    """

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        return layer_norm(state, name, x, LAYER_NORM_EPS)

    before = options.norm == "before"
    n = len(history)
    size = options.hidden_size // options.heads
    x = [
        state["item_embedding.weight"][item]
        + state["position_embedding.weight"][options.max_length - n + at]
        for at, item in enumerate(history)
    ]
    for number in range(options.blocks):
        block = f"blocks.{number}"
        seen = [norm(f"{block}.attention_norm", x_i) if before else x_i for x_i in x]
        query = [linear(state, f"{block}.query", x_i) for x_i in seen]
        key = [linear(state, f"{block}.key", x_i) for x_i in seen]
        value = [linear(state, f"{block}.value", x_i) for x_i in seen]
        after = []
        for i in range(n):
            attended = np.zeros(options.hidden_size)
            for head in range(options.heads):
                part = slice(head * size, (head + 1) * size)
                scores = [float(query[i][part] @ key[j][part]) for j in range(i + 1)]
                weights = [math.exp(score / math.sqrt(size)) for score in scores]
                for j in range(i + 1):
                    attended[part] += weights[j] / sum(weights) * value[j][part]
            if options.projection:
                attended = linear(state, f"{block}.projection", attended)
            y = x[i] + attended
            if not before:
                y = norm(f"{block}.attention_norm", y)
            inner = norm(f"{block}.feed_forward_norm", y) if before else y
            inner = activated(linear(state, f"{block}.widen", inner), options.activation)
            y = y + linear(state, f"{block}.narrow", inner)
            after.append(y if before else norm(f"{block}.feed_forward_norm", y))
        x = after
    if options.final_norm:
        x = [norm("final_norm", x_i) for x_i in x]
    return np.stack(x)


def activated(x: np.ndarray, activation: str) -> np.ndarray:
    if activation == "relu":
        return np.maximum(x, 0)
    return np.array([v * (1 + math.erf(v / math.sqrt(2))) / 2 for v in x])


@in_every_form
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_hidden_states_equal_the_loop_written_reference(
    blocks: int, heads: int, form: dict[str, Any]
) -> None:
    options = replace(OPTIONS, blocks=blocks, heads=heads, **form)
    model = any_weights(options, seed=10 * blocks + heads)
    state = state_of(model)
    histories = some_histories(1, 4, LENGTH, 2)
    with torch.no_grad():
        hidden = model(rows_of(*histories)).numpy()
    for row, history in enumerate(histories):
        np.testing.assert_allclose(
            hidden[row, : len(history)], reference_hidden(state, history, options), rtol=1e-9
        )


def test_hidden_states_in_float32_are_those_in_float64_to_float32s_precision() -> None:
    model = any_weights(OPTIONS)
    rows = rows_of(*some_histories(3, LENGTH))
    with torch.no_grad():
        exact = model(rows)
        rounded = model.float()(rows)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded[0, :3].double(), exact[0, :3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rounded[1].double(), exact[1], rtol=1e-4, atol=1e-4)


def test_scores_are_hidden_states_times_the_output_layer() -> None:
    model = any_weights(OPTIONS)
    table, bias = model.item_table()
    state = model.state_dict()
    assert torch.equal(table, state["output.weight"])
    assert bias is not None
    assert torch.equal(bias, state["output.bias"])
    assert table.shape == (ITEMS, OPTIONS.hidden_size)
    assert bias.shape == (ITEMS,)


def test_a_tied_model_scores_with_the_vectors_that_it_reads_with() -> None:
    model = any_weights(replace(OPTIONS, tied=True))
    table, bias = model.item_table()
    assert table is model.get_parameter("item_embedding.weight")
    assert bias is None
    assert not any(name.startswith("output") for name in model.state_dict())


def test_the_latest_item_has_the_last_position_whatever_the_length() -> None:
    # Only the last position has an embedding, and items have none: it shows where it is added.
    model = any_weights(replace(OPTIONS, blocks=1))
    state = model.state_dict()
    state["item_embedding.weight"].zero_()
    histories = some_histories(1, 3, LENGTH)
    with torch.no_grad():
        before = model(rows_of(*histories))
        state["position_embedding.weight"][-1] += 1.0
        after = model(rows_of(*histories))
    changed = ~torch.isclose(before, after).all(dim=2)
    for row, history in enumerate(histories):
        places = changed[row, : len(history)].nonzero().flatten().tolist()
        assert places == [len(history) - 1]


def test_a_full_row_uses_every_position_and_a_short_one_only_the_last() -> None:
    for length in (1, 3, LENGTH):
        model = any_weights(OPTIONS)
        model(rows_of(*some_histories(length)))[0, length - 1].sum().backward()
        gradient = model.get_parameter("position_embedding.weight").grad
        assert gradient is not None
        used = gradient.abs().sum(dim=1).nonzero().flatten().tolist()
        assert used == list(range(LENGTH - length, LENGTH))


def loss_of(model: SequenceModel, items: np.ndarray, windows: Spans) -> Tensor:
    batch = training_batch(items.astype(np.int32), windows)
    hidden_ND = model(batch.rows).flatten(0, 1)[batch.real_N]
    return full_cross_entropy(hidden_ND, *model.item_table(), batch.targets_N)


def test_padding_gets_no_gradient() -> None:
    # Item 0 is what padding holds, and nobody has it.
    model = any_weights(OPTIONS)
    items = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2])
    loss_of(model, items, Spans(np.array([0, 3, 9]), np.array([2, 9, 11]))).backward()
    gradient = model.get_parameter("item_embedding.weight").grad
    assert gradient is not None
    assert gradient[0].eq(0).all()
    inputs = [1, 4, 5, 6, 7, 8]
    assert gradient.abs().sum(dim=1).nonzero().flatten().tolist() == inputs


def test_gradients_of_a_padded_batch_are_those_of_its_rows_one_by_one() -> None:
    items = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2])
    together, apart = any_weights(OPTIONS), any_weights(OPTIONS)
    windows = [(0, 2), (3, 9), (8, 11)]
    starts, stops = np.array(windows).T
    loss_of(together, items, Spans(starts, stops)).backward()
    targets = int((stops - starts - 1).sum())
    for start, stop in windows:
        loss = loss_of(apart, items, Spans(np.array([start]), np.array([stop])))
        (loss * ((stop - start - 1) / targets)).backward()
    for a, b in zip(together.parameters(), apart.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12)


@in_every_form
def test_every_parameter_gets_a_gradient(form: dict[str, Any]) -> None:
    model = any_weights(replace(OPTIONS, **form))
    items = np.arange(ITEMS)
    loss_of(model, items, Spans(np.array([0, 5]), np.array([LENGTH + 1, ITEMS]))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # A softmax does not change when all its scores grow by one number: so with this bias.
        if not name.endswith("key.bias"):
            assert parameter.grad.abs().max() > 0, name


@in_every_form
def test_dropout_acts_in_training_only(form: dict[str, Any]) -> None:
    model = any_weights(replace(OPTIONS, dropout=0.5, **form))
    plain = any_weights(replace(OPTIONS, **form))
    rows = rows_of(*some_histories(5, LENGTH))
    with torch.random.fork_rng(), torch.no_grad():
        expected = plain(rows)
        assert torch.equal(model(rows), expected)
        model.train()
        first, second = model(rows), model(rows)
        assert not torch.equal(first, second)
        assert torch.equal(plain.train()(rows), expected)


def test_dropout_acts_on_embeddings_attention_and_feed_forward() -> None:
    # Each place alone: the weights that lead to the others are 0, so that dropout there is idle.
    places = {
        "embeddings": ("value", "narrow"),
        "attention": ("narrow",),
        "feed-forward": ("value",),
    }
    for place, silent in places.items():
        model = any_weights(replace(OPTIONS, blocks=1, heads=1, dropout=0.5)).train()
        state = model.state_dict()
        for name in silent:
            state[f"blocks.0.{name}.weight"].zero_()
            state[f"blocks.0.{name}.bias"].zero_()
        if place != "embeddings":
            # The embeddings are 0, with or without dropout; biases carry the signal on.
            state["item_embedding.weight"].zero_()
            state["position_embedding.weight"].zero_()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            rows = rows_of(*some_histories(LENGTH))
            assert not torch.equal(model(rows), model(rows)), place


@pytest.mark.parametrize("place", ["projection", "narrow"])
def test_dropout_acts_on_what_each_part_adds(place: str) -> None:
    # One part adds ones and the other nothing, to a hidden state of zeros.
    form = replace(OPTIONS, norm="before", projection=True, dropout=0.5)
    model = any_weights(replace(form, blocks=1, heads=1)).train()
    state = model.state_dict()
    for name, value in state.items():
        if "embedding" in name or "projection" in name or "narrow" in name:
            value.zero_()
    state[f"blocks.0.{place}.bias"].fill_(1.0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        hidden = model(rows_of(*some_histories(LENGTH)))
    assert set(hidden.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"hidden_size": 0}, "--hidden-size is 0"),
        ({"blocks": 0}, "--blocks is 0"),
        ({"heads": -1}, "--heads is -1"),
        ({"max_length": 0}, "--max-length is 0"),
        ({"dropout": 1.5}, "--dropout is 1.5"),
        ({"dropout": 1.0}, "--dropout is 1.0"),
        ({"dropout": -0.1}, "--dropout is -0.1"),
        ({"dropout": math.nan}, "--dropout is nan"),
        ({"hidden_size": 64, "heads": 5}, "--heads 5 does not divide --hidden-size 64"),
    ],
)
def test_options_out_of_range_are_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(PeercollabError) as caught:
        SASRecOptions(**given)
    assert str(caught.value).startswith(named)


@pytest.mark.parametrize(
    "changed", [{"hidden_size": 12}, {"blocks": 1}, {"max_length": 8}], ids=lambda c: next(iter(c))
)
def test_sizes_are_those_asked_for(changed: dict[str, Any]) -> None:
    options = replace(OPTIONS, **changed)
    model = build_model(ITEMS, options, seed=0)
    state = model.state_dict()
    assert state["item_embedding.weight"].shape == (ITEMS, options.hidden_size)
    assert state["position_embedding.weight"].shape == (options.max_length, options.hidden_size)
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    assert len(blocks) == options.blocks
    assert model.max_length == options.max_length
