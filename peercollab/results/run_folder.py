"""The folder of a run: what is written where, and when it may be written at all.

::

    config.json  environment.json  rounds.jsonl  metrics.json  per_user.parquet  report.html
    best/        model.safetensors, model.json, items.parquet: all that `recommend` needs
    checkpoints/ the last rounds' states of all peers, to go on from
"""

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from peercollab.data.demo import DEMO, DEMO_FILE
from peercollab.data.sequences import IdArray, Int32Array, Int64Array
from peercollab.data.split import HoldOut
from peercollab.disk import replacing, writing
from peercollab.errors import PeercollabError
from peercollab.models.saved import WEIGHTS
from peercollab.own_code import is_own
from peercollab.results.checkpoint import (
    Checkpoints,
    Digests,
    carry_over,
    digests,
    peer_tree,
    tree_files,
    write_whole,
)
from peercollab.training.metrics import MISS

CONFIG = "config.json"
BEST = "best"
ITEMS = "items.parquet"
USERS = "users.parquet"
ROUNDS = "rounds.jsonl"
METRICS = "metrics.json"
PER_USER = "per_user.parquet"
REPORT = "report.html"

# In a command that is shown, a file that only the user knows.
UNNAMED = "YOUR-LOG"

# In a checkpoint: what the driver knows, and the kept model so far.
RUN_STATE = "run.json"
BEST_SO_FAR = "best.safetensors"


