"""A training run from data to result: the wiring of all rooms."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from peercollab.actors.executor import Executor, LocalExecutor
from peercollab.actors.messages import PeerSetup, SharedSetup
from peercollab.actors.options import ExecutionOptions
from peercollab.data.demo import DEMO, demo_interactions
from peercollab.data.layout import Layout
from peercollab.data.prepare import prepare
from peercollab.data.read import Interactions, read_interactions
from peercollab.data.sequences import Histories, SequenceData
from peercollab.data.split import (
    FEWEST_FOR_HOLD_OUT,
    HOLD_OUTS,
    HoldOut,
    queries,
    training_counts,
)
from peercollab.errors import PeercollabError
from peercollab.machine import usable_cores
from peercollab.models.check import require_sound
from peercollab.models.own_model import OwnModelOptions
from peercollab.options import TrainOptions
from peercollab.results.display import say
from peercollab.results.heartbeat import require_idle
from peercollab.results.run_folder import RunFolder, read_config
from peercollab.resume import changes, stored_options, stored_peers
from peercollab.rounds import Rounds, RunResult
from peercollab.training.metrics import MISS
from peercollab.training.options import TrainingOptions
from peercollab.training.popularity import Popularity
from peercollab.training.schedule import spread_learning_rate
from peercollab.transplant.check import require_mixing
from peercollab.transplant.rules.own_rule import OwnRule
from peercollab.transplant.rules.rule import Rule

# Above this share of held-out items that the user has seen already, filtering hides too much.
MANY_SEEN_TARGETS = 0.05


@dataclass(frozen=True)
class Loaded:
    """The data of a run, ready to be trained on.

    Attributes
    ----------
    data
        All histories, with the own ids.
    layout
        How the file was read.
    demo
        The built-in interactions, where these are the data.
    """

    data: SequenceData
    layout: Layout
    demo: Interactions | None


def load(options: TrainOptions) -> Loaded:
    """Read and prepare the interactions that the options name, with lines on what was found.

    Raises
    ------
    PeercollabError
        They cannot be read, or too little is left to train and to be ranked.
    """
    interactions = read_data(options)
    data, counts = prepare(interactions, options.prepare)
    say(counts.describe())
    if (longest := int(data.histories.lengths.max())) < FEWEST_FOR_HOLD_OUT:
        raise PeercollabError(
            f"no user has {FEWEST_FOR_HOLD_OUT} or more interactions (the longest history has "
            f"{longest}), and the last two of each user are held out to be ranked: give more data "
            f"(read as: {interactions.layout.describe()})"
        )
    return Loaded(data, interactions.layout, interactions if options.data == DEMO else None)


def train(
    options: TrainOptions,
    *,
    peers: Sequence[PeerSetup] | None = None,
    loaded: Loaded | None = None,
) -> RunResult:
    """Train, keep the best state by validation NDCG@10, and rank the test items under it.

    Parameters
    ----------
    options
        Everything that the command line offers.
    peers
        The peers' own settings; by default as many as the options say, with streams 1 to N and
        learning rates spread. A run that is gone on with has its own.
    loaded
        What `load` gives for these options, if it was called already.

    Raises
    ------
    PeercollabError
        Data, options or machine do not allow the run, or a peer failed. If no round of a new
        run was completed, no folder is left.
    KeyboardInterrupt
        It was stopped; what the last completed round left is usable, and can be resumed.
    """
    folder = RunFolder(options.folder)
    require_idle(folder.path)
    config = _config_to_go_on_with(options) if options.resume else None
    if config is None:
        folder.require_creatable(overwrite=options.overwrite)
    loaded = loaded or load(options)
    data = loaded.data
    popularity = popularity_ranks(data.histories, keep_seen=options.training.keep_seen)
    _say_seen_targets(popularity["test"], options.training.keep_seen)
    if config is not None:
        peers = stored_peers(config, folder.path)
    elif peers is None:
        peers = default_peers(options)
    transplant, model = options.transplant.build(), options.model.build()
    if isinstance(model, OwnModelOptions):
        require_sound(model, data.histories.n_items)
    shared = SharedSetup(
        model=model,
        training=with_start(options.training.of_model(model), transplant.rule),
        transplant=transplant,
        # Numbers depend on it, so that a run keeps it wherever it goes on.
        threads=config["threads"] if config else options.execution.threads(usable_cores()),
        best=folder.best.absolute(),
    )
    say(_describe_peers(options, peers, shared.threads))
    described: dict[str, Any] = options.as_json() | {
        "layout": asdict(loaded.layout),
        "data_checksum": data.checksum(),
        "peers": [asdict(peer) for peer in peers],
        "threads": shared.threads,
        "settings": _settings(shared),
    }
    if config is not None:
        _require_same(config, described, folder)
    if isinstance(transplant.rule, OwnRule):
        sizes = data.histories.n_items, data.histories.n_users
        require_mixing(transplant.rule, transplant.layers, model, *sizes)
    with start_executor(options.execution, peers, shared, data.histories) as executor:
        # What "auto" comes to where the run is now, which may be another machine than it began on.
        described["settings"]["numbers"] = executor.numbers()
        say(f"numbers: {described['settings']['numbers']}")
        rounds = Rounds(options, folder, executor, data, popularity)
        if config is not None:
            return rounds.resume(described)
        return rounds.begin(described, loaded.demo)


def _config_to_go_on_with(options: TrainOptions) -> dict[str, Any]:
    """The stored configuration of a run, when it allows to go on under these options."""
    named = (options.transplant.rule, options.model.model)
    for change in changes(stored_options(options.folder, named), options):
        say(f"resumed with {change}")
    return read_config(options.folder)


def _require_same(config: dict[str, Any], now: dict[str, Any], folder: RunFolder) -> None:
    """Refuse to go on with other data, or another text of the user's own."""
    if config["data_checksum"] != now["data_checksum"]:
        raise PeercollabError(
            f"--resume {folder.path}: --data {now['data']} does not hold what the run began with; "
            "give --data the file of then, or train anew"
        )
    for whose, source in (("rule", "source"), ("model", "model_source")):
        if config["settings"].get(source) != now["settings"].get(source):
            raise PeercollabError(
                f"--resume {folder.path}: the {whose}'s file was changed since the run began; give "
                "it back its text of then, which config.json has under settings"
            )


