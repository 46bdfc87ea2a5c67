"""Runs made up from formulas, so that every number in a picture or a line is known.

A peer p in round r has loss ``8 - r / 10 + p / 100`` and validation NDCG@10
``r / 100 + p / 1000``, keeps ``r / 10`` of layer 0, ``r / 20`` of layer 1 and ``p / 10`` of
layer 2, and its statistic of layer l is ``2 + l / 10 + p / 100``.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

LAYERS = {"item_embedding": "embedding", "blocks.0.query": "middle", "output": "final"}


def metrics_at(ndcg: float) -> dict[str, float]:
    """Metrics that all differ, with the given NDCG@10."""
    return {
        f"{name}@{k}": ndcg * factor * k / 10
        for name, factor in (("hr", 2.0), ("mrr", 0.5), ("ndcg", 1.0))
        for k in (5, 10, 20)
    }


def made_up_record(
    round: int, peers: int = 2, *, exchange: bool = True, validated: bool = True
) -> dict[str, Any]:
    numbers = range(1, peers + 1)
    return {
        "round": round,
        "layers": LAYERS,
        "peers": [
            {
                "peer": peer,
                "loss": 8 - round / 10 + peer / 100,
                "learning_rate": 0.001,
                "positions": 1000,
                "validation": metrics_at(round / 100 + peer / 1000) if validated else None,
                "seconds": {"train": 10.0, "rank": 2.0 + peer / 10},
            }
            for peer in numbers
        ],
        "failures": [],
        "interruptions": [],
        "exchanges": int(exchange and peers > 1),
        "receivers": {str(peer): 1 for peer in numbers if exchange and peers > 1},
        "statistics": {
            str(peer): {name: 2 + i / 10 + peer / 100 for i, name in enumerate(LAYERS)}
            if exchange
            else {}
            for peer in numbers
        },
        "transfers": [
            {
                "receiver": peer,
                "donor": (peer - 2) % peers + 1,
                "shares": dict(
                    zip(LAYERS, (1 - round / 10, 1 - round / 20, 1 - peer / 10), strict=True)
                ),
            }
            for peer in numbers
            if exchange and peers > 1
        ],
        "bytes_moved": 2_000_000 if exchange and peers > 1 else 0,
        "coordinator_bytes": 1000,
        "seconds": {"train": 12.5, "save": 0.25, "statistics": 0.25, "plan": 0, "transplant": 1},
        "best": {"peer": peers, "round": round, "ndcg@10": round / 100 + peers / 1000}
        if validated
        else None,
    }


@pytest.fixture
def make_record() -> Callable[..., dict[str, Any]]:
    """A round's record: ``make_record(round, peers=2, exchange=True, validated=True)``."""
    return made_up_record


@pytest.fixture
def metrics() -> dict[str, Any]:
    """What ``metrics.json`` says of a finished run."""
    return {
        "popularity": {"validation": metrics_at(0.02), "test": metrics_at(0.025)},
        "selected": {"peer": 2, "round": 3, "ndcg@10": 0.032},
        "validation": metrics_at(0.032),
        "test": metrics_at(0.05),
    }


@pytest.fixture
def make_run(tmp_path: Path, metrics: dict[str, Any]) -> Callable[..., Path]:
    """A run folder: ``make_run(*records, data="log.csv", metrics=…, rule="layer-wise")``."""

    def make(
        *records: dict[str, Any],
        data: str = "log.csv",
        metrics: dict[str, Any] | None = metrics,
        rule: str = "layer-wise",
    ) -> Path:
        folder = tmp_path / "a run"
        folder.mkdir()
        contents = {
            "config.json": {
                "data": data,
                "training": {"epochs": 9, "lr": 0.001},
                "transplant": {"rule": rule},
            },
            "environment.json": {"python": "3.11.7", "packages": {"torch": "2.13.0"}},
        }
        if metrics is not None:
            contents["metrics.json"] = metrics
        for name, content in contents.items():
            (folder / name).write_text(json.dumps(content), encoding="utf-8")
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "rounds.jsonl").write_text(lines, encoding="utf-8")
        return folder

    return make
