"""Options in a file: TOML, with the names that they have on the command line."""

import tomllib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from peercollab.command_line import did_you_mean
from peercollab.errors import PeercollabError
from peercollab.options import TrainOptions

PresetName = Literal["pcrec", "sasrec-plus"]
PRESETS = Path(__file__).parent / "presets"

# What a run is, and not how it is trained.
NOT_IN_A_FILE = {"out", "resume", "overwrite"}


def words_of(path: Path) -> list[str]:
    """The options of a file as words of the command line, in the file's order.

    Parameters
    ----------
    path
        A TOML file such as ``hidden-size = 256`` and ``lr-spread = false``, a line each, without
        tables.

    Raises
    ------
    PeercollabError
        It cannot be read, is no TOML, or has what is no option of training.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PeercollabError(f"--config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PeercollabError(f"--config {path} is no TOML: {error}") from error
    known = [name for name in option_names() if name not in NOT_IN_A_FILE]
    words: list[str] = []
    for name, value in content.items():
        if name not in known:
            raise PeercollabError(
                f"--config {path}: {name} is no option of training{did_you_mean(name, known)}"
            )
        words += words_for(name, value, f"--config {path}")
    return words


def expanded(words: Sequence[str]) -> list[str]:
    """Words of the command line, with what a preset and a file stand for put in front of them.

    Of an option that is there twice the last one counts: the command line's own, then the file's.
    """
    left, given = [], {"--preset": "", "--config": ""}
    ahead = iter(words)
    for word in ahead:
        option, is_one_word, value = word.partition("=")
        if option in given and (value := value if is_one_word else next(ahead, "")):
            given[option] = value
        else:
            # Also where nothing follows, which is for the parser to say.
            left.append(word)
    told = [*(words_of(Path(given["--config"])) if given["--config"] else []), *left]
    preset = preset_words(given["--preset"], _model_in(told)) if given["--preset"] else []
    return [*preset, *told]


def preset_words(name: str, model: str | None) -> list[str]:
    """The options of a preset, as `words_of` has those of a file.

    Parameters
    ----------
    name
        The preset's.
    model
        What else is said of the model; None where nothing is.

    Raises
    ------
    PeercollabError
        There is no preset of that name, or it is of another model.
    """
    names = get_args(PresetName)
    if name not in names:
        raise PeercollabError(
            f"--preset is {name!r}: take one of {', '.join(names)}{did_you_mean(name, names)}"
        )
    words = words_of(PRESETS / f"{name}.toml")
    own = _model_in(words)
    if model not in (None, own):
        raise PeercollabError(
            f"--preset {name} is a form of {own}, and the model is {model}: leave one of them out"
        )
    return words


def _model_in(words: Sequence[str]) -> str | None:
    """The model that is asked for last; None if none is."""
    found = None
    for word, following in pairwise([*words, ""]):
        option, is_one_word, value = word.partition("=")
        if option == "--model":
            found = value if is_one_word else following
    return found


def words_for(name: str, value: Any, where: str) -> list[str]:
    """An option as words of the command line.

    Raises
    ------
    PeercollabError
        The value is neither text, a number, true or false, nor a row of these; `where` is said.
    """
    match value:
        case bool():
            return [f"--{name}" if value else f"--no-{name}"]
        case str() | Real():
            return [f"--{name}", str(value)]
        case [*parts] if all(isinstance(part, str | Real) for part in parts):
            return [f"--{name}", *map(str, parts)]
    raise PeercollabError(f"{where}: {name} is {value!r}: give text, a number or true")


def option_names(kind: type[Any] = TrainOptions) -> list[str]:
    """All options of a command, as on the command line but for the dashes in front."""
    return [name.replace("_", "-") for name in _names(kind)]


def _names(kind: type[Any]) -> list[str]:
    """The options of a dataclass, and of those in it."""
    hints = get_type_hints(kind)
    return [
        name
        for field in fields(kind)
        for name in (_names(hints[field.name]) if is_dataclass(hints[field.name]) else [field.name])
    ]
