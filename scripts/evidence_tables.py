"""Fill the tables of docs/evidence.md from the records of comparisons beside it.

Between ``<!-- KIND NAME -->`` and ``<!-- end -->`` stands what is made of ``evidence/NAME.json``;
everything else is prose, and stays.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from peercollab.comparison.table import HEAD, failures_of, rows_of

Record = Mapping[str, Any]

DOCUMENT = Path(__file__).parents[1] / "docs" / "evidence.md"
MARKED = re.compile(r"(<!-- (\w+) ([\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Rounds at which it is told how alike peers are.
ROUNDS = (1, 2, 5, 10, 20, 50)


def main() -> None:
    """Write the document anew."""
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8"), read_record), encoding="utf-8")


def filled(document: str, read: Callable[[str], Record]) -> str:
    """The document with what stands between its markers made anew."""
    return MARKED.sub(
        lambda part: f"{part[1]}\n{KINDS[part[2]](read(part[3]))}\n\n{part[4]}", document
    )


def read_record(name: str) -> Record:
    """What a comparison came to."""
    path = DOCUMENT.parent / "evidence" / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def comparison(record: Record) -> str:
    """Data, command, table, failures and conclusion."""
    data = record["data"]
    return "\n\n".join(
        [
            f"{data['name']}: {data['users']:,} users, {data['items']:,} items, "
            f"{data['interactions']:,} interactions.",
            f"```sh\n{record['command']}\n```",
            _table(HEAD, rows_of(record)),
            *failures_of(record),
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
    return _table(("arm", "layer", "donors' share in peer 1, 2, ..."), rows)


def similarity(record: Record) -> str:
    """How alike peers are before they mix, by arm and scope, at some rounds and at the last."""
    rows = []
    for arm in record["arms"]:
        for scope, values in (arm["exchanges"] or {"similarity": {}})["similarity"].items():
            at = [f"{values[round - 1]:.2f}" if round <= len(values) else "-" for round in ROUNDS]
            rows.append((arm["name"], scope, *at, f"{values[-1]:.2f} ({len(values)})"))
    return _table(("arm", "scope", *(f"round {round}" for round in ROUNDS), "last"), rows)


KINDS: Mapping[str, Callable[[Record], str]] = {
    "comparison": comparison,
    "shares": shares,
    "similarity": similarity,
}


def _differ(shares: Iterable[float]) -> bool:
    """Whether shares are more unlike than rounding makes them."""
    known = list(shares)
    return max(known) - min(known) > 0.01


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
