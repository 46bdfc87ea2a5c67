"""The folder of a run: what is written where, and when it may be written at all.

::

    config.json  environment.json  rounds.jsonl  metrics.json  per_user.parquet  report.html
    best/        model.safetensors, model.json, items.parquet: all that `recommend` needs
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from peercollab.data.sequences import IdArray, Int32Array, Int64Array
from peercollab.data.split import HoldOut
from peercollab.errors import PeercollabError
from peercollab.training.metrics import MISS

CONFIG = "config.json"
BEST = "best"
ITEMS = "items.parquet"


class RunFolder:
    """A run's folder, by its path; nothing is touched until `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def best(self) -> Path:
        """Where the kept model lies."""
        return self.path / BEST

    def require_creatable(self, *, overwrite: bool) -> None:
        """Make sure, without writing anything, that the folder can be made.

        Raises
        ------
        PeercollabError
            Something is there already and may not be overwritten, or no folder can be made.
        """
        if self.path.exists() or self.path.is_symlink():
            self._require_replaceable(overwrite)
        above = next(p for p in self.path.absolute().parents if p.exists())
        if not above.is_dir():
            raise PeercollabError(f"--out {self.path}: {above} is a file, not a folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise PeercollabError(
                f"--out {self.path}: {above} is not writable; give another folder"
            )

    def _require_replaceable(self, overwrite: bool) -> None:
        is_folder = self.path.is_dir() and not self.path.is_symlink()
        if is_folder and not any(self.path.iterdir()):
            return
        if not overwrite:
            raise PeercollabError(
                f"--out {self.path} exists already: give another folder, or --overwrite to "
                "replace the run in it"
            )
        if not (is_folder and (self.path / CONFIG).is_file()):
            raise PeercollabError(
                f"--out {self.path} is not the folder of a run, so --overwrite does not delete it: "
                "give another folder"
            )

    def create(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Make the folder anew, with what the run is and where it runs."""
        try:
            if self.path.exists():
                shutil.rmtree(self.path)
            self.best.mkdir(parents=True)
        except OSError as error:
            raise PeercollabError(f"--out {self.path} cannot be made: {error.strerror}") from error
        self._write_json(CONFIG, config)
        self._write_json("environment.json", environment)

    def remove(self) -> None:
        """Take away a run that did not complete a single round."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_items(self, item_ids: IdArray, counts_V: Int64Array) -> None:
        """Each item's own id and training interactions, in the order of item numbers."""
        frame = pd.DataFrame({"item": item_ids.astype(str), "interactions": counts_V})
        frame.to_parquet(self.best / ITEMS, index=False)

    def add_round(self, record: Mapping[str, Any]) -> None:
        """Append a line to ``rounds.jsonl``."""
        with (self.path / "rounds.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json`` anew."""
        self._write_json("metrics.json", metrics)

    def write_per_user(self, user_ids: IdArray, ranks: Mapping[HoldOut, Int32Array]) -> None:
        """Every evaluated user's rank by split; null where the target was a seen item.

        Parameters
        ----------
        user_ids
            object (str) ``[users]``: the own ids, in the order of the ranks.
        ranks
            For each split int32 ``[users]``.
        """
        frames = [
            pd.DataFrame(
                {
                    "user": user_ids.astype(str),
                    "split": split,
                    "rank": pd.arrays.IntegerArray(rank_U, rank_U == MISS),
                }
            )
            for split, rank_U in ranks.items()
        ]
        pd.concat(frames, ignore_index=True).to_parquet(self.path / "per_user.parquet", index=False)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        unfinished = self.path / f"{name}.unfinished"
        unfinished.write_text(
            json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        unfinished.replace(self.path / name)


def read_config(run: Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises
    ------
    PeercollabError
        The path is no run folder, or the file is damaged.
    """
    path = run / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PeercollabError(
            f"{run} is not the folder of a run ({CONFIG} is missing): give the --out of a training"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PeercollabError(f"{path} is damaged: {error}") from error
    return dict(config)
