"""A training run from data to result: the wiring of all rooms, and the loop over rounds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from peercollab.actors.executor import Executor, LocalExecutor
from peercollab.actors.messages import PeerSetup, SharedSetup, Soup
from peercollab.actors.options import ExecutionOptions
from peercollab.data.demo import demo_interactions, write_csv
from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions, prepare
from peercollab.data.read import Interactions, read_interactions
from peercollab.data.sequences import Histories, SequenceData
from peercollab.data.split import HOLD_OUTS, HoldOut, queries, training_counts
from peercollab.errors import PeercollabError
from peercollab.machine import environment, usable_cores
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import save_description
from peercollab.results.display import RunDisplay
from peercollab.results.run_folder import RunFolder
from peercollab.training.diversity import DiversityOptions
from peercollab.training.metrics import MISS, SELECTION_METRIC, metrics_of
from peercollab.training.options import TrainingOptions
from peercollab.training.popularity import Popularity
from peercollab.training.schedule import spread_learning_rate
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.rules.own_rule import OwnRule
from peercollab.transplant.rules.rule import Rule

DEMO = "demo"
DEMO_FILE = "demo.csv"

# Above this share of held-out items that the user has seen already, filtering hides too much.
MANY_SEEN_TARGETS = 0.05


@dataclass(frozen=True)
class TrainOptions:
    """Train peers on an interaction log, and keep the best of them."""

    out: Path
    """Folder of the run; made anew."""
    data: str = DEMO
    """An interaction file, or demo: a synthetic log made on the spot."""
    overwrite: bool = False
    """Replace the run that is in --out."""
    read: ReadOptions = field(default_factory=ReadOptions)
    prepare: PrepareOptions = field(default_factory=PrepareOptions)
    model: SASRecOptions = field(default_factory=SASRecOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)
    diversity: DiversityOptions = field(default_factory=DiversityOptions)
    transplant: TransplantOptions = field(default_factory=TransplantOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)

    def __post_init__(self) -> None:
        rule = self.transplant.build().rule
        if rule.remembers and self.training.init == "own":
            raise PeercollabError(
                f"--rule {self.transplant.rule} goes on from weights that all peers share: leave "
                "--init own out"
            )
        self.diversity.require_peers(self.execution.peers)
        for number in range(1, self.execution.peers + 1):
            self.diversity.dropout(self.model.dropout, number, self.execution.peers)

    def as_json(self) -> dict[str, Any]:
        """All options, as they stand in the run's ``config.json``."""
        return asdict(self) | {"out": str(self.out)}


@dataclass(frozen=True)
class RunResult:
    """What a run came to: its folder, its metrics as in ``metrics.json``, its rounds' records."""

    folder: Path
    metrics: dict[str, Any]
    rounds: list[dict[str, Any]]


def train(options: TrainOptions, *, peers: Sequence[PeerSetup] | None = None) -> RunResult:
    """Train, keep the best state by validation NDCG@10, and rank the test items under it.

    Parameters
    ----------
    options
        Everything that the command line offers.
    peers
        The peers' own settings; by default as many as the options say, with streams 1 to N and
        learning rates spread.

    Raises
    ------
    PeercollabError
        Data, options or machine do not allow the run, or a peer failed. If no round was
        completed, no folder is left.
    KeyboardInterrupt
        It was stopped; what the last completed round left is usable.
    """
    folder = RunFolder(options.out)
    folder.require_creatable(overwrite=options.overwrite)
    interactions = read_data(options)
    data, counts = prepare(interactions, options.prepare)
    _say(counts.describe())
    popularity = popularity_ranks(data.histories, keep_seen=options.training.keep_seen)
    _say_seen_targets(popularity["test"], options.training.keep_seen)
    if peers is None:
        peers = default_peers(options)
    transplant = options.transplant.build()
    shared = SharedSetup(
        model=options.model,
        training=with_start(options.training, transplant.rule),
        transplant=transplant,
        threads=options.execution.threads(usable_cores()),
        best=folder.best.absolute(),
    )
    _say(_describe_peers(options, peers, shared.threads))
    with start_executor(options.execution, peers, shared, data.histories) as executor:
        config = options.as_json() | {
            "layout": asdict(interactions.layout),
            "peers": [asdict(peer) for peer in peers],
            "threads": shared.threads,
            "settings": _settings(shared),
        }
        _say(f"numbers: {executor.numbers()}")
        demo = interactions if options.data == DEMO else None
        return _Training(options, folder, executor, data, popularity).run(config, demo)


