"""Runs are paired by user and seed, or refused with the arm and the seed."""

import math

import numpy as np
import pytest

from peercollab.errors import PeercollabError
from peercollab.results.per_user import UserRanks
from peercollab.significance.pairing import PairedValues, pair
from peercollab.training.metrics import MISS


def ranks(*of_users: int, users: str = "abcd") -> UserRanks:
    names = np.array(list(users[: len(of_users)]), dtype=np.object_)
    return UserRanks(names, np.array(of_users, dtype=np.int32))


RUNS = {
    "solo": {2: ranks(1, 3, MISS, 11), 1: ranks(2, 10, 1, 1)},
    "layer-wise": {1: ranks(1, 1, 1, 1), 2: ranks(MISS, 7, 10, 100)},
}


def test_values_are_those_of_the_metric_by_ascending_seed() -> None:
    paired = pair(RUNS, "solo")
    assert (paired.metric, paired.baseline, paired.seeds) == ("ndcg@10", "solo", (1, 2))
    assert paired.users.tolist() == ["a", "b", "c", "d"]
    assert paired.values["solo"] == pytest.approx(
        np.array([[1 / math.log2(3), 1 / math.log2(11), 1.0, 1.0], [1.0, 0.5, 0.0, 0.0]])
    )
    assert paired.values["layer-wise"][1] == pytest.approx([0, 1 / 3, 1 / math.log2(11), 0])


def test_another_metric_can_be_compared() -> None:
    assert pair(RUNS, "solo", "hr@10").values["solo"][1].tolist() == [1.0, 1.0, 0.0, 0.0]
    with pytest.raises(PeercollabError, match=r"no metric ndcg@7: there are hr@5, .*ndcg@20"):
        pair(RUNS, "solo", "ndcg@7")


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (ranks(1, 1, 1), r"1 missing, such as d"),
        (ranks(1, 1, 1, 1, 1, users="abcde"), r"1 more, such as e"),
        (ranks(1, 1, 1, 1, users="xbcy"), r"2 missing, such as a; 2 more, such as x"),
        (ranks(1, 1, 1, 1, users="bacd"), r"in another order"),
    ],
)
def test_other_users_are_refused_with_arm_and_seed(run: UserRanks, told: str) -> None:
    runs = RUNS | {"layer-wise": {1: ranks(1, 1, 1, 1), 2: run}}
    expected = rf"arm layer-wise, seed 2 has other users than arm solo, seed 1 \({told}\)"
    with pytest.raises(PeercollabError, match=expected):
        pair(runs, "solo")


def test_a_run_of_the_baseline_with_other_users_is_refused_too() -> None:
    runs = RUNS | {"solo": {1: ranks(1, 1, 1, 1), 2: ranks(1, 1, 1)}}
    with pytest.raises(PeercollabError, match="arm solo, seed 2 has other users than arm solo"):
        pair(runs, "solo")


def test_a_seed_that_one_arm_lacks_is_refused() -> None:
    run = ranks(1, 1, 1, 1)
    with pytest.raises(PeercollabError, match="arm wash has no run of seed 2, and arm solo has"):
        pair(RUNS | {"wash": {1: run}}, "solo")
    with pytest.raises(PeercollabError, match="arm solo has no run of seed 3, and arm wash has"):
        pair(RUNS | {"wash": {1: run, 2: run, 3: run}}, "solo")


def test_without_a_baseline_or_another_arm_there_is_nothing_to_compare() -> None:
    with pytest.raises(PeercollabError, match="no run of the baseline, arm best"):
        pair(RUNS, "best")
    with pytest.raises(PeercollabError, match="no run of the baseline, arm solo"):
        pair(RUNS | {"solo": {}}, "solo")
    with pytest.raises(PeercollabError, match="no arm to compare with the baseline, arm solo"):
        pair({"solo": RUNS["solo"]}, "solo")


def test_one_user_is_too_few() -> None:
    with pytest.raises(PeercollabError, match="1 users are too few"):
        pair({"solo": {1: ranks(1)}, "wash": {1: ranks(2)}}, "solo")


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_number_is_refused_with_arm_seed_and_user(broken: float) -> None:
    users = np.array(["a", "b"], dtype=np.object_)
    values = {"solo": np.zeros((2, 2)), "wash": np.array([[0.0, 0.0], [0.0, broken]])}
    with pytest.raises(PeercollabError, match=r"arm wash, seed 7: ndcg@10 of user b is no finite"):
        PairedValues("ndcg@10", "solo", (5, 7), users, values)
