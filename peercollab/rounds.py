"""The rounds of a run: each trained, recorded and checkpointed, from wherever the run stands."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from peercollab.actors.executor import Executor, Watch, peers_in_words
from peercollab.actors.messages import Best, PeerProgress, Soup
from peercollab.data.demo import DEMO_FILE, write_csv
from peercollab.data.read import Interactions
from peercollab.data.sequences import SequenceData
from peercollab.data.split import HOLD_OUTS, HoldOut, queries, training_counts
from peercollab.disk import token_in, writing
from peercollab.errors import FaultError, LostError, PeercollabError
from peercollab.machine import environment
from peercollab.models.saved import save_description
from peercollab.options import TrainOptions
from peercollab.results.display import RunDisplay, say
from peercollab.results.heartbeat import Heartbeat, last_beat, require_idle
from peercollab.results.run_folder import (
    CONFIG,
    RunFolder,
    recommend_command,
    report_command,
    resume_command,
)
from peercollab.training.metrics import SELECTION_METRIC, metrics_of

# Losses after which a run is given up, if no checkpoint was written between them.
MOST_LOSSES = 20


@dataclass(frozen=True)
class RunResult:
    """What a run came to: its folder, its metrics as in ``metrics.json``, its rounds' records."""

    folder: Path
    metrics: dict[str, Any]
    rounds: list[dict[str, Any]]


