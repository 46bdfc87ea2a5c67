"""Several models that end as one: against whole logits and plain means."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.comparison.endings import EnsembleScorer, end
from peercollab.data.batches import lay_out
from peercollab.data.sequences import Histories, SequenceData
from peercollab.data.split import HoldOut, queries
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import load_model, save_description, save_weights
from peercollab.results.per_user import read_per_user
from peercollab.training.metrics import MISS, SELECTION_METRIC, metrics_of
from peercollab.training.scoring import ModelScorer, rank_targets

CPU = torch.device("cpu")
OPTIONS = SASRecOptions(hidden_size=8, blocks=1, max_length=6)
N_USERS, N_ITEMS, LENGTH = 30, 12, 8


@pytest.fixture(scope="module")
def data() -> SequenceData:
    items = np.random.default_rng(2).integers(N_ITEMS, size=N_USERS * LENGTH, dtype=np.int32)
    return SequenceData(
        Histories(items, np.arange(0, N_USERS * LENGTH + 1, LENGTH), N_ITEMS),
        np.array([f"u{user:02}" for user in range(N_USERS)], dtype=np.object_),
        np.array([f"i{item:02}" for item in range(N_ITEMS)], dtype=np.object_),
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three models whose weights are large enough to have opinions."""
    folders = []
    for seed in range(3):
        best = tmp_path_factory.mktemp("run") / "best"
        best.mkdir()
        model = build_model(N_ITEMS, OPTIONS, seed)
        with torch.no_grad():
            for name in ("item_embedding", "output"):
                getattr(model, name).weight.normal_(generator=torch.Generator().manual_seed(seed))
        save_weights(model.state_dict(), best)
        save_description(N_ITEMS, OPTIONS, best)
        (best.parent / "config.json").write_text("{}")
        folders.append(best.parent)
    return folders


def models_of(runs: Sequence[Path]) -> list[SequenceModel]:
    return [load_model(run / "best", CPU) for run in runs]


def plain_ranks(models: Sequence[SequenceModel], data: SequenceData, split: HoldOut) -> list[int]:
    """Ranks under the mean of whole logits, user by user; seen items left out."""
    asked = queries(data.histories, split)
    ranks = []
    for row in range(len(asked)):
        span = asked.spans.take(np.array([row]))
        history = data.histories.items[span.starts[0] : span.stops[0]]
        logits_V = torch.zeros(N_ITEMS)
        for model in models:
            hidden_D = model(lay_out(data.histories.items, span.last(OPTIONS.max_length)))[0, -1]
            table_VD, bias_V = model.item_table()
            logits_V += (table_VD @ hidden_D + (0 if bias_V is None else bias_V)) / len(models)
        target = int(asked.targets[row])
        if target in history:
            ranks.append(MISS)
            continue
        logits_V[torch.from_numpy(history.astype(np.int64))] = -torch.inf
        ranks.append(1 + int((logits_V > logits_V[target]).sum()))
    return ranks


class WithoutBias(ModelScorer):
    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return super().item_table()[0], None


def ended(ending: str, runs: Sequence[Path], data: SequenceData, folder: Path) -> dict[str, object]:
    end(ending, runs, folder, data, OPTIONS, keep_seen=False, device=CPU)  # type: ignore[arg-type]
    return dict(json.loads((folder / "metrics.json").read_text()))


@torch.no_grad()
def test_an_ensemble_ranks_by_the_mean_of_its_members_logits(
    runs: list[Path], data: SequenceData, tmp_path: Path
) -> None:
    metrics = ended("ensemble", runs, data, tmp_path)
    expected = plain_ranks(models_of(runs), data, "test")
    assert read_per_user(tmp_path, "test").ranks_U.tolist() == expected
    assert metrics["test"] == metrics_of(np.array(expected, dtype=np.int32))
    alone = [plain_ranks([model], data, "test") for model in models_of(runs)]
    assert all(ranks != expected for ranks in alone)


@torch.no_grad()
@pytest.mark.parametrize("ending", ["best", "uniform-soup", "greedy-soup"])
def test_what_is_one_model_is_kept_and_ranks_as_it_was_ranked(
    ending: str, runs: list[Path], data: SequenceData, tmp_path: Path
) -> None:
    ended(ending, runs, data, tmp_path)
    kept = models_of([tmp_path])
    assert read_per_user(tmp_path, "test").ranks_U.tolist() == plain_ranks(kept, data, "test")
    assert (tmp_path / "config.json").is_file()
    # Of several that all serve there is no one model.
    ended("ensemble", runs, data, tmp_path / "all")
    assert not (tmp_path / "all" / "best").exists()


@torch.no_grad()
def test_an_ensemble_needs_no_bias(
    runs: list[Path], data: SequenceData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peercollab.comparison.endings.ModelScorer", WithoutBias)
    models = models_of(runs)
    scorer = EnsembleScorer(models, CPU)
    assert scorer.item_table()[1] is None
    for model in models:
        model.output.bias.zero_()  # type: ignore[union-attr, operator]
    ranks = rank_targets(
        scorer, data.histories.items, queries(data.histories, "test"), keep_seen=False
    )
    assert ranks.tolist() == plain_ranks(models, data, "test")


@torch.no_grad()
def test_the_best_is_chosen_on_validation(
    runs: list[Path], data: SequenceData, tmp_path: Path
) -> None:
    values = [
        metrics_of(np.array(plain_ranks([model], data, "validation"), dtype=np.int32))
        for model in models_of(runs)
    ]
    best = int(np.argmax([of[SELECTION_METRIC] for of in values]))
    metrics = ended("best", runs, data, tmp_path)
    kept = metrics["validation"][SELECTION_METRIC]  # type: ignore[index]
    assert metrics["selected"] == {
        "ending": "best",
        "members": [best + 1],
        SELECTION_METRIC: kept,
    }
    assert metrics["validation"] == values[best]
    expected = plain_ranks([models_of(runs)[best]], data, "test")
    assert read_per_user(tmp_path, "test").ranks_U.tolist() == expected


@torch.no_grad()
def test_a_soup_is_the_mean_of_all_weights(
    runs: list[Path], data: SequenceData, tmp_path: Path
) -> None:
    ended("uniform-soup", runs, data, tmp_path)
    models = models_of(runs)
    states = [model.state_dict() for model in models]
    soup = {name: sum(state[name] for state in states) / len(states) for name in states[0]}
    models[0].load_state_dict(soup)
    expected = plain_ranks(models[:1], data, "test")
    assert read_per_user(tmp_path, "test").ranks_U.tolist() == expected


@torch.no_grad()
def test_a_greedy_soup_is_never_worse_on_validation_than_its_best_member(
    runs: list[Path], data: SequenceData, tmp_path: Path
) -> None:
    best = ended("best", runs, data, tmp_path / "best")
    greedy = ended("greedy-soup", runs, data, tmp_path / "greedy")
    assert greedy["validation"][SELECTION_METRIC] >= best["validation"][SELECTION_METRIC]  # type: ignore[index]
    assert best["selected"]["members"][0] in greedy["selected"]["members"]  # type: ignore[index]


def test_seen_items_count_if_they_are_kept(
    runs: list[Path], data: SequenceData, tmp_path: Path
) -> None:
    end("ensemble", runs, tmp_path, data, OPTIONS, keep_seen=True, device=CPU)
    assert (read_per_user(tmp_path, "test").ranks_U != MISS).all()
