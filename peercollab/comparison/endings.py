"""How several models that trained alone come to one end."""

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peercollab.comparison.arms import Ending
from peercollab.data.demo import DEMO_FILE
from peercollab.data.sequences import Int32Array, Int64Array, SequenceData
from peercollab.data.split import HOLD_OUTS, HoldOut, Spans, queries
from peercollab.models.model import ModelSettings, SequenceModel
from peercollab.models.saved import load_model, save_weights
from peercollab.results.run_folder import BEST, CONFIG, RunFolder
from peercollab.training.metrics import SELECTION_METRIC, metrics_of
from peercollab.training.scoring import ModelScorer, Scorer, rank_targets
from peercollab.training.soup import Weights, greedy_soup, uniform_soup


class EnsembleScorer:
    """Models whose scores are averaged: as one whose hidden states lie side by side.

    The mean of logits ranks like the mean of log-probabilities, which differs from it by a number
    that is the same for all items.
    """

    def __init__(self, models: Sequence[SequenceModel], device: torch.device) -> None:
        self._scorers = [ModelScorer(model, device) for model in models]

    def last_hidden(self, items: Int32Array, spans: Spans, users: Int64Array | None) -> Tensor:
        parts = [scorer.last_hidden(items, spans, users) for scorer in self._scorers]
        return torch.cat(parts, dim=1) / len(parts)

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        tables = [scorer.item_table() for scorer in self._scorers]
        biases = [bias_V for _, bias_V in tables if bias_V is not None]
        return (
            torch.cat([table_VD for table_VD, _ in tables], dim=1),
            torch.stack(biases).sum(dim=0) / len(tables) if biases else None,
        )


def end(
    ending: Ending,
    runs: Sequence[Path],
    folder: Path,
    data: SequenceData,
    settings: ModelSettings,
    *,
    keep_seen: bool,
    device: torch.device,
) -> None:
    """Make one of several finished runs, and judge it as a run is judged.

    Whatever has to be chosen is chosen on validation; test is ranked once. What comes to one model
    is kept as that of a run is.

    Parameters
    ----------
    ending
        How they come to one end.
    runs
        Folders of the runs, each with its kept model.
    folder
        Where ``metrics.json``, ``per_user.parquet``, and the model go, as in the folder of a run.
    data
        What they were trained on.
    settings
        What their networks are; looked at only where these are the user's own.
    keep_seen
        Whether seen items are ranked, too.
    device
        Where it is ranked.
    """

    def rank(scorer: Scorer, split: HoldOut) -> Int32Array:
        histories = data.histories
        return rank_targets(scorer, histories.items, queries(histories, split), keep_seen=keep_seen)

    def validate(scorer: Scorer) -> float:
        return metrics_of(rank(scorer, "validation"))[SELECTION_METRIC]

    models = [load_model(run / BEST, device, settings) for run in runs]
    scorer, chosen, weights = _ended(ending, models, device, validate)
    ranks = {split: rank(scorer, split) for split in HOLD_OUTS}
    folder.mkdir(parents=True, exist_ok=True)
    target = RunFolder(folder)
    if weights is not None:
        shutil.copytree(runs[0] / BEST, target.best, dirs_exist_ok=True)
        save_weights(weights, target.best)
        shutil.copyfile(runs[0] / CONFIG, folder / CONFIG)
        if (runs[0] / DEMO_FILE).is_file():
            shutil.copyfile(runs[0] / DEMO_FILE, folder / DEMO_FILE)
    target.write_per_user(data.user_ids[queries(data.histories, "test").users], ranks)
    metrics: dict[str, Any] = {split: metrics_of(of) for split, of in ranks.items()}
    selected = {
        "ending": ending,
        "members": [place + 1 for place in chosen],
        SELECTION_METRIC: metrics["validation"][SELECTION_METRIC],
    }
    target.write_metrics({"selected": selected, **metrics})


def _ended(
    ending: Ending,
    models: Sequence[SequenceModel],
    device: torch.device,
    validate: Callable[[Scorer], float],
) -> tuple[Scorer, list[int], Weights | None]:
    """What the models come to, which of them are in it, and its weights if it is one model."""
    everyone = list(range(len(models)))
    if ending == "ensemble":
        return EnsembleScorer(models, device), everyone, None
    values = [validate(ModelScorer(model, device)) for model in models]
    by_value = sorted(everyone, key=lambda place: -values[place])
    if ending == "best":
        best = models[by_value[0]]
        return ModelScorer(best, device), by_value[:1], best.state_dict()
    states = [models[place].state_dict() for place in by_value]

    def scorer_of(weights: Weights) -> Scorer:
        model = copy.deepcopy(models[0])
        model.load_state_dict(weights)
        return ModelScorer(model, device)

    chosen = everyone
    if ending == "greedy-soup":
        chosen = greedy_soup(states, lambda weights: validate(scorer_of(weights)))
    soup = uniform_soup([states[place] for place in chosen])
    return scorer_of(soup), [by_value[place] for place in chosen], soup
