"""Train every built-in model alone on one file, and write what each came to and costs."""

import json
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

import peercollab
from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions, prepare
from peercollab.data.read import read_interactions
from peercollab.data.sequences import Histories
from peercollab.errors import PeercollabError
from peercollab.models.options import MODELS, ModelOptions, options_of
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer
from scripts.evidence_tables import RECORDS

BAD_INPUT = 2

# Of the measurement of speed; the first are not counted.
WARM_STEPS, STEPS = 3, 30


@dataclass(frozen=True)
class Asked:
    """Train every built-in model alone, and write a record of docs/models.md."""

    data: Path
    """An interaction file."""
    record: str
    """Name of the record."""
    models: tuple[str, ...] = tuple(MODELS)
    """Which models; those of the record that are not named stay in it."""
    epochs: int = 10
    """Epochs of each; the best by validation is kept."""
    hidden_size: int = 64
    """Of all models."""
    max_length: int = 100
    """Of the models that read histories."""
    dropout: float = 0.2
    """Of the models that know it."""
    seed: int = 10
    """Of all."""
    threads: Annotated[int, tyro.conf.arg(help="CPU threads.")] = 1

    def options_for(self, model: str) -> dict[str, Any]:
        """What of the options of models this one has."""
        told = {name: getattr(self, name) for name in ("hidden_size", "max_length", "dropout")}
        return {name: value for name, value in told.items() if name in options_of(MODELS[model])}


@dataclass(frozen=True)
class Row:
    """What one model came to; `positions` are those of training by second of a core's time."""

    model: str
    options: dict[str, Any]
    parameters: int
    positions: float
    kept: int
    validation: float
    test: float


@dataclass
class Record:
    """All of them, on the same data."""

    data: dict[str, Any]
    epochs: int
    seed: int
    popularity: dict[str, float] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)

    def with_rows_of(self, known: "Record", path: Path) -> "Record":
        """This with what is known of other models already, which has to be of the same kind.

        Raises
        ------
        PeercollabError
            It is of other data, or of other options that all models have.
        """
        for name in ("data", "epochs", "seed"):
            if (then := getattr(known, name)) != (now := getattr(self, name)):
                raise PeercollabError(
                    f"{path} has {name} {then}, which cannot become {now}: give another --record"
                )
        return replace(self, popularity=known.popularity, models=known.models)


def main() -> None:
    """Do what the command line asks for; the exit code is 2 where that cannot be."""
    try:
        write_record(tyro.cli(Asked, description=__doc__))
    except PeercollabError as error:
        print(f"models: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def write_record(asked: Asked) -> None:
    """Train and measure, and write after each model.

    Raises
    ------
    PeercollabError
        An option is wrong, or the record is of something else.
    """
    if unknown := set(asked.models) - MODELS.keys():
        raise PeercollabError(f"--models: {', '.join(unknown)}: take of {', '.join(MODELS)}")
    torch.set_num_threads(asked.threads)
    data, _ = prepare(read_interactions(asked.data, ReadOptions()), PrepareOptions())
    histories = data.histories
    path = RECORDS / f"{asked.record}.json"
    record = Record(
        {
            "name": asked.data.name,
            "users": histories.n_users,
            "items": histories.n_items,
            "interactions": len(histories.items),
        },
        asked.epochs,
        asked.seed,
    )
    if path.exists():
        record = record.with_rows_of(Record(**json.loads(path.read_text(encoding="utf-8"))), path)
    rows = {row["model"]: row for row in record.models}
    for model in asked.models:
        options = asked.options_for(model)
        result = peercollab.fit(
            asked.data,
            model=model,
            peers=1,
            rule="none",
            executor="local",
            epochs=asked.epochs,
            patience=0,
            seed=asked.seed,
            threads_per_peer=asked.threads,
            **options,
        )
        told = json.loads((result.folder / "metrics.json").read_text(encoding="utf-8"))
        parameters, positions = measured(model, options, histories)
        rows[model] = asdict(
            Row(
                model,
                options,
                parameters,
                positions,
                told["selected"]["round"],
                told["validation"]["ndcg@10"],
                told["test"]["ndcg@10"],
            )
        )
        record.popularity = {
            split: told["popularity"][split]["ndcg@10"] for split in ("validation", "test")
        }
        record.models = [rows[name] for name in MODELS if name in rows]
        path.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")


def measured(model: str, options: dict[str, Any], histories: Histories) -> tuple[int, float]:
    """Parameters, and training positions by second of a core's time, other work left out."""
    trainer = Trainer(
        histories,
        ModelOptions(model=model, **options).build(),
        TrainingOptions(),
        stream=1,
        learning_rate=1e-3,
        device=torch.device("cpu"),
    )
    trainer.begin_epoch(1)
    warm = min(WARM_STEPS, trainer.steps_per_epoch - 1)
    before = trainer.train_to(warm).positions
    started = time.process_time()
    after = trainer.train_to(min(warm + STEPS, trainer.steps_per_epoch)).positions
    taken = time.process_time() - started
    return sum(p.numel() for p in trainer.model.parameters()), (after - before) / taken


if __name__ == "__main__":
    main()
