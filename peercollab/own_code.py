"""Python of the user's own, by file and name: ``path/to/file.py:name``.

The text is read once, where the user is, and travels; wherever it is needed it is run.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from peercollab.errors import PeercollabError


def is_own(name: str) -> bool:
    """Whether it names something in a file."""
    return ".py:" in name


def read_source(option: str, told: str) -> tuple[str, str, str]:
    """Path and name of ``path/to/file.py:name``, and the file's text.

    Raises
    ------
    PeercollabError
        The file cannot be read.
    """
    path, _, name = told.rpartition(":")
    try:
        return path, name, Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise PeercollabError(f"{option} {told}: {path} cannot be read: {reason}") from error


@cache
def load(option: str, path: str, name: str, source: str) -> Callable[..., Any]:
    """The function or class of that name in a source text.

    Raises
    ------
    PeercollabError
        The text cannot be run, or has none of that name.
    """
    told = f"{option} {path}:{name}"
    # Dataclasses look up the module that they are in; by a name that is nobody else's.
    module = ModuleType(f"own code in {path}")
    module.__file__ = path
    space = module.__dict__
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, path, "exec"), space)
    except (Exception, SystemExit) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise PeercollabError(
            f"{told}: {path}{line} cannot be run: {type(error).__name__}: {error}"
        ) from error
    finally:
        # What is pickled from it travels whole, as elsewhere there is no such module.
        del sys.modules[module.__name__]
    found = space.get(name)
    if not callable(found):
        raise PeercollabError(f"{told}: {path} has no {name}; it has {_its_own(space)}")
    return found


def _its_own(space: Mapping[str, Any]) -> str:
    """What a text defines itself: names in a row."""
    module = space["__name__"]
    names = [
        name
        for name, value in space.items()
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module
    ]
    return ", ".join(names) or "nothing to call"
