"""Which model the options name, and what is said of options that it does not have."""

from dataclasses import replace
from pathlib import Path

import pytest

from peercollab.errors import PeercollabError
from peercollab.models.bpr_mf import BPRMFOptions
from peercollab.models.nextitnet import NextItNetOptions
from peercollab.models.options import MODELS, ModelOptions
from peercollab.models.sasrec import SASRecOptions
from peercollab.options import TrainOptions
from peercollab.training.diversity import DiversityOptions
from peercollab.training.options import TrainingOptions


def test_by_default_it_is_sasrec_with_its_own_defaults() -> None:
    assert ModelOptions().build() == SASRecOptions()


def test_what_is_not_told_is_as_the_model_has_it() -> None:
    options = ModelOptions(model="nextitnet", dilations=(1, 4))
    assert options.build() == NextItNetOptions(dilations=(1, 4))
    assert ModelOptions(model="bpr-mf").build() == BPRMFOptions(hidden_size=256)


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(PeercollabError, match=r"'nextitne'.*did you mean nextitnet\?"):
        ModelOptions(model="nextitne")


def test_an_option_of_another_model_is_refused_with_who_has_it() -> None:
    with pytest.raises(PeercollabError) as caught:
        ModelOptions(model="bpr-mf", max_length=5)
    assert str(caught.value) == (
        "--max-length has no effect with --model bpr-mf: leave it out, or take --model sasrec or "
        "nextitnet or youtube-dnn"
    )


def test_batch_and_loss_are_the_models_unless_told() -> None:
    options = TrainingOptions().of_model(BPRMFOptions())
    assert (options.batch_size, options.loss, options.targets) == (2048, "bpr", None)
    options = TrainingOptions(batch_size=7, loss="full").of_model(BPRMFOptions())
    assert (options.batch_size, options.loss) == (7, "full")
    options = TrainingOptions().of_model(SASRecOptions())
    assert (options.batch_size, options.loss, options.targets) == (128, "full", "every")
    # To say it twice is to say it once.
    assert options.of_model(SASRecOptions()) == options


@pytest.mark.parametrize(
    ("training", "diversity", "said"),
    [
        (TrainingOptions(targets="last"), DiversityOptions(), "--targets has no effect"),
        (TrainingOptions(), DiversityOptions(augment=("crop",)), "--augment has no effect"),
        (TrainingOptions(), DiversityOptions(dropout_spread=0.1), "--dropout-spread has no effect"),
    ],
)
def test_what_a_model_of_users_does_not_have_is_refused(
    training: TrainingOptions, diversity: DiversityOptions, said: str
) -> None:
    plain = TrainOptions(out=Path("run"), model=ModelOptions(model="bpr-mf"))
    with pytest.raises(PeercollabError, match=said):
        replace(plain, training=training, diversity=diversity)


def test_bpr_is_for_models_of_users() -> None:
    with pytest.raises(PeercollabError, match="--loss bpr is for models of users"):
        TrainOptions(out=Path("run"), training=TrainingOptions(loss="bpr"))


def test_every_model_says_what_it_is() -> None:
    for name, kind in MODELS.items():
        assert kind.name == name
        assert kind.title
        assert "20" in kind.reference
