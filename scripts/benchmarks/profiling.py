"""Where the time goes: a trace for a browser, and a table of the operators that take most."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

OPERATORS = 25


def profiled(folder: Path, name: str, action: Callable[[], object], device: torch.device) -> None:
    """Do something under the profiler; leaves ``NAME-trace.json`` and ``NAME-operators.txt``."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as watched:
        action()
    folder.mkdir(parents=True, exist_ok=True)
    watched.export_chrome_trace(str(folder / f"{name}-trace.json"))
    table = watched.key_averages().table(
        sort_by=f"self_{device.type}_time_total", row_limit=OPERATORS, max_name_column_width=60
    )
    (folder / f"{name}-operators.txt").write_text(table + "\n", encoding="utf-8")
