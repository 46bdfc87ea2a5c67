"""What a user should do after a comparison, in a few sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from peercollab.comparison.entry import whole_entries
from peercollab.significance.power import SIGNIFICANCE
from peercollab.significance.verdict import FEWEST_SEEDS
from peercollab.training.metrics import SELECTION_METRIC

# The same training takes some per cent more or less time from run to run.
CHEAPER = 0.9


def conclusion(
    differences: Sequence[Mapping[str, Any]],
    arms: Sequence[Mapping[str, Any]],
    baseline: str,
    popularity: float | None,
) -> str:
    """Which arm to take at the same inference cost, what it costs to train, and what to try next.

    Parameters
    ----------
    differences, arms, baseline, popularity
        As in ``comparison.json``.
    """
    if not differences:
        return _nothing_compared(arms, baseline)
    rivals = _rivals(differences, arms, baseline)
    better = _better(rivals)
    left = _left(arms)
    sentences = [
        f"Not finished: {left}." if left else "",
        _unlearned(arms, popularity),
        *([_winners(better)] if better else [_kept(rivals, baseline, left), _as_good(rivals)]),
        _too_short(rivals, baseline),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def advised_run(result: Mapping[str, Any]) -> str | None:
    """The folder, within the comparison's, of the run whose model is to be taken.

    Parameters
    ----------
    result
        As in ``comparison.json``.

    Returns
    -------
    str or None
        Of the best arm that is shown to be better, or of the baseline, the seed that is best on
        validation; None where nothing is compared, nothing was learned, or an earlier version has
        not written it down.
    """
    # Of an earlier version popularity is not known.
    if not result["differences"] or _unlearned(result["arms"], result.get("popularity")):
        return None
    better = _better(_rivals(result["differences"], result["arms"], result["baseline"]))
    name = better[0].name if better else result["baseline"]
    (entries,) = (whole_entries(arm) for arm in result["arms"] if arm["name"] == name)
    best = max(entries, key=lambda entry: entry["validation"][SELECTION_METRIC])
    folder: str | None = best.get("folder")
    return folder


@dataclass(frozen=True)
class _Rival:
    """An arm beside the baseline."""

    of: Mapping[str, Any]
    arm: Mapping[str, Any]
    baseline: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.of["arm"])

    @property
    def gain(self) -> float:
        return float(self.of["difference"])

    @property
    def seeds(self) -> int:
        return len(self.of["by_seed"])

    @property
    def is_candidate(self) -> bool:
        """Whether it costs no more to serve."""
        own, other = (whole_entries(of)[0]["parameters"] for of in (self.arm, self.baseline))
        return bool(own <= other)

    @property
    def is_better(self) -> bool:
        return self.gain > 0 and bool(self.of["claimed"])

    @property
    def is_worse(self) -> bool:
        """Whether any of the three questions shows it: too much to be called as good."""
        answers = [self.of[question] for question in ("new_users", "new_trainings", "both")]
        shown = any(answer and answer["p_adjusted"] < SIGNIFICANCE for answer in answers)
        return self.gain < 0 and shown

    @property
    def may_need_seeds(self) -> bool:
        return self.gain > 0 and bool(self.of["seeds_needed"])

    @property
    def times(self) -> float | None:
        """Its training's cost over the baseline's; None where they cannot be compared."""
        if (hours := self._hours) is None:
            return None
        own, other, _ = hours
        return own / other

    @property
    def cost(self) -> str:
        """What its training costs beside the baseline's, in words."""
        if (hours := self._hours) is None:
            return "trained in part on other devices, so that costs cannot be compared"
        own, other, unit = hours
        return (
            f"for {own / other:.1f} times the training ({own:.2f} against {other:.2f} "
            f"{unit}-hours a seed)"
        )

    @property
    def _hours(self) -> tuple[float, float, str] | None:
        """Of a seed, its own and the baseline's, and of what; None if some had a GPU, some not."""
        both = [
            [arm["seeds"][str(seed)] for seed in self.of["seeds"]]
            for arm in (self.arm, self.baseline)
        ]
        on_gpu = {entry["gpu_seconds"] > 0 for entries in both for entry in entries}
        if len(on_gpu) > 1:
            return None
        unit = "GPU" if on_gpu.pop() else "core"
        own, other = (mean(of[f"{unit.lower()}_seconds"] for of in entries) for entries in both)
        return own / 3600, other / 3600, unit


