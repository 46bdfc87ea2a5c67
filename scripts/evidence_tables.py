"""Fill the tables of docs/evidence.md and docs/models.md from the records beside them.

Between ``<!-- KIND NAME -->`` and ``<!-- end -->`` stands what is made of ``evidence/NAME.json``;
everything else is prose, and stays.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peercollab.comparison.table import remarks_on, table_of

Record = Mapping[str, Any]

DOCS = Path(__file__).parents[1] / "docs"
DOCUMENTS = (DOCS / "evidence.md", DOCS / "models.md")
RECORDS = DOCS / "evidence"
MARKED = re.compile(r"(<!-- (\w+) ([\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Rounds at which it is told how alike peers are.
ROUNDS = (1, 2, 5, 10, 20, 50)


def main() -> None:
    """Write the documents anew."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        document.write_text(filled(text, read_record), encoding="utf-8")


def filled(document: str, read: Callable[[str], Record]) -> str:
    """The document with what stands between its markers made anew."""
    return MARKED.sub(
        lambda part: f"{part[1]}\n{KINDS[part[2]](read(part[3]))}\n\n{part[4]}", document
    )


def read_record(name: str) -> Record:
    """What a comparison, or a row of models, came to; and the record's name."""
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8")) | {"name": name}


def comparison(record: Record) -> str:
    """Data, command, table, remarks and conclusion."""
    return "\n\n".join(
        [
            _told(record["data"]),
            f"```sh\n{record['command']} --out runs/{record['name']}\n```",
            _table(*table_of(record)),
            *remarks_on(record),
            record["conclusion"],
        ]
    )


def shares(record: Record) -> str:
    """What each peer took of its donors, layer by layer, of arms where that differs by layer."""
    rows = []
    for arm in record["arms"]:
        by_receiver = (arm["exchanges"] or {"shares": {}})["shares"]
        if not any(_differ(of.values()) for of in by_receiver.values()):
            continue
        for layer in next(iter(by_receiver.values())):
            taken = [f"{of[layer]:.2f}" if layer in of else "-" for of in by_receiver.values()]
            rows.append((arm["name"], layer, ", ".join(taken)))
    return _table(("arm", "layer", "donors' share in peer 1, 2, ..."), *rows)


def similarity(record: Record) -> str:
    """How alike peers are before they mix, by arm and scope, at some rounds and at the last."""
    rows = []
    for arm in record["arms"]:
        for scope, by_round in (arm["exchanges"] or {"similarity": {}})["similarity"].items():
            at = [f"{by_round[key]:.2f}" if (key := str(of)) in by_round else "-" for of in ROUNDS]
            last = list(by_round)[-1]
            rows.append((arm["name"], scope, *at, f"{by_round[last]:.2f} ({last})"))
    return _table(("arm", "scope", *(f"round {of}" for of in ROUNDS), "last"), *rows)


def models(record: Record) -> str:
    """What each model came to, beside popularity."""
    rows = [
        (
            row["model"],
            ", ".join(f"{name} {value}" for name, value in row["options"].items()),
            f"{row['parameters']:,}",
            f"{row['positions'] / 1000:,.1f} k",
            str(row["kept"]),
            f"{row['validation']:.4f}",
            f"{row['test']:.4f}",
        )
        for row in record["models"]
    ]
    popular = record["popularity"]
    values = [f"{popular[split]:.4f}" for split in ("validation", "test")]
    head = ("model", "options", "parameters", "positions/s", "kept", "validation", "test")
    return "\n\n".join(
        [
            f"{_told(record['data'])} {record['epochs']} epochs, seed {record['seed']}.",
            _table(head, *rows, ("popularity", "", "", "", "", *values)),
        ]
    )


KINDS: Mapping[str, Callable[[Record], str]] = {
    "comparison": comparison,
    "models": models,
    "shares": shares,
    "similarity": similarity,
}


def _told(data: Mapping[str, Any]) -> str:
    return (
        f"{data['name']}: {data['users']:,} users, {data['items']:,} items, "
        f"{data['interactions']:,} interactions."
    )


def _differ(shares: Iterable[float]) -> bool:
    """Whether shares are more unlike than rounding makes them."""
    known = list(shares)
    return max(known) - min(known) > 0.01


def _table(head: Sequence[str], *rows: Sequence[str]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