class Rounds:
    """A run as it goes on, and what is written about it.

    Parameters
    ----------
    options
        Of the run.
    folder
        Its folder.
    executor
        The peers.
    data
        What they are trained on.
    popularity
        int32 ``[users]`` for each split: ranks by popularity.
    """

    def __init__(
        self,
        options: TrainOptions,
        folder: RunFolder,
        executor: Executor,
        data: SequenceData,
        popularity: dict[HoldOut, np.ndarray],
    ) -> None:
        self.options = options
        self.folder = folder
        self.executor = executor
        self.data = data
        self.rounds: list[dict[str, Any]] = []
        self._interruptions: list[str] = []
        self._faults: set[str] = set()
        self._losses = 0
        # Who sees this as it is sees the folder.
        self._proof = (folder.path / CONFIG).absolute()
        self._heartbeat = Heartbeat(folder.path, lambda: self._interruptions)
        self.metrics: dict[str, Any] = {
            "popularity": {split: metrics_of(ranks) for split, ranks in popularity.items()}
        }

    def begin(self, config: dict[str, Any], demo: Interactions | None) -> RunResult:
        """Make the folder and fill it; stopped before a round is complete, none is left."""
        # Again: the way to here may have taken long, and others may have come first.
        require_idle(self.folder.path)
        self.folder.require_creatable(overwrite=self.options.overwrite)
        about_here = environment()
        try:
            self.folder.create(config, about_here)
        except BaseException:
            self.folder.remove()
            raise
        with self._heartbeat:
            try:
                self._fill(demo)
                return self._run()
            except BaseException:
                # After a loss it can be resumed, from before the first round if need be.
                is_nothing = not (self.rounds or self._losses)
                if is_nothing and self._heartbeat.is_ours():
                    self.folder.remove()
                raise

    def resume(self, config: dict[str, Any]) -> RunResult:
        """Go on from the last checkpoint that is whole, under this configuration.

        Raises
        ------
        PeercollabError
            There is none, or the run has come to its end already.
        """
        beat = last_beat(self.folder.path)
        with self._heartbeat:
            self._require_shared_folder()
            round = self.folder.checkpoints.latest(say)
            if round is None:
                raise PeercollabError(
                    f"--resume {self.folder.path}: no checkpoint of the run is whole; train anew"
                )
            self.rounds = self.folder.rounds()
            if self._is_over() and "test" in self.folder.metrics():
                raise PeercollabError(
                    f"--resume {self.folder.path}: the run has come to its end already; more "
                    "--epochs would go on with it"
                )
            # A driver that was killed could not put down what went wrong in its last round.
            told = {event for record in self.rounds for event in record["interruptions"]}
            self._interruptions += (
                [event for event in beat.events if event not in told] if beat else []
            )
            try:
                self._go_back(round)
            except LostError as error:
                self._recover(error, say)
            self.folder.forget_the_end()
            self.folder.write_config(config)
            self._note(f"resumed after round {round}")
            say(f"resumed after round {round} of {self.options.training.epochs}")
            return self._run()

    def _fill(self, demo: Interactions | None) -> None:
        """All that is in the folder before the first round."""
        if demo:
            with writing(self.folder.path / DEMO_FILE):
                write_csv(demo, self.folder.path / DEMO_FILE)
        histories, model = self.data.histories, self.options.model.build()
        save_description(histories.n_items, model, self.folder.best, histories.n_users)
        self.folder.write_items(self.data.item_ids, training_counts(histories))
        if model.of_users:
            self.folder.write_users(self.data.user_ids)
        self._require_shared_folder()
        self._checkpoint()

    def _run(self) -> RunResult:
        try:
            self._until_done(self._complete, say)
            self._note_late_interruptions()
        except BaseException:
            if self.rounds and self._heartbeat.is_ours():
                with suppress(PeercollabError):  # The disk may be what is wrong.
                    self._note_late_interruptions()
                say(self._left_in_words())
            raise
        return RunResult(self.folder.path, self.metrics, self.rounds)

    def _left_in_words(self) -> str:
        """What there is of a run that does not come to its end, and what can be done with it."""
        path, options = self.folder.path, self.options.as_json()
        count = len(self.rounds)
        rounds = "1 round is complete" if count == 1 else f"{count} rounds are complete"
        again = f"`{resume_command(path, options)}` goes on"
        if "selected" not in self.metrics:
            return f"{rounds}, and none has been ranked yet; {again}"
        return (
            f"{rounds}, and the best state of them is kept: "
            f"`{recommend_command(path, options)}` and `{report_command(path)}` work, and {again}"
        )

    def _run_rounds(self) -> None:
        with RunDisplay(self.options.training.epochs) as display:

            def watch(progress: Sequence[PeerProgress]) -> None:
                self._heartbeat.progress = progress
                display.watch(progress)

            while not self._is_over():
                self._until_done(partial(self._run_round, display, watch), display.say)
            if len(self.rounds) < self.options.training.epochs:
                display.say(
                    f"stopped: no better validation {SELECTION_METRIC} in "
                    f"{self.options.training.patience} rounds"
                )

    def _until_done(self, work: Callable[[], None], tell: Callable[[str], None]) -> None:
        """Do it, and if a peer or the coordinator is lost meanwhile, again from the checkpoint."""
        while True:
            try:
                return work()
            except LostError as error:
                self._recover(error, tell)

    def _recover(self, lost: LostError, tell: Callable[[str], None]) -> None:
        """Have whoever was lost come back, and take all back to the last checkpoint.

        Raises
        ------
        PeercollabError
            Too few come back in time, or they are lost again and again.
        """
        while True:
            self._heartbeat.require_ours()
            if isinstance(lost, FaultError):
                if lost.kind in self._faults:
                    raise PeercollabError(
                        f"{lost}: it did so twice since the last checkpoint"
                    ) from lost
                self._faults.add(lost.kind)
            self._note(str(lost))
            self._losses += 1
            if self._losses > MOST_LOSSES:
                raise PeercollabError(
                    f"given up: {self._losses} losses since the last checkpoint; the last: {lost}"
                ) from lost
            round = self.folder.checkpoints.latest(tell)
            if round is None:
                raise PeercollabError("no checkpoint of the run is whole to go back to") from lost
            tell(f"lost: {lost}; all go back to the end of round {round}")
            try:
                self._await_return(tell, lost)
                self._heartbeat.require_ours()
                self._go_back(round)
            except LostError as another:
                lost = another
            else:
                return

    def _await_return(self, tell: Callable[[str], None], lost: LostError) -> None:
        """Wait for those who were lost; who does not come back in time is left out."""
        execution = self.options.execution
        before = self.executor.away
        why = self.executor.await_return(self._proof)
        away = self.executor.away
        waited = f"did not come back within --rejoin-within {execution.rejoin_within:g} s{why}"
        if (there := execution.peers - len(away)) < execution.least_peers:
            raise PeercollabError(
                f"{peers_in_words(away)} {waited}, which leaves {there}, fewer than --min-peers "
                f"{execution.least_peers}"
            ) from lost
        if left := [peer for peer in away if peer not in before]:
            self._tell_and_note(tell, f"{peers_in_words(left)} {waited}: the others go on without")
        if back := [peer for peer in before if peer not in away]:
            self._tell_and_note(tell, f"{peers_in_words(back)} came back")

    def _tell_and_note(self, tell: Callable[[str], None], event: str) -> None:
        tell(event)
        self._note(event)

    def _note(self, event: str) -> None:
        """Put an event down for the next record; until then it stands in the heartbeat."""
        self._interruptions.append(event)
        self._heartbeat.beat()

    def _run_round(self, display: RunDisplay, watch: Watch) -> None:
        self._heartbeat.require_ours()
        display.stand(self.rounds)
        record = self.executor.run_round(len(self.rounds) + 1, watch).as_json()
        # A round is long enough for another driver to take the folder meanwhile.
        self._heartbeat.require_ours()
        self._add(record | {"interruptions": self._interruptions})
        self._interruptions = []
        display.record(self.rounds[-1])
        every = self.options.execution.checkpoint_every
        if len(self.rounds) % every == 0 or self._is_over():
            self._checkpoint()
            self._losses = 0
            self._faults.clear()
            if not self._is_over() and (back := self.executor.take_back(self._proof)):
                self._tell_and_note(display.say, f"{peers_in_words(back)} came back")
                self._go_back(len(self.rounds))

    def _is_over(self) -> bool:
        """Whether all rounds are complete, or too many have brought nothing better."""
        training = self.options.training
        if not self.rounds or len(self.rounds) >= training.epochs:
            return bool(self.rounds)
        best = self.rounds[-1]["best"]
        return bool(
            training.patience and best and len(self.rounds) - best["round"] >= training.patience
        )

    def _add(self, record: dict[str, Any]) -> None:
        self.rounds.append(record)
        self.folder.add_round(record)
        if (best := record["best"]) and best["round"] == record["round"]:
            self.metrics["selected"] = best
            self.metrics["validation"] = record["peers"][best["peer"] - 1]["validation"]
            self.folder.write_metrics(self.metrics)

    def _checkpoint(self) -> None:
        """Write all that is needed to go on from here."""
        round = len(self.rounds)
        path = self.folder.checkpoints.begin(round)
        try:
            files = self.executor.checkpoint(path)
            away = [peer + 1 for peer in self.executor.away]
            self.folder.checkpoint(round, self.metrics, files, away)
        except BaseException:
            self.folder.checkpoints.discard(round)
            raise

    def _go_back(self, round: int) -> None:
        """Take everything back to a checkpoint: the folder, what is known here, and the peers."""
        kept = self.folder.rounds_up_to(round)
        best = kept[-1]["best"] if kept else None
        # Peers first: one may be writing the best state of a round that is to be done again.
        self.executor.restore(
            self.folder.checkpoints.of(round).absolute(),
            best and Best(best["peer"], best["round"], best[SELECTION_METRIC]),
        )
        self.metrics = self.folder.go_back(round)
        # What went wrong in rounds that are done again is told with the next one.
        undone = [told for record in self.rounds[round:] for told in record["interruptions"]]
        self._interruptions = undone + self._interruptions
        self.rounds = kept

    def _require_shared_folder(self) -> None:
        """See to it that every peer reads in the run's folder what is written there from here."""
        with token_in(self.folder.path) as (path, token):
            for number, seen in enumerate(self.executor.read(path), start=1):
                if seen != token:
                    raise PeercollabError(
                        f"peer {number} does not see the folder {self.folder.path}: with more than "
                        "one node it must lie on a file system that all of them share, under the "
                        "same path"
                    )

    def _complete(self) -> None:
        # After a loss at the end, too: the last whole checkpoint may not be that of the last round.
        if not self._is_over():
            self._run_rounds()
        self._finish()
        self._judge()

    def _note_late_interruptions(self) -> None:
        """What went wrong after the last complete round is told with it."""
        if self._interruptions:
            self.rounds[-1]["interruptions"] += self._interruptions
            self.folder.write_rounds(self.rounds)
            self._interruptions = []

    def _finish(self) -> None:
        """Keep a soup of the peers in place of the best of them, if that is wanted."""
        soup = self.executor.finish()
        self._heartbeat.require_ours()
        if soup is not None:
            select = self.options.transplant.build().select
            self.metrics["selected"] = _selected(select, soup)
            self.metrics["validation"] = soup.validation
            self.folder.write_metrics(self.metrics)

    def _judge(self) -> None:
        """Rank under the kept state, once, when nothing is left to be chosen."""
        ranks = {split: self.executor.rank_selected(split) for split in HOLD_OUTS}
        users = queries(self.data.histories, "test").users
        self._heartbeat.require_ours()
        self.folder.write_per_user(self.data.user_ids[users], ranks)
        # Written last: a run that has test metrics has come to its end.
        self.metrics["test"] = metrics_of(ranks["test"])
        self.folder.write_metrics(self.metrics)


def _selected(select: str, soup: Soup) -> dict[str, Any]:
    """A soup that is kept, as it stands in ``metrics.json``."""
    return {
        "select": select,
        "ingredients": [
            {"peer": best.peer, "round": best.round, SELECTION_METRIC: best.value}
            for best in soup.ingredients
        ],
        SELECTION_METRIC: soup.validation[SELECTION_METRIC],
    }
