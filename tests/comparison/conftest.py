"""What the tests of comparisons share: small data, small networks, and short runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peercollab.comparison.options import CompareOptions, RunsOptions
from peercollab.data.prepare import PrepareOptions
from peercollab.models.options import ModelOptions
from peercollab.options import TrainOptions
from peercollab.training.options import TrainingOptions
from tests.test_resume import log as log


@pytest.fixture(scope="module")
def options(log: Path, tmp_path_factory: pytest.TempPathFactory) -> CompareOptions:
    """Two arms, two seeds, two epochs, without Ray."""
    return CompareOptions(
        out=tmp_path_factory.mktemp("comparison") / "small",
        data=str(log),
        arms=("solo", "layer-wise"),
        seeds=2,
        prepare=PrepareOptions(min_interactions=1),
        model=ModelOptions(hidden_size=8, blocks=1, max_length=10),
        training=TrainingOptions(epochs=2, batch_size=16, seed=5),
        execution=RunsOptions(executor="local"),
    )


@pytest.fixture
def base(options: CompareOptions) -> TrainOptions:
    return options.base()


@pytest.fixture
def changed(options: CompareOptions, tmp_path: Path) -> Callable[..., CompareOptions]:
    """The same options with changes, in a folder of the test's own."""

    def changed(**changes: Any) -> CompareOptions:
        return replace(options, **{"out": tmp_path / "comparison", **changes})

    return changed
