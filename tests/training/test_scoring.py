"""Ranks and the top k against loops over sorted lists, with ties, seen items and chunk borders."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from peercollab.data.sequences import Histories, Int32Array, Int64Array
from peercollab.data.split import Queries, Spans, queries
from peercollab.errors import DivergedError
from peercollab.models.sasrec import SASRec, SASRecOptions
from peercollab.training import scoring
from peercollab.training.metrics import MISS
from peercollab.training.scoring import ModelScorer, rank_targets, top_k

CPU = torch.device("cpu")


class FixedScorer:
    """Scores that were written down: a row for each value of a history's last item."""

    def __init__(self, scores_VV: np.ndarray, bias_V: np.ndarray | None = None) -> None:
        self._scores_VV = torch.from_numpy(scores_VV)
        self._bias_V = None if bias_V is None else torch.from_numpy(bias_V)
        self.largest_chunk = 0

    def last_hidden(self, items: Int32Array, spans: Spans, users: Int64Array | None) -> Tensor:
        self.largest_chunk = max(self.largest_chunk, len(spans))
        return self._scores_VV[torch.from_numpy(items[spans.stops - 1].astype(np.int64))]

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return torch.eye(len(self._scores_VV), dtype=torch.float64), self._bias_V


def naive_order(scores: np.ndarray, seen: set[int]) -> list[int]:
    """Items that are not seen, best first; of equal scores the smaller number first."""
    return sorted((v for v in range(len(scores)) if v not in seen), key=lambda v: (-scores[v], v))


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, list[list[int]], list[int]]:
    """Scores with many ties, a bias, histories and targets, over a small catalogue."""
    n_items = draw(st.integers(1, 9))
    item = st.integers(0, n_items - 1)
    score = st.integers(-2, 2).map(float)
    row = st.lists(score, min_size=n_items, max_size=n_items)
    scores = np.array(draw(st.lists(row, min_size=n_items, max_size=n_items)))
    bias = np.array(draw(row))
    histories = draw(st.lists(st.lists(item, min_size=1, max_size=6), min_size=1, max_size=9))
    return scores, bias, histories, [draw(item) for _ in histories]


def flat(histories: list[list[int]]) -> tuple[Int32Array, Spans]:
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    stops = np.cumsum(lengths)
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return items, Spans(stops - lengths, stops)


@given(cases(), st.booleans(), st.booleans(), st.sampled_from([1, 2, 256]))
def test_ranks_equal_those_of_a_sorted_list(
    case: tuple[np.ndarray, np.ndarray, list[list[int]], list[int]],
    keep_seen: bool,
    with_bias: bool,
    rows_at_once: int,
) -> None:
    scores, bias, histories, targets = case
    items, spans = flat(histories)
    asked = Queries(np.arange(len(histories)), spans, np.array(targets, dtype=np.int32))
    scorer = FixedScorer(scores, bias if with_bias else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scoring._MOST_ROWS_AT_ONCE, "cpu", rows_at_once)
        ranks = rank_targets(scorer, items, asked, keep_seen=keep_seen)
    assert scorer.largest_chunk <= rows_at_once
    for history, target, rank in zip(histories, targets, ranks, strict=True):
        own = scores[history[-1]] + (bias if with_bias else 0)
        order = naive_order(own, set() if keep_seen else set(history))
        assert rank == (order.index(target) + 1 if target in order else MISS)


@given(cases(), st.integers(1, 12), st.booleans(), st.sampled_from([1, 2, 256]))
def test_top_k_is_the_head_of_a_sorted_list(
    case: tuple[np.ndarray, np.ndarray, list[list[int]], list[int]],
    k: int,
    keep_seen: bool,
    rows_at_once: int,
) -> None:
    scores, bias, histories, _ = case
    items, spans = flat(histories)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scoring._MOST_ROWS_AT_ONCE, "cpu", rows_at_once)
        best, values = top_k(FixedScorer(scores, bias), items, spans, k, keep_seen=keep_seen)
    assert best.shape == values.shape == (len(histories), min(k, len(scores)))
    for history, row, value in zip(histories, best, values, strict=True):
        own = scores[history[-1]] + bias
        expected = naive_order(own, set() if keep_seen else set(history))[:k]
        assert row[: len(expected)].tolist() == expected
        assert value[: len(expected)].tolist() == own[expected].tolist()
        assert all(v == -math.inf for v in value[len(expected) :])


@pytest.fixture
def histories() -> Histories:
    """400 users of 4 to 11 items among 60: more than one chunk of rows."""
    generator = np.random.default_rng(1)
    lengths = generator.integers(4, 12, 400)
    items = generator.integers(0, 60, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), 60)


def small_model() -> SASRec:
    torch.manual_seed(0)
    return SASRec(60, SASRecOptions(hidden_size=8, max_length=6)).double().eval()


def test_a_model_is_asked_for_the_state_after_the_latest_items(histories: Histories) -> None:
    model = small_model()
    asked = queries(histories, "test")
    ranks = rank_targets(ModelScorer(model, CPU), histories.items, asked, keep_seen=False)
    table_VD, bias_V = model.item_table()
    assert bias_V is not None
    for row in range(0, len(asked), 37):
        whole = histories.items[asked.spans.starts[row] : asked.spans.stops[row]]
        alone = Spans(np.array([0]), np.array([min(len(whole), 6)]))
        with torch.no_grad():
            hidden_D = ModelScorer(model, CPU).last_hidden(whole[-6:], alone, None)[0]
            scores = (table_VD @ hidden_D + bias_V).numpy()
        # Of the whole history no item is recommended, though the model sees only its end.
        order = naive_order(scores, set(whole.tolist()))
        target = asked.targets[row]
        assert ranks[row] == (order.index(target) + 1 if target in order else MISS)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["output.weight", "output.bias", "item_embedding.weight"])
def test_weights_that_are_no_numbers_are_refused(
    histories: Histories, name: str, poison: float
) -> None:
    asked = queries(histories, "test")
    model = small_model()
    with torch.no_grad():
        model.get_parameter(name)[..., 0] = poison
    with pytest.raises(DivergedError, match=r"scores .*NaN or infinite.*--lr"):
        rank_targets(ModelScorer(model, CPU), histories.items, asked, keep_seen=False)
    with pytest.raises(DivergedError, match=r"scores .*NaN or infinite.*--lr"):
        top_k(ModelScorer(model, CPU), histories.items, asked.spans, 3, keep_seen=False)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_finite_weights_whose_scores_are_no_numbers_are_refused(sign: float) -> None:
    scores = np.full((2, 2), sign * 1e300)
    scorer = FixedScorer(scores, np.array([0.0, sign * 1.7e308]))
    scorer._scores_VV *= 1e8
    asked = Queries(np.arange(1), Spans(np.array([0]), np.array([1])), np.array([1], np.int32))
    with pytest.raises(DivergedError, match="scores"):
        rank_targets(scorer, np.array([0], np.int32), asked, keep_seen=True)


def test_large_scores_whose_sum_is_no_number_are_ranked() -> None:
    scores = np.array([[1e308, 1.5e308, 1.2e308]] * 3)
    asked = Queries(np.arange(1), Spans(np.array([0]), np.array([1])), np.array([2], np.int32))
    ranks = rank_targets(FixedScorer(scores), np.array([0], np.int32), asked, keep_seen=True)
    assert ranks.tolist() == [2]