def _rivals(
    differences: Sequence[Mapping[str, Any]], arms: Sequence[Mapping[str, Any]], baseline: str
) -> list[_Rival]:
    """All that cost no more to serve than the baseline."""
    by_name = {arm["name"]: arm for arm in arms}
    found = [_Rival(of, by_name[of["arm"]], by_name[baseline]) for of in differences]
    return [of for of in found if of.is_candidate]


def _better(rivals: Sequence[_Rival]) -> list[_Rival]:
    return sorted((of for of in rivals if of.is_better), key=lambda of: -of.gain)


def _left(arms: Sequence[Mapping[str, Any]]) -> str:
    entries = [entry for arm in arms for entry in arm["seeds"].values()]
    left = entries.count(None)
    return (
        f"of {len(entries)} seeds of arms {left} {'is' if left == 1 else 'are'} left"
        if left
        else ""
    )


def _unlearned(arms: Sequence[Mapping[str, Any]], popularity: float | None) -> str:
    """Differences among models that have learned nothing are worth nothing."""
    best = max(
        mean(entry["test"][SELECTION_METRIC] for entry in entries)
        for arm in arms
        if (entries := whole_entries(arm))
    )
    if popularity is None or best > popularity:
        return ""
    return (
        f"No arm is above what is popular, recommended to everybody ({popularity:.4f}): see to it "
        "first that one model learns, with more --epochs or another --lr."
    )


def _nothing_compared(arms: Sequence[Mapping[str, Any]], baseline: str) -> str:
    failed = {
        arm["name"]: [bool(entry and entry["error"]) for entry in arm["seeds"].values()]
        for arm in arms
    }
    if all(failed.pop(baseline)):
        return f"{baseline} failed under every seed, so there is nothing to compare with."
    if failed and all(map(any, failed.values())):
        return f"All but {baseline} failed under some seed, so there is nothing to compare."
    return "Too little has come to an end for a comparison."


def _winners(better: Sequence[_Rival]) -> str:
    best, *others = better
    also = ", ".join(f"{of.name} (by {of.gain:.4f}, {of.cost})" for of in others)
    return (
        f"At the same inference cost {best.name} is better than {best.of['baseline']} by "
        f"{best.gain:.4f} NDCG@10 over {best.seeds} seeds, {best.cost}."
        f"{f' Also better: {also}.' if also else ''}"
    )


def _kept(rivals: Sequence[_Rival], baseline: str, left: str) -> str:
    more_seeds = ""
    if left:
        more_seeds = ", or go on"
    elif any(of.seeds < FEWEST_SEEDS for of in rivals):
        more_seeds = f", or train with {FEWEST_SEEDS} seeds or more, as fewer show hardly anything"
    elif any(of.may_need_seeds for of in rivals):
        more_seeds = ", or train with more seeds"
    return (
        f"At the same inference cost nothing here is shown to be better than {baseline}: "
        f"keep to {baseline}{more_seeds}."
    )


def _as_good(rivals: Sequence[_Rival]) -> str:
    """The cheapest of what may be as good for less training."""
    cheaper = [
        (times, of.name, of.cost)
        for of in rivals
        if (times := of.times) is not None
        and times < CHEAPER
        and of.seeds >= FEWEST_SEEDS
        and not of.is_worse
    ]
    if not cheaper:
        return ""
    _, name, cost = min(cheaper)
    return f"Nor is {name} shown to be worse, {cost}."


def _too_short(rivals: Sequence[_Rival], baseline: str) -> str:
    """Peers look better than they are where one model would gain by more epochs, too."""
    solo = next((of for of in rivals if of.name == "solo"), None)
    if baseline != "solo-long" or solo is None or not (solo.gain < 0 and solo.of["claimed"]):
        return ""
    return (
        "One model still gains by more epochs (solo-long over solo): raise --epochs, and "
        "--patience if it stops them early, until it does not."
    )
