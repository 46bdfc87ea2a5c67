"""Every model, as two peers under every rule, on MovieLens-100K."""

from pathlib import Path
from typing import Any

import pytest

import peercollab
from peercollab.models.options import MODELS, options_of
from peercollab.transplant.options import RULES
from peercollab.transplant.rules.own_rule import OwnRule


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule is not OwnRule])
@pytest.mark.parametrize("model", MODELS)
def test_it_beats_popularity_on_validation(model: str, rule: str, real_data: Path) -> None:
    options: dict[str, Any] = {"hidden_size": 64, "max_length": 50}
    result = peercollab.fit(
        real_data / "ml-100k.inter",
        model=model,
        rule=rule,
        peers=2,
        epochs=12,
        lr=1e-3,
        executor="local",
        threads_per_peer=1,
        **{name: value for name, value in options.items() if name in options_of(MODELS[model])},
    )
    found = result.metrics.query("split == 'validation'").set_index("of")["ndcg@10"]
    print(f"{model}, {rule}: {found['model']:.4f}")
    assert found["model"] > found["popularity"]
