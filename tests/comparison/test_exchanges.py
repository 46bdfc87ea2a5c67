"""What a comparison keeps of the exchanges of its runs."""

from collections.abc import Mapping
from typing import Any

import pytest

from peercollab.comparison.exchanges import exchanges_of

LAYERS = {"table": "embedding", "query": "middle", "key": "middle"}


def record(round: int, *transfers: Mapping[str, Any]) -> dict[str, Any]:
    return {"round": round, "layers": LAYERS, "transfers": list(transfers)}


def transfer(
    receiver: int, donor: int, shares: Mapping[str, float], cosine: float | None = None
) -> dict[str, Any]:
    similarity = {} if cosine is None else dict.fromkeys(shares, cosine)
    return {"receiver": receiver, "donor": donor, "shares": shares, "similarity": similarity}


def test_shares_are_summed_over_donors_and_averaged_over_rounds_and_runs() -> None:
    one = [
        record(1, transfer(1, 2, {"table": 0.2}), transfer(1, 3, {"table": 0.4})),
        record(2, transfer(1, 2, {"table": 0.0}), transfer(2, 1, {"query": 0.5})),
    ]
    other = [record(1, transfer(1, 2, {"table": 0.6}))]
    found = exchanges_of([one, other])
    assert found is not None
    assert found["shares"] == {"1": {"table": pytest.approx(0.4)}, "2": {"query": 0.5}}
    assert found["similarity"] == {}


def test_similarity_is_a_value_for_each_round_and_scope_up_to_the_longest_run() -> None:
    both = {"query": 0.1, "key": 0.1}
    one = [
        record(2),
        record(3, transfer(1, 2, both, 0.2)),
        record(5, transfer(1, 2, both, 0.6)),
    ]
    other = [record(3, transfer(1, 2, {"table": 0.1}, 0.8), transfer(2, 1, {"query": 0.1}, 0.5))]
    found = exchanges_of([one, other])
    assert found is not None
    assert found["similarity"] == {
        "middle": {"3": pytest.approx(0.3), "5": 0.6},
        "embedding": {"3": 0.8},
    }


def test_runs_without_transfers_have_no_summary() -> None:
    assert exchanges_of([[record(1)], []]) is None