class RunFolder:
    """A run's folder, by its path; nothing is touched until `create`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def best(self) -> Path:
        """Where the kept model lies."""
        return self.path / BEST

    @property
    def checkpoints(self) -> Checkpoints:
        """States to go on from."""
        return Checkpoints(self.path / "checkpoints")

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
        self.write_config(config)
        self._write_json("environment.json", environment)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write ``config.json`` anew."""
        self._write_json(CONFIG, config)

    def remove(self) -> None:
        """Take away a run that did not complete a single round."""
        shutil.rmtree(self.path, ignore_errors=True)

    def write_items(self, item_ids: IdArray, counts_V: Int64Array) -> None:
        """Each item's own id and training interactions, in the order of item numbers."""
        frame = pd.DataFrame({"item": item_ids.astype(str), "interactions": counts_V})
        with writing(self.best / ITEMS):
            frame.to_parquet(self.best / ITEMS, index=False)

    def write_users(self, user_ids: IdArray) -> None:
        """Each user's own id, in the order of user numbers, for a model that knows users."""
        with writing(self.best / USERS):
            pd.DataFrame({"user": user_ids.astype(str)}).to_parquet(self.best / USERS, index=False)

    def add_round(self, record: Mapping[str, Any]) -> None:
        """Append a line to ``rounds.jsonl``."""
        path = self.path / ROUNDS
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_rounds(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Write ``rounds.jsonl`` anew."""
        write_whole(self.path / ROUNDS, "".join(json.dumps(record) + "\n" for record in records))

    def rounds(self) -> list[dict[str, Any]]:
        """The records of ``rounds.jsonl``, up to the first line that is not whole."""
        path = self.path / ROUNDS
        records: list[dict[str, Any]] = []
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def rounds_up_to(self, round: int) -> list[dict[str, Any]]:
        """The records of the first rounds.

        Raises
        ------
        PeercollabError
            ``rounds.jsonl`` does not reach that far.
        """
        records = self.rounds()
        if len(records) < round:
            raise PeercollabError(
                f"{self.path / ROUNDS} has {len(records)} whole records, and the checkpoint was "
                f"made after {round} rounds: the folder is damaged; train anew"
            )
        return records[:round]

    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; empty where there is none yet."""
        path = self.path / METRICS
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

    def checkpoint(
        self, round: int, metrics: Mapping[str, Any], peers: Digests, away: Sequence[int]
    ) -> None:
        """Add to the files of the peers what else is needed to go on, and make all of it valid.

        Of peers that are away, counted from 1, the files of the checkpoint before are taken over.
        """
        target = self.checkpoints.of(round)
        for number in away:
            names = {name: name for name in tree_files(peer_tree(number))}
            peers = peers | carry_over(names, self.checkpoints.before(round), target)
        write_whole(target / RUN_STATE, json.dumps({"metrics": metrics}) + "\n")
        files = peers | digests(target, [RUN_STATE])
        if (self.best / WEIGHTS).exists():
            files |= carry_over({WEIGHTS: BEST_SO_FAR}, self.best, target)
        self.checkpoints.complete(round, files)

    def go_back(self, round: int) -> dict[str, Any]:
        """Take the folder back to a checkpoint; what the metrics were then.

        Raises
        ------
        PeercollabError
            ``rounds.jsonl`` does not reach that far.
        """
        source = self.checkpoints.of(round)
        records = self.rounds_up_to(round)
        self.checkpoints.discard_after(round)
        self.write_rounds(records)
        if (source / BEST_SO_FAR).exists():
            # A copy: a link would be another name of the checkpoint's own file.
            with replacing(self.best / WEIGHTS) as unfinished:
                shutil.copyfile(source / BEST_SO_FAR, unfinished)
        else:
            (self.best / WEIGHTS).unlink(missing_ok=True)
        metrics = dict(json.loads((source / RUN_STATE).read_text(encoding="utf-8"))["metrics"])
        if "selected" in metrics:
            self.write_metrics(metrics)
        else:
            (self.path / METRICS).unlink(missing_ok=True)
        return metrics

    def forget_the_end(self) -> None:
        """Take away ranks and report of an end that the run had come to: of another model."""
        for name in (PER_USER, REPORT):
            with writing(self.path / name):
                (self.path / name).unlink(missing_ok=True)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json`` anew."""
        self._write_json(METRICS, metrics)

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
        with replacing(self.path / PER_USER) as unfinished:
            pd.concat(frames, ignore_index=True).to_parquet(unfinished, index=False)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        write_whole(self.path / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def own_names(config: Mapping[str, Any]) -> dict[str, str]:
    """The options of a run that name code of the user's own, such as ``--rule``."""
    told = {
        "--rule": config.get("transplant", {}).get("rule", ""),
        "--model": config.get("model", {}).get("model", ""),
    }
    return {option: name for option, name in told.items() if is_own(name)}


def resume_command(run: Path, config: Mapping[str, Any]) -> str:
    """What goes on with a run: code of the user's own has to be named again, as it is run."""
    named = [word for option in own_names(config).items() for word in option]
    return shlex.join(["peercollab", "train", "--resume", str(run), *named])


def report_command(folder: Path) -> str:
    """What writes the report of a run or a comparison."""
    return shlex.join(["peercollab", "report", str(folder)])


def recommend_command(run: Path, config: Mapping[str, Any]) -> str:
    """What recommends to the users that a run was trained on.

    Parameters
    ----------
    run
        The folder.
    config
        What lies there as ``config.json``. Where its data are not to be seen from here, or were a
        table of Python's, the user has to name a file.
    """
    told = run / DEMO_FILE if config["data"] == DEMO else Path(config["data"])
    histories = str(told) if told.is_file() else UNNAMED
    model = own_names(config).get("--model")
    named = [] if model is None else ["--model", model]
    command = ["peercollab", "recommend", str(run), "--histories", histories, *named, "--k", "10"]
    return shlex.join(command)


@contextmanager
def of_this_version(folder: Path, remedy: str = "train anew") -> Iterator[None]:
    """Say of a folder that lacks what is looked for that it is not what this version writes.

    Parameters
    ----------
    folder
        Of a run or a comparison.
    remedy
        What to do.

    Raises
    ------
    PeercollabError
        It is of another version of peercollab, or damaged.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise PeercollabError(
            f"{folder} is of another version of peercollab, or damaged ({reason}): {remedy}"
        ) from error


def read_config(run: Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises
    ------
    PeercollabError
        The path is no run folder, or the file is damaged or cannot be read.
    """
    path = run / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if not run.exists():
            raise PeercollabError(f"{run} does not exist: give the --out of a training") from error
        raise PeercollabError(
            f"{run} is not the folder of a run ({CONFIG} is missing): give the --out of a training"
        ) from error
    except OSError as error:
        raise PeercollabError(f"{path} cannot be read: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PeercollabError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise PeercollabError(f"{path} is damaged: it is no JSON object")
    return config