def read_data(options: TrainOptions) -> Interactions:
    """The interactions that the options name, with a line on what was recognised."""
    if options.data == DEMO:
        interactions = demo_interactions()
        say("data: the built-in demo, which is synthetic (--data takes a file)")
    else:
        interactions = read_interactions(Path(options.data), options.read)
        say(f"data: {options.data}: {interactions.layout.describe()}")
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
            dropout=options.diversity.dropout(options.model.build().dropout_share, number, n_peers),
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


def _say_seen_targets(ranks: np.ndarray, keep_seen: bool) -> None:
    if keep_seen or not len(ranks):
        return
    share = float(np.mean(ranks == MISS))
    advice = "; --keep-seen would rank them" if share > MANY_SEEN_TARGETS else ""
    say(f"test items that their user has seen before count as misses: {share:.1%}{advice}")


def _describe_peers(options: TrainOptions, peers: Sequence[PeerSetup], threads: int) -> str:
    rates = ", ".join(f"{peer.learning_rate:g}" for peer in peers)
    return (
        f"peers: {len(peers)} x {options.model.build().title}, "
        f"{threads} CPU thread{'s' if threads > 1 else ''} each, "
        f"learning rates {rates}, rule {options.transplant.rule}, "
        f"executor {options.execution.executor}"
    )


def _settings(shared: SharedSetup) -> dict[str, Any]:
    """What the rule's defaults came to, and the source of a rule of the user's own."""
    transplant = shared.transplant
    rule = transplant.rule
    own = {"source": rule.source} if isinstance(rule, OwnRule) else {}
    if isinstance(shared.model, OwnModelOptions):
        own["model_source"] = shared.model.source
    return own | {
        "batch_size": shared.training.batch_size,
        "loss": shared.training.loss,
        "targets": shared.training.targets,
        "init": shared.training.init,
        "exchange_every": transplant.every,
        "ranked": "average" if shared.training.ema or shared.training.swa else rule.ranked,
        "moments": transplant.moments,
        "select": transplant.select,
    }
