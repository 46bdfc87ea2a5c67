"""The options of a run that is gone on with: read from its folder, and held to."""

import types
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from peercollab.actors.messages import PeerSetup
from peercollab.errors import PeercollabError
from peercollab.options import TrainOptions
from peercollab.results.run_folder import of_this_version, own_names, read_config

T = TypeVar("T")

# Of the options of execution those that name a cluster and a place in it.
WHEREABOUTS = {"address", "placement", "wait_for_resources"}

# What may be told anew when a run is gone on with: where it runs, and when it ends.
HARMLESS = {
    "checkpoint_every",
    "data",
    "epochs",
    "executor",
    "gpus_per_peer",
    "min_peers",
    "patience",
    "peer_timeout",
    "rejoin_within",
}


def stored_options(run: Path, named: Collection[str] = ()) -> TrainOptions:
    """The options of the run in this folder, made to go on with it.

    Where it ran is left out: it may go on elsewhere, and says so anew. So is whether it replaced
    another when it began.

    Parameters
    ----------
    run
        The folder.
    named
        The rule and the model that the user has named. A folder may come from somebody else, so
        that it cannot name a file whose code is executed.

    Raises
    ------
    PeercollabError
        It is no run folder, or one of another version of peercollab, or it has a rule or a model
        from a file that the user has not named, or a model that is in no file.
    """
    stored = read_config(run)
    names = {field.name for field in fields(TrainOptions)} - {"out", "resume", "overwrite"}
    options = {name: stored[name] for name in names if name in stored}
    if stored.get("settings", {}).get("model_source") == "":
        raise PeercollabError(
            f"--resume {run}: the run's network was given in Python, and is in no file: train anew"
        )
    for option, name in own_names(stored).items():
        if name not in named:
            raise PeercollabError(
                f"--resume {run}: the run has a {option.removeprefix('--')} from a file, whose "
                f"code would be executed: give {option} {name} again if that is yours"
            )
    if "execution" in options:
        here = {name: v for name, v in options["execution"].items() if name not in WHEREABOUTS}
        options["execution"] = here
    return _built(TrainOptions, options | {"resume": str(run)}, run)


def stored_peers(config: Mapping[str, Any], run: Path) -> list[PeerSetup]:
    """The peers' own settings as ``config.json`` has them."""
    return [_built(PeerSetup, peer, run) for peer in config.get("peers", [])]


def changes(stored: TrainOptions, given: TrainOptions) -> list[str]:
    """What is told anew, in words.

    Raises
    ------
    PeercollabError
        An option is changed that the run so far depends on.
    """
    before, now = flat_options(asdict(stored)), flat_options(asdict(given))
    told = []
    for name, old in before.items():
        new = now[name]
        if new == old or name in ("out", "resume", "overwrite", *WHEREABOUTS):
            continue
        option = f"--{name.replace('_', '-')}"
        if name not in HARMLESS:
            raise PeercollabError(
                f"--resume {given.resume}: the run has {option} {_word(old)}, which cannot become "
                f"{_word(new)}: leave {option} out"
            )
        if name == "epochs":
            _require_open_end(stored, given)
        told.append(f"{option} {_word(new)} in place of {_word(old)}")
    return told


def _require_open_end(stored: TrainOptions, given: TrainOptions) -> None:
    """More epochs are harmless unless something is spread over all of them."""
    transplant = stored.transplant
    reason = ""
    if given.training.epochs < stored.training.epochs:
        reason = "they can only become more"
    elif stored.training.schedule != "constant":
        reason = f"--schedule {stored.training.schedule} is spread over them"
    elif transplant.exchange_from is not None or transplant.exchange_until is not None:
        reason = "--exchange-from and --exchange-until are shares of them"
    if reason:
        raise PeercollabError(
            f"--resume {given.resume}: the run has --epochs {stored.training.epochs}, and "
            f"{reason}: leave --epochs out"
        )


def flat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by their own names, which are the command line's."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        flat |= flat_options(value) if isinstance(value, dict) else {name: value}
    return flat


def _word(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " ".join(map(str, value)) or "none"
    return "its default" if value is None else str(value)


def _built(kind: type[T], values: Mapping[str, Any], run: Path) -> T:
    with of_this_version(run):
        built: T = _from_json(kind, values)
    return built


def _from_json(kind: Any, value: Any) -> Any:
    """A value of a dataclass, path, tuple or plain type, from what `asdict` and JSON made of it."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        unknown = value.keys() - hints.keys()
        if unknown:
            raise ValueError(f"{min(unknown)} is not known")
        return kind(**{name: _from_json(hints[name], part) for name, part in value.items()})
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        kind = next(one for one in get_args(kind) if one is not types.NoneType)
    if kind is Path:
        return Path(value)
    return tuple(value) if isinstance(value, list) else value
