"""A peer: a trainer that can also measure, give and receive layers.

A plain class: it knows nothing of Ray, of other peers, or of who calls it.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from peercollab.actors.messages import (
    Best,
    LayerArrays,
    PeerProgress,
    PeerReport,
    PeerSetup,
    Phase,
    SharedSetup,
    Soup,
)
from peercollab.data.sequences import Histories, Int32Array
from peercollab.data.split import HoldOut
from peercollab.disk import text_of
from peercollab.errors import DivergedError, LostError
from peercollab.models.saved import save_weights
from peercollab.results.checkpoint import Digests, peer_tree, read_tree, save_tree
from peercollab.training.growth import most_allowed
from peercollab.training.metrics import SELECTION_METRIC, metrics_of
from peercollab.training.soup import Weights, greedy_soup, uniform_soup
from peercollab.training.trainer import Epoch, Trainer, TrainerState
from peercollab.transplant.grafting import Graft, Grafting, Parcel, shared_tensor
from peercollab.transplant.layers import LayerMap, layer_tensors
from peercollab.transplant.plan import LayerStatistics, Request, TransplantPlan
from peercollab.transplant.rules.rule import Select


class Peer:
    """One peer of a run.

    Parameters
    ----------
    own, shared
        Its own settings, and those of all.
    histories
        The interactions, only read.
    device
        Where it trains.
    on_progress
        Called as training goes on, for peers that live in the caller's process.
    """

    def __init__(
        self,
        own: PeerSetup,
        shared: SharedSetup,
        histories: Histories,
        device: torch.device,
        on_progress: Callable[[], None] | None = None,
    ) -> None:
        torch.set_num_threads(shared.threads)
        self.number = own.number
        self.best = shared.best
        self.transplant = shared.transplant
        self.rule = shared.transplant.rule
        criterion = self.rule.measure
        self.trainer = Trainer(
            histories,
            shared.model if own.dropout is None else shared.model.with_dropout(own.dropout),
            shared.training,
            stream=own.stream,
            learning_rate=own.learning_rate,
            device=device,
            augmentation=own.augmentation,
            measure_importance=criterion is not None and criterion.of == "gradient",
        )
        self.grafting = Grafting(self.trainer.model, shared.transplant, self.trainer, device)
        self._round = 0
        self._trouble: str | None = None
        self._most = math.inf
        self._last_finite = self.trainer.state()
        self._is_ruined = False
        self._kept: tuple[Best, Weights] | None = None
        self._is_halted = False
        self._on_progress = on_progress
        self._progress = PeerProgress(
            own.number, 0, 0, self.trainer.steps_per_epoch, math.nan, "wait"
        )

    def layers(self) -> LayerMap:
        """The layers of its model."""
        return self.grafting.layers

    def steps(self) -> int:
        """Steps of an epoch."""
        return self.trainer.steps_per_epoch

    def numbers(self) -> str:
        """In which numbers it trains, and why."""
        return str(self.trainer.numbers)

    def progress(self) -> PeerProgress:
        """Where it is now; may be asked at any time."""
        return self._progress

    def halt(self) -> None:
        """Give up the work at hand, at the next step; may be asked at any time.

        Whatever is asked then comes to nothing, until `restore`.
        """
        self._is_halted = True

    def train(self, round: int, stop: int) -> str | None:
        """Go on with the round's epoch up to and including a step.

        A peer that comes to a loss or a weight that is no finite number, or to weights so large
        that others must not have them, goes back to its last finite state and sits the rest of
        the round out.

        Returns
        -------
        str or None
            Why it sits the round out, if it does.
        """
        with self._timed("train"):
            if round == self._round:
                self._tell_phase("train")
            else:
                self._begin(round)
            if self._trouble is None:
                try:
                    self._epoch = self.trainer.train_to(stop, self._tell_step, self._most)
                    self._require_finite_moments()
                except DivergedError as error:
                    self._sit_out(str(error))
            self._tell_phase("exchange")
        return self._trouble

    def rank(self, round: int) -> PeerReport:
        """Rank validation where it is due, and say what the round came to.

        Weights can be finite and yet so large that no score is: then, too, it sits the round out.
        """
        validation = None
        if self._trouble is None and self._validates(round):
            with self._timed("rank"):
                self._tell_phase("rank")
                try:
                    validation = metrics_of(self.trainer.rank("validation", self._tell_rows))
                    self._keep_own_best(Best(self.number, round, validation[SELECTION_METRIC]))
                except DivergedError as error:
                    self._sit_out(str(error))
            self._tell_phase("exchange")
        return PeerReport(
            self.number,
            None if self._trouble else self._epoch.loss,
            self._epoch.learning_rate,
            0 if self._trouble else self._epoch.positions,
            validation,
            dict(self._seconds),
            self._trouble,
        )

    def save_best(self) -> None:
        """Put the ranked weights into the run's folder of the kept model."""
        save_weights(self.trainer.ranked.state_dict(), self.best)

    def statistics(self, layers: Sequence[str]) -> LayerStatistics:
        """The rule's criterion of each layer; empty if the rule measures none."""
        return self.grafting.statistics(layers)

    def export(self, request: Request) -> Parcel:
        """What is asked of it, on a CPU: views of the present weights, or copies."""
        return self.grafting.export(request)

    def graft(self, plan: TransplantPlan, *parcels: Parcel) -> Graft:
        """Mix what donors exported into the present weights, as in `Grafting.graft`."""
        return self.grafting.graft(plan, *parcels)

    def weights(self) -> LayerArrays:
        """All tensors of the model, as views of the present weights on a CPU."""
        tensors = layer_tensors(self.trainer.model)
        return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}

    def settle(self) -> None:
        """Note the state at the end of a round, if it is finite, as the one to go back to."""
        # A checkpoint holds finite states alone: that there is another one now is kept beside it.
        self._is_ruined = not self.trainer.is_finite()
        if not self._is_ruined:
            self._last_finite = self.trainer.state()

    def read(self, path: Path) -> str | None:
        """The text of a small file; None if it is not there, seen from here."""
        return text_of(path)

    def checkpoint(self, folder: Path) -> Digests:
        """Write all that it needs to go on from the end of the round; the files' digests."""
        return save_tree(self._state(), folder, peer_tree(self.number))

    def restore(self, folder: Path) -> int:
        """Go back to what `checkpoint` wrote, whatever happened since; its round."""
        self._is_halted = False
        state = read_tree(folder, peer_tree(self.number))
        self._last_finite = TrainerState(**state["trainer"])
        self.trainer.restore(self._last_finite)
        self._is_ruined = state["is_ruined"]
        self.grafting.remember(state["memory"])
        kept = state["kept"]
        self._kept = kept and (Best(**kept["best"]), kept["weights"])
        self._round = state["round"]
        return self._round

    def follow(self, folder: Path, leader: int) -> None:
        """Go on from the weights of another peer in a checkpoint, and from what it remembers.

        For a peer that was away while the others, under a rule that remembers, went on together.
        """
        state = read_tree(folder, peer_tree(leader))
        self._last_finite = replace(self._last_finite, model=state["trainer"]["model"])
        self.trainer.restore(self._last_finite)
        self._is_ruined = state["is_ruined"]
        self.grafting.remember(state["memory"])

    def ingredient(self) -> tuple[Best, LayerArrays] | None:
        """Its best ranked state, for a soup; None if it was never ranked."""
        if self._kept is None:
            return None
        best, weights = self._kept
        return best, {name: tensor.numpy() for name, tensor in weights.items()}

    def soup(self, select: Select, *parts: tuple[Best, LayerArrays] | None) -> Soup:
        """Average peers' best states, rank the average, and save it as the kept model."""
        found = sorted((p for p in parts if p is not None), key=lambda part: -part[0].value)
        ingredients = [{n: shared_tensor(a) for n, a in arrays.items()} for _, arrays in found]
        chosen = list(range(len(ingredients)))
        if select == "greedy-soup":
            chosen = greedy_soup(
                ingredients, lambda weights: self._validate(weights)[SELECTION_METRIC]
            )
        weights = uniform_soup([ingredients[place] for place in chosen])
        save_weights(weights, self.best)
        value = self._validate(weights)
        self._tell_phase("wait")
        return Soup([found[place][0] for place in chosen], value)

    def rank_selected(self, hold_out: HoldOut) -> Int32Array:
        """int32 ``[users]``: ranks under the kept model, as it lies in the run's folder."""
        ranks_U = self.trainer.rank_saved(self.best, hold_out, self._tell_rows)
        self._tell_phase("wait")
        return ranks_U

    def _begin(self, round: int) -> None:
        self._tell(PeerProgress(self.number, round, 0, self.steps(), math.nan, "train"))
        self._round = round
        self._seconds: dict[str, float] = {}
        self._trouble = None
        self._epoch = Epoch(math.nan, 0, self.trainer.learning_rate)
        if self._is_ruined or not self.trainer.is_finite():
            self._sit_out(f"weights were NaN or infinite at the start of epoch {round}")
        # A peer that explodes while its numbers are still finite would take all others along.
        if self.rule.exchanges and self.rule.has_donors:
            self._most = most_allowed(self.trainer.model)
        self.trainer.begin_epoch(round)

    def _sit_out(self, trouble: str) -> None:
        self._trouble = trouble
        self.trainer.restore(self._last_finite)

    def _require_finite_moments(self) -> None:
        """Weights can be finite while the moments that travel with them are not."""
        if self.transplant.moments == "transplant" and not all(
            part_T.isfinite().all() for parts in self.trainer.moments().values() for part_T in parts
        ):
            raise DivergedError(f"moments became NaN or infinite in epoch {self._round}")

    def _keep_own_best(self, now: Best) -> None:
        if self.transplant.select != "best" and (
            self._kept is None or now.value > self._kept[0].value
        ):
            state = self.trainer.ranked.state_dict()
            self._kept = now, {n: t.detach().to("cpu", copy=True) for n, t in state.items()}

    def _validate(self, weights: Weights) -> dict[str, float]:
        return metrics_of(self.trainer.rank_weights(weights, "validation", self._tell_rows))

    def _state(self) -> dict[str, Any]:
        last = self._last_finite
        kept = self._kept and {"best": asdict(self._kept[0]), "weights": self._kept[1]}
        return {
            "round": self._round,
            "trainer": {
                "model": last.model,
                "optimizer": last.optimizer,
                "average": last.average,
            },
            "is_ruined": self._is_ruined,
            "memory": self.grafting.memory,
            "kept": kept,
        }

    def _validates(self, round: int) -> bool:
        options = self.trainer.options
        return round % options.validate_every == 0 or round == options.epochs

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[phase] = self._seconds.get(phase, 0.0) + time.perf_counter() - started

    def _tell_step(self, step: int, steps: int, loss: float) -> None:
        self._tell(PeerProgress(self.number, self._round, step, steps, loss, "train"))

    def _tell_rows(self, rows_done: int, rows: int) -> None:
        self._tell(replace(self._progress, step=rows_done, steps=rows, phase="rank"))

    def _tell_phase(self, phase: Phase) -> None:
        self._tell(replace(self._progress, phase=phase))

    def _tell(self, progress: PeerProgress) -> None:
        if self._is_halted:
            raise LostError(f"peer {self.number} gave its work up, as another was lost")
        self._progress = progress
        if self._on_progress is not None:
            self._on_progress()
