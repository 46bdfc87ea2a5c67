"""The folder of a comparison: what lies where, and whether a command may go on with it.

::

    asked.json        what was asked for, now and before
    chosen.json       after a search, the trial that each arm took
    comparison.json   options, arms, what every run came to, and what differs: all that is shown
    report.html       the same to look at
    runs/NAME/        seed-10, the folder of a run, with seed-10.outcome.json and seed-10.log
    endings/NAME/     seed-10: ranks and metrics of several runs that ended as one
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from peercollab.comparison.arms import Arm
from peercollab.comparison.search import SEARCH_SEED
from peercollab.comparison.work import EndingJob, TrainingJob, outcome_in
from peercollab.disk import writing
from peercollab.errors import PeercollabError
from peercollab.results.checkpoint import write_whole
from peercollab.results.run_folder import of_this_version
from peercollab.resume import flat_options

COMPARISON = "comparison.json"
ASKED = "asked.json"
CHOSEN = "chosen.json"

# What may be told anew when a comparison is gone on with; arms only if they mean what they did.
FREE = {
    "out",
    "data",
    "arms",
    "seeds",
    "baseline",
    "compared_with",
    "executor",
    "address",
}


def telling_of_damage(folder: Path) -> AbstractContextManager[None]:
    """Say of a record that lacks what is looked for that it is not what was written."""
    return of_this_version(
        folder,
        "the same peercollab compare writes comparison.json anew, or give another folder",
    )


class ComparisonFolder:
    """A comparison's folder, by its path; nothing is touched until `open`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def open(self, options: Mapping[str, Any], arms: Sequence[Arm], data_checksum: str) -> None:
        """Make it, or make sure that it holds the same comparison, with other arms perhaps.

        Parameters
        ----------
        options
            All of them.
        arms
            What is asked for.
        data_checksum
            Of the prepared data.

        Raises
        ------
        PeercollabError
            It cannot be made, or holds something else or another comparison.
        """
        told = {of.name: {"told": of.told, "trained": of.trained_with} for of in arms}
        asked: dict[str, Any] = json.loads(
            _text({**options, "arms": told, "data_checksum": data_checksum})
        )
        baselines: list[str] = []
        most_seeds = 0
        if (self.path / ASKED).is_file():
            before = self._asked()
            self._require_same(before, asked)
            asked["arms"] = before["arms"] | asked["arms"]
            if self.looked_at():
                baselines = before.get("baselines", [before["compared_with"]])
                most_seeds = before.get("most_seeds", before["seeds"])
        elif self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise PeercollabError(
                f"--out {self.path} is there already, and no comparison: give another folder"
            )
        asked["baselines"] = list(dict.fromkeys([*baselines, asked["compared_with"]]))
        asked["most_seeds"] = max(most_seeds, asked["seeds"])
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / ASKED, _text(asked))

    def notes(self) -> list[str]:
        """A line for each choice that may have been made after a look, which p does not count."""
        asked = self._asked()
        others = [name for name in asked["baselines"] if name != asked["compared_with"]]
        notes = []
        if others:
            notes.append(
                f"arms are compared with {asked['compared_with']}, and were with "
                f"{', '.join(others)} before: p does not count that a baseline was chosen after a "
                "look"
            )
        if (most := asked["most_seeds"]) > asked["seeds"]:
            notes.append(
                f"of {most} seeds only {asked['seeds']} are looked at: --seeds {most} takes the "
                "others in again"
            )
        return notes

    def chosen(self) -> dict[str, int]:
        """Of each arm whose search has come to its end, the number of the trial that it took."""
        path = self.path / CHOSEN
        if not path.is_file():
            return {}
        try:
            return {
                name: int(number)
                for name, number in json.loads(path.read_text(encoding="utf-8")).items()
            }
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise PeercollabError(f"{path} is damaged: {error}") from error

    def choose(self, chosen: Mapping[str, int]) -> None:
        """Write that down, so that it stays whatever becomes of a trial that failed."""
        write_whole(self.path / CHOSEN, _text(chosen))

    def looked_at(self) -> set[str]:
        """Arms that ever came to a model, under this command or an earlier one; not in a search."""
        asked = self._asked()
        searched = f"seed-{asked['training']['seed'] + SEARCH_SEED}.outcome.json"
        found = {
            re.sub(r"\.t\d+$", "", path.parent.name)
            for path in self.path.glob("*/*/seed-*.outcome.json")
            if path.name != searched
            and (outcome := outcome_in(path)) is not None
            and outcome.error is None
        }
        return found & asked["arms"].keys()

    def trainings(self, arm: Arm, seed: int) -> list[TrainingJob]:
        """All that has to be trained for a seed of an arm; other arms may need the same."""
        return [
            TrainingJob(training, seed, self.path / "runs" / training.name / f"seed-{seed}")
            for training in arm.trainings
        ]

    def ending(self, arm: Arm, seed: int) -> EndingJob | None:
        """What is to be done when these are trained, if anything."""
        if arm.ending is None:
            return None
        members = tuple(self.trainings(arm, seed))
        folder = self.path / "endings" / f"{arm.name}{arm.mark}" / f"seed-{seed}"
        return EndingJob(arm, members, seed, folder)

    def last(self, arm: Arm, seed: int) -> TrainingJob | EndingJob:
        """The job in whose folder lie metrics and ranks of a seed of an arm."""
        return self.ending(arm, seed) or self.trainings(arm, seed)[0]

    def write(self, comparison: Mapping[str, Any]) -> None:
        """Write ``comparison.json`` anew."""
        write_whole(self.path / COMPARISON, _text(comparison))

    def _asked(self) -> dict[str, Any]:
        path = self.path / ASKED
        try:
            asked = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PeercollabError(f"{path} is damaged: {error}") from error
        known = isinstance(asked, dict) and {"data_checksum", "compared_with"} <= asked.keys()
        arms = asked.get("arms") if known else None
        if not (isinstance(arms, dict) and all(map(_is_arm, arms.values()))):
            raise PeercollabError(
                f"{path} is damaged, or of another version of peercollab: give another folder"
            )
        return asked

    def _require_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        if before["data_checksum"] != now["data_checksum"]:
            raise PeercollabError(
                f"--out {self.path} compares on other data than {now['data']} holds: give the data "
                "of then, or another folder"
            )
        both = [(name, before["arms"][name]) for name in now["arms"] if name in before["arms"]]
        for name, then in both:
            if (told := now["arms"][name]["told"]) != then["told"]:
                raise PeercollabError(
                    f"--arms: {told!r} was {then['told']!r} in {self.path}: give it "
                    "another name, or another folder with --out"
                )
        old, new = flat_options({**before, "arms": None}), flat_options({**now, "arms": None})
        for name in sorted((old.keys() & new.keys()) - FREE):
            if old[name] != new[name]:
                raise PeercollabError(
                    f"--out {self.path} has --{name.replace('_', '-')} {old[name]}, which cannot "
                    f"become {new[name]}: leave it as it was, or give another folder"
                )
        for name, then in both:
            trained = now["arms"][name]["trained"]
            for option in sorted(then["trained"].keys() & trained.keys()):
                if then["trained"][option] != trained[option]:
                    raise PeercollabError(
                        f"--arms: {name} is trained in {self.path} with another {option}, which "
                        "its file has changed since: change it back, or give the arm another name"
                    )


def _is_arm(content: object) -> bool:
    return isinstance(content, dict) and {"told", "trained"} <= content.keys()


def read_comparison(folder: Path) -> dict[str, Any]:
    """What a comparison came to, whole or not, as ``comparison.json`` has it.

    Raises
    ------
    PeercollabError
        It is not there yet, or damaged.
    """
    path = folder / COMPARISON
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise PeercollabError(
            f"{path} is not there yet: it is written when the comparison ends or is stopped"
        ) from error
    except (OSError, ValueError) as error:
        raise PeercollabError(f"{path} is damaged: {error}") from error


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
