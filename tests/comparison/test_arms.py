"""Arms by name and in options: what is trained for them, and which are refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from peercollab.comparison.arms import RECIPES, Arm, make_arm
from peercollab.errors import PeercollabError
from peercollab.options import TrainOptions
from peercollab.transplant.options import RULES


def names_of(arm: Arm) -> list[str]:
    return [training.name for training in arm.trainings]


def of_three(base: TrainOptions) -> TrainOptions:
    return replace(base, execution=replace(base.execution, peers=3))


def test_every_rule_that_exchanges_is_an_arm(base: TrainOptions) -> None:
    exchanging = {name for name, rule in RULES.items() if rule.exchanges and ".py" not in name}
    assert exchanging < set(RECIPES)
    for name in exchanging:
        (training,) = make_arm(name, base).trainings
        assert training.options.transplant.rule == name
        assert (training.options.execution.peers, training.stream) == (2, None)


def test_one_model_trains_at_the_base_rate_with_the_first_stream(base: TrainOptions) -> None:
    (training,) = make_arm("solo", base).trainings
    assert training.stream == 1
    assert training.options.execution.peers == 1
    assert training.options.transplant.rule == "none"
    assert training.options.training == base.training


def test_a_longer_run_has_the_compute_and_the_patience_of_all_peers(base: TrainOptions) -> None:
    (training,) = make_arm("solo-long", of_three(base)).trainings
    assert training.options.training.epochs == 3 * base.training.epochs
    assert training.options.training.patience == 3 * base.training.patience


@pytest.mark.parametrize("name", ["best-of-n", "soup", "soup-greedy", "ensemble"])
def test_ends_of_several_models_need_what_one_model_needs_and_its_siblings(
    name: str, base: TrainOptions
) -> None:
    arm = make_arm(name, of_three(base))
    assert names_of(arm) == ["solo", "solo-2", "solo-3"]
    assert [training.stream for training in arm.trainings] == [1, 2, 3]
    assert arm.trainings[0] == make_arm("solo", of_three(base)).trainings[0]


def test_models_with_the_same_start_are_others(base: TrainOptions) -> None:
    arm = make_arm("soup-shared", base)
    assert names_of(arm) == ["solo-shared", "solo-shared-2"]
    assert {training.options.training.init for training in arm.trainings} == {"shared"}


def test_an_ensemble_alone_costs_more_to_serve(base: TrainOptions) -> None:
    costs = {name: make_arm(name, of_three(base)).inference_cost for name in RECIPES}
    assert costs.pop("ensemble") == 3
    assert set(costs.values()) == {1}


def test_an_arm_can_be_told_in_options(base: TrainOptions) -> None:
    arm = make_arm("four=--rule papa --peers 4 --factor 0.9 --hidden-size 16", base)
    (training,) = arm.trainings
    assert (arm.name, training.name, training.stream) == ("four", "four", None)
    assert training.options.execution.peers == 4
    assert training.options.model.hidden_size == 16
    assert training.options.transplant.factor == 0.9
    assert training.options.training == base.training


def test_changes_yield_to_what_an_arm_says_itself_and_mark_what_is_trained(
    base: TrainOptions,
) -> None:
    changes = ["--lr", "0.1", "--dropout", "0.4"]
    arm = make_arm("own=--rule average --lr 0.01", base, changes, ".t3")
    (training,) = arm.trainings
    assert training.name == "own.t3"
    assert training.options.training.lr == 0.01
    assert training.options.model.dropout == 0.4


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("sollo", "did you mean solo?"),
        ("solo=--lr 1", "has a meaning of its own"),
        ("solo-2=--lr 1", "has a meaning of its own"),
        ("solo.t1=--lr 1", "has a meaning of its own"),
        ("mine=--lr '0.1", "is cut short"),
        ("solo-shared=--lr 1", "has a meaning of its own"),
        ("../up=--lr 1", "cannot be the name of an arm"),
        ("=--lr 1", "cannot be the name of an arm"),
        (".hidden=--lr 1", "cannot be the name of an arm"),
        ("x=--lr 0", "arm x: --lr is 0.0"),
        ("x=--steepnes 3", "did you mean --steepness?"),
        ("x=--rule average --steepness 3", "arm x: --steepness has no effect"),
        ("x=--seed 3", "all arms have the same seed"),
        ("x=--data other.csv", "all arms have the same data"),
        ("x=--keep-seen", "all arms have the same keep-seen"),
        ("x=--min-interactions 3", "all arms have the same options of preparing"),
        ("x=--time-column t", "all arms have the same options of reading"),
        ("x=--threads-per-peer 2", "all arms have the same threads-per-peer"),
        ("x=--executor ray", "all arms have the same executor"),
    ],
)
def test_what_is_no_arm_is_refused(told: str, said: str, base: TrainOptions) -> None:
    with pytest.raises(PeercollabError) as refused:
        make_arm(told, base)
    assert said in str(refused.value)


def test_the_guide_tells_of_every_arm() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    for name in RECIPES:
        assert f"`{name}`" in guide


def test_an_arm_may_be_a_preset_of_which_its_own_options_win(base: TrainOptions) -> None:
    arm = make_arm("pcrec=--preset pcrec --dropout 0.1", base)
    network = arm.trainings[0].options.model
    assert (network.hidden_size, network.dropout) == (256, 0.1)
    assert arm.trainings[0].options.training.patience == 0


def test_what_the_docs_tell_of_arms_with_options_can_be_asked_for(base: TrainOptions) -> None:
    docs = Path(__file__).parents[2] / "docs"
    texts = [page.read_text(encoding="utf-8") for page in docs.glob("*.md")]
    told = {arm for text in texts for arm in re.findall(r"'([\w.-]+=--[^'\n]+)'", text)}
    assert {"pcrec=--preset pcrec", "four=--rule papa --peers 4"} <= told
    for arm in told:
        assert make_arm(arm, base).name == arm.partition("=")[0]