class _Training:
    """The rounds of a run, and what is written about them."""

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
        self.metrics: dict[str, Any] = {
            "popularity": {split: metrics_of(ranks) for split, ranks in popularity.items()}
        }

    def run(self, config: dict[str, Any], demo: Interactions | None) -> RunResult:
        """Make the folder and fill it; stopped before a round is complete, none is left."""
        try:
            self._begin(config, demo)
            self._run_rounds()
        except BaseException:
            if self.rounds:
                _say(
                    f"{len(self.rounds)} rounds are complete, and the best state of them is kept: "
                    f"`peercollab recommend {self.folder.path}` and `report` work"
                )
            else:
                self.folder.remove()
            raise
        self._finish()
        self._judge()
        return RunResult(self.folder.path, self.metrics, self.rounds)

    def _begin(self, config: dict[str, Any], demo: Interactions | None) -> None:
        self.folder.create(config, environment())
        if demo:
            write_csv(demo, self.folder.path / DEMO_FILE)
        save_description(self.data.histories.n_items, self.options.model, self.folder.best)
        self.folder.write_items(self.data.item_ids, training_counts(self.data.histories))

    def _run_rounds(self) -> None:
        training = self.options.training
        with RunDisplay(training.epochs) as display:
            for round in range(1, training.epochs + 1):
                record = self.executor.run_round(round, display.watch).as_json()
                self._add(record)
                display.record(record)
                best = record["best"]
                if training.patience and best and round - best["round"] >= training.patience:
                    display.say(
                        f"stopped: no better validation {SELECTION_METRIC} in "
                        f"{training.patience} rounds"
                    )
                    return

    def _add(self, record: dict[str, Any]) -> None:
        self.rounds.append(record)
        self.folder.add_round(record)
        if (best := record["best"]) and best["round"] == record["round"]:
            self.metrics["selected"] = best
            self.metrics["validation"] = record["peers"][best["peer"] - 1]["validation"]
            self.folder.write_metrics(self.metrics)

    def _finish(self) -> None:
        """Keep a soup of the peers in place of the best of them, if that is wanted."""
        if (soup := self.executor.finish()) is not None:
            select = self.options.transplant.build().select
            self.metrics["selected"] = _selected(select, soup)
            self.metrics["validation"] = soup.validation
            self.folder.write_metrics(self.metrics)

    def _judge(self) -> None:
        """Rank under the kept state, once, when nothing is left to be chosen."""
        ranks = {split: self.executor.rank_selected(split) for split in HOLD_OUTS}
        self.metrics["test"] = metrics_of(ranks["test"])
        self.folder.write_metrics(self.metrics)
        users = queries(self.data.histories, "test").users
        self.folder.write_per_user(self.data.user_ids[users], ranks)


def read_data(options: TrainOptions) -> Interactions:
    """The interactions that the options name, with a line on what was recognised."""
    if options.data == DEMO:
        interactions = demo_interactions()
        _say("data: the built-in demo, which is synthetic (--data takes a file)")
    else:
        interactions = read_interactions(Path(options.data), options.read)
        _say(f"data: {options.data}: {interactions.layout.describe()}")
    return interactions


def default_peers(options: TrainOptions) -> list[PeerSetup]:
    """Peers 1 to N, each with the stream of its number and its share of the learning rate."""
    n_peers, training = options.execution.peers, options.training
    return [
        PeerSetup(
            number=number,
            stream=number,
            learning_rate=spread_learning_rate(training.lr, number, n_peers)
            if training.lr_spread
            else training.lr,
            dropout=options.diversity.dropout(options.model.dropout, number, n_peers),
            augmentation=options.diversity.augmentation(number),
        )
        for number in range(1, n_peers + 1)
    ]


def with_start(training: TrainingOptions, rule: Rule) -> TrainingOptions:
    """The options with the start that the rule wants, unless one was asked for."""
    return replace(training, init=training.init or ("shared" if rule.shared_start else "own"))


def start_executor(
    options: ExecutionOptions,
    peers: Sequence[PeerSetup],
    shared: SharedSetup,
    histories: Histories,
) -> Executor:
    """The executor that the options name. Ray is imported only if it is wanted."""
    if options.executor == "local":
        return LocalExecutor(options, peers, shared, histories)
    from peercollab.actors.ray_executor import RayExecutor

    return RayExecutor(options, peers, shared, histories)


def popularity_ranks(histories: Histories, *, keep_seen: bool) -> dict[HoldOut, np.ndarray]:
    """int32 ``[users]`` for each split: ranks by number of training interactions."""
    popularity = Popularity(training_counts(histories))
    return {
        split: popularity.ranks(histories.items, queries(histories, split), keep_seen=keep_seen)
        for split in HOLD_OUTS
    }


def _say(line: str) -> None:
    print(line, flush=True)


def _say_seen_targets(ranks: np.ndarray, keep_seen: bool) -> None:
    if keep_seen or not len(ranks):
        return
    share = float(np.mean(ranks == MISS))
    advice = "; --keep-seen would rank them" if share > MANY_SEEN_TARGETS else ""
    _say(f"test items that their user has seen before count as misses: {share:.1%}{advice}")


def _describe_peers(options: TrainOptions, peers: Sequence[PeerSetup], threads: int) -> str:
    rates = ", ".join(f"{peer.learning_rate:g}" for peer in peers)
    return (
        f"peers: {len(peers)} x SASRec, {threads} CPU thread{'s' if threads > 1 else ''} each, "
        f"learning rates {rates}, rule {options.transplant.rule}, "
        f"executor {options.execution.executor}"
    )


def _settings(shared: SharedSetup) -> dict[str, Any]:
    """What the rule's defaults came to, and the source of a rule of the user's own."""
    transplant = shared.transplant
    rule = transplant.rule
    own = {"source": rule.source} if isinstance(rule, OwnRule) else {}
    return own | {
        "init": shared.training.init,
        "exchange_every": transplant.every,
        "ranked": rule.ranked,
        "moments": transplant.moments,
        "select": transplant.select,
    }


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
