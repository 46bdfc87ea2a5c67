"""The parts of a page in HTML that needs nothing else: for reports of any kind.

Imports matplotlib, which is slow: import this where a report is wanted.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from peercollab.disk import replacing
from peercollab.results.plots import to_svg

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
.headline { font-size: 1.25rem; margin: 1rem 0; }
.note { border-left: 4px solid #E69F00; padding: .2rem 0 .2rem .8rem; }
figure { margin: 1.5rem 0; } figure img { width: 100%; height: auto; }
figcaption { color: #444; font-size: .9rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd;
  vertical-align: top; overflow-wrap: anywhere; }
table.numbers td { text-align: right; } table.numbers th + th { text-align: right; }
summary { cursor: pointer; font-weight: 600; margin-top: 1rem; }
"""


def page(title: str, body: Iterable[str]) -> str:
    """A whole page; the title is HTML, as the parts of the body are."""
    content = "\n".join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>peercollab: {title}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n{content}\n</body>\n</html>\n"
    )


def write_page(text: str, path: Path) -> Path:
    """Put a page into a file, which is given back.

    Raises
    ------
    PeercollabError
        It could not be written.
    """
    # Names of files may hold bytes that are no text.
    content = text.encode("utf-8", errors="backslashreplace")
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)
    return path


def numbers(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text cells, numbers but for the first column."""
    return (
        f'<table class="numbers"><thead>{row(head, "th")}</thead>'
        f"<tbody>{''.join(row(cells) for cells in rows)}</tbody></table>"
    )


def picture(figure: Figure, caption: str) -> str:
    """A figure with its caption."""
    image = base64.b64encode(to_svg(figure)).decode("ascii")
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/svg+xml;base64,{image}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def details(title: str, content: Mapping[str, Any]) -> str:
    """A table of names and values, folded away."""
    rows = "".join(row((name, _text(value))) for name, value in _flat(content))
    return f"<details><summary>{title}</summary><table>{rows}</table></details>"


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def row(cells: Iterable[str], tag: str = "td") -> str:
    """A row of a table, with a heading in front."""
    first, *others = (escape(cell) for cell in cells)
    rest = "".join(f"<{tag}>{cell}</{tag}>" for cell in others)
    return f"<tr><th>{first}</th>{rest}</tr>"


def _text(value: Any) -> str:
    if value is None:
        return "not given"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
