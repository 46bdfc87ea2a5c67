"""A run's metrics beside those of popularity, as text: for terminal and report alike."""

from collections.abc import Mapping
from typing import Any

# Where there is no number to show.
MISSING = "-"


def metrics_table(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The head and then a row a metric, every row as long as the head.

    Parameters
    ----------
    metrics
        As in ``metrics.json``. Without "test" (a run that was stopped) validation is compared
        with popularity.
    """
    split = judged_on(metrics)
    shown = [of for of in ("validation", "test") if of in metrics]
    head = ("metric", *shown, f"popularity ({split})", f"{split} / popularity")
    rows = [
        (
            metric.upper(),
            *(f"{metrics[of][metric]:.4f}" for of in shown),
            f"{value:.4f}",
            times(metrics[split][metric], value) if split in metrics else MISSING,
        )
        for metric, value in metrics["popularity"][split].items()
    ]
    return [head, *rows]


def judged_on(metrics: Mapping[str, Any]) -> str:
    """The split to compare on: test once it is there."""
    return "test" if "test" in metrics else "validation"


def times(own: float, popularity: float) -> str:
    """How many times popularity's value the model's is; a dash where popularity has none."""
    return f"{own / popularity:.2f}" if popularity else MISSING
