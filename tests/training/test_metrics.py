"""HR, MRR and NDCG against ir-measures."""

import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Success, nDCG

from peercollab.training.metrics import CUTOFFS, MISS, SELECTION_METRIC, gains_of, metrics_of

LISTED = 30
RANKS = st.lists(st.one_of(st.just(MISS), st.integers(1, LISTED)), min_size=1, max_size=25)


def by_ir_measures(ranks: list[int], k: int) -> dict[str, float]:
    """A list of `LISTED` items for each user, the only relevant one at its rank, or nowhere."""
    qrels = [ir_measures.Qrel(str(user), "target", 1) for user in range(len(ranks))]
    run = [
        ir_measures.ScoredDoc(
            str(user), "target" if at == rank else f"other-{at}", float(LISTED - at)
        )
        for user, rank in enumerate(ranks)
        for at in range(1, LISTED + 1)
    ]
    # Reciprocal rank has no cutoff in trec_eval: its list ends at k.
    cut = [doc for doc in run if LISTED - doc.score <= k]
    found = ir_measures.pytrec_eval.calc_aggregate([Success @ k, nDCG @ k], qrels, run)
    found |= ir_measures.pytrec_eval.calc_aggregate([RR], qrels, cut)
    return {f"hr@{k}": found[Success @ k], f"ndcg@{k}": found[nDCG @ k], f"mrr@{k}": found[RR]}


@given(RANKS)
def test_metrics_equal_ir_measures_on_any_ranks(ranks: list[int]) -> None:
    expected = {name: value for k in CUTOFFS for name, value in by_ir_measures(ranks, k).items()}
    assert metrics_of(np.array(ranks, dtype=np.int32)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rank", [1, 4, 5, 6, 10, 11, 20, 21, 100_000])
def test_metrics_of_one_rank_are_the_formulas(rank: int) -> None:
    metrics = metrics_of(np.array([rank], dtype=np.int32))
    for k in (5, 10, 20):
        hit = rank <= k
        assert metrics[f"hr@{k}"] == float(hit)
        assert metrics[f"mrr@{k}"] == (1 / rank if hit else 0.0)
        assert metrics[f"ndcg@{k}"] == pytest.approx(1 / math.log2(rank + 1) if hit else 0.0)


def test_a_miss_counts_as_nothing_but_counts_as_a_user() -> None:
    assert set(metrics_of(np.array([MISS, MISS], dtype=np.int32)).values()) == {0.0}
    assert metrics_of(np.array([1, MISS], dtype=np.int32))["ndcg@10"] == 0.5


def test_other_cutoffs_can_be_asked_for() -> None:
    metrics = metrics_of(np.array([1, 3], dtype=np.int32), cutoffs=[1, 3])
    assert metrics == pytest.approx(
        {"hr@1": 0.5, "hr@3": 1.0, "mrr@1": 0.5, "mrr@3": 2 / 3, "ndcg@1": 0.5, "ndcg@3": 0.75}
    )


def test_the_selection_metric_is_one_of_them() -> None:
    assert SELECTION_METRIC in metrics_of(np.array([1], dtype=np.int32))


def test_gains_are_of_each_user_and_their_means_are_the_metrics() -> None:
    ranks_U = np.array([1, MISS, 3, 10, 11], dtype=np.int32)
    gains = gains_of(ranks_U)
    third = 1 / math.log2(11)
    assert gains["ndcg@10"].tolist() == pytest.approx([1.0, 0.0, 0.5, third, 0.0])
    assert gains["hr@5"].tolist() == [1.0, 0.0, 1.0, 0.0, 0.0]
    assert {name: gain_U.mean() for name, gain_U in gains.items()} == metrics_of(ranks_U)
