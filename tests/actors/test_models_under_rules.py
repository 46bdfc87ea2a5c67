"""Every model, as peers under every rule: weights change hands, and go on being finite."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from peercollab.actors.messages import SharedSetup
from peercollab.data.sequences import Histories
from peercollab.models.model import ModelSettings
from peercollab.models.options import MODELS, ModelOptions, options_of
from peercollab.transplant.options import TransplantOptions
from tests.actors.test_family import NAMES, Weights, outcome, same, setups

MakeShared = Callable[..., SharedSetup]
SMALL: Mapping[str, Any] = {"hidden_size": 8, "max_length": 12, "dilations": (1, 2)}


@pytest.fixture(scope="module")
def left_alone() -> dict[str, Weights]:
    """Of each model what its peers become without any exchange, once it is known."""
    return {}


def settings_of(model: str) -> ModelSettings:
    known = options_of(MODELS[model])
    return ModelOptions(model=model, **{n: v for n, v in SMALL.items() if n in known}).build()


@pytest.mark.parametrize("rule", [name for name in NAMES if name != "none"])
@pytest.mark.parametrize("model", MODELS)
def test_peers_of_every_model_exchange_under_every_rule(
    model: str,
    rule: str,
    make_shared: MakeShared,
    histories: Histories,
    left_alone: dict[str, Weights],
) -> None:
    own = setups(2)

    def weights_under(rule: str) -> Weights:
        # All begin alike, so that the start that some rules want makes no difference.
        shared = make_shared(TransplantOptions(rule=rule), epochs=2, init="shared")
        training = replace(shared.training, batch_size=256 if model == "bpr-mf" else 32)
        shared = replace(shared, model=settings_of(model), training=training)
        records, weights = outcome(shared, histories, own)
        assert all(not record.troubles for record in records)
        return weights

    if model not in left_alone:
        left_alone[model] = weights_under("none")
    weights = weights_under(rule)
    assert not same(weights, left_alone[model])
    assert all(np.isfinite(value).all() for of in weights for value in of.values())
