"""Training from Python: `fit`, and what it gives back."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from peercollab.command_line import did_you_mean, parse
from peercollab.config_file import PresetName, option_names, preset_words, words_for
from peercollab.data.demo import DEMO
from peercollab.errors import PeercollabError
from peercollab.models.options import GivenModel, ModelOptions
from peercollab.models.own_model import MakeNetwork
from peercollab.options import TrainOptions
from peercollab.own_code import is_own
from peercollab.results.run_folder import RunFolder
from peercollab.run import train
from peercollab.serving.recommender import Recommender
from peercollab.training.metrics import METRICS

# These have their own way in Python.
NOT_AN_OPTION = {"data", "model", "out", "resume"}


class FitResult:
    """What a training came to.

    Parameters
    ----------
    folder
        Of the run, as on the command line: `report`, `status` and `recommend` work on it.
    model
        The network of a run with one of your own.

    Attributes
    ----------
    folder : Path
        That folder.
    recommender : Recommender
        The kept model.
    """

    def __init__(self, folder: Path, model: str | MakeNetwork | nn.Module | None = None) -> None:
        self.folder = folder
        self.recommender = Recommender.load(folder, model=model)

    @property
    def metrics(self) -> pd.DataFrame:
        """Metrics of the kept model and of popularity: a row for each of these and each split."""
        told = RunFolder(self.folder).metrics()
        rows = [
            {"split": split, "of": of, **by_split[split]}
            for split in ("validation", "test")
            for of, by_split in (("model", told), ("popularity", told["popularity"]))
        ]
        return pd.DataFrame(rows, columns=["split", "of", *METRICS])

    @property
    def rounds(self) -> pd.DataFrame:
        """A row for each round and peer: loss, learning rate and validation, where it was due."""
        rows = []
        for record in RunFolder(self.folder).rounds():
            for peer in record["peers"]:
                validation = peer["validation"] or {}
                rows.append(
                    {
                        "round": record["round"],
                        "peer": peer["peer"],
                        "loss": peer["loss"],
                        "learning_rate": peer["learning_rate"],
                        **{metric: validation.get(metric) for metric in METRICS},
                    }
                )
        return pd.DataFrame(rows)

    def recommend(
        self, histories: Mapping[str, Sequence[str]], k: int = 10, *, keep_seen: bool = False
    ) -> pd.DataFrame:
        """The k best items for every user, as `Recommender.recommend` says."""
        return self.recommender.recommend(histories, k, keep_seen=keep_seen)


def fit(
    data: str | os.PathLike[str] | pd.DataFrame = DEMO,
    *,
    model: str | MakeNetwork | nn.Module = "sasrec",
    out: str | os.PathLike[str] | None = None,
    preset: PresetName | None = None,
    **options: Any,
) -> FitResult:
    """Train peers on interactions, and keep the best of them: `peercollab train` from Python.

    Parameters
    ----------
    data
        A file of interactions, ``"demo"``, or a table with a row for each interaction, whose
        columns of user, item and time are recognised by their names, or named by options.
    model
        ``"sasrec"``, ``"nextitnet"``, ``"youtube-dnn"``, ``"bpr-mf"``, ``"path/to/file.py:Name"``,
        or a class, a function of the number of items, or a network, as in
        docs/bring-your-model.md.
    out
        Folder of the run; without one the run is kept as long as the result is.
    preset
        Options of a published form, of which the ones given here win.
    **options
        Those of the command line, with underscores: ``epochs=20``, ``lr_spread=False``,
        ``executor="local"``.

    Returns
    -------
    FitResult
        Metrics, rounds and recommendations.

    Raises
    ------
    PeercollabError
        An option is unknown or out of range, or the run does not come to an end.
    """
    known = [name.replace("-", "_") for name in option_names()]
    for name in options:
        if name not in known or name in NOT_AN_OPTION:
            raise PeercollabError(f"fit: {name} is no option{did_you_mean(name, known)}")
    named = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    words = [] if preset is None else preset_words(preset, named)
    given = None
    if isinstance(model, str):
        options = {"model": model, **options}
    else:
        of_model = {field.name for field in fields(ModelOptions)} & options.keys()
        given = GivenModel(model, **{name: options.pop(name) for name in of_model})
    words += [
        word
        for name, value in options.items()
        for word in words_for(name.replace("_", "-"), value, "fit")
    ]
    temporary = Path(tempfile.mkdtemp(prefix="peercollab-"))
    try:
        folder = temporary / "run" if out is None else Path(out)
        path = _as_file(data, temporary)
        told: _Told = parse(_Told, words, "train", default=_Told(out=folder, data=str(path)))
        asked = {field.name: getattr(told, field.name) for field in fields(told)}
        train(TrainOptions(**asked if given is None else asked | {"model": given}))
        result = FitResult(folder, model if given is not None or is_own(told.model.model) else None)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    weakref.finalize(result, shutil.rmtree, temporary, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Told(TrainOptions):
    """Options that may not go together yet: a network that Python has is not among them."""

    def __post_init__(self) -> None:
        pass


def _as_file(data: str | os.PathLike[str] | pd.DataFrame, folder: Path) -> str | Path:
    """Where the interactions lie; a table is written down."""
    if not isinstance(data, pd.DataFrame):
        return os.fspath(data)
    path = folder / "interactions.parquet"
    data.to_parquet(path, index=False)
    return path
