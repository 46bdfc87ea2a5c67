"""Reading ``per_user.parquet``: the rank of every user's target under the kept model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from peercollab.data.sequences import IdArray, Int32Array
from peercollab.data.split import HoldOut
from peercollab.errors import PeercollabError
from peercollab.results.run_folder import PER_USER
from peercollab.training.metrics import MISS

COLUMNS = ("user", "split", "rank")


@dataclass(frozen=True)
class UserRanks:
    """One run's ranks.

    Attributes
    ----------
    users
        object (str) ``[users]``, ascending, each once: the users' own ids.
    ranks_U
        int32 ``[users]``: the rank of each user's target, from 1; `MISS` where it was not ranked.
    """

    users: IdArray
    ranks_U: Int32Array


def read_per_user(run: Path, split: HoldOut) -> UserRanks:
    """The ranks of a run on one split, in the order of the users' ids.

    Raises
    ------
    PeercollabError
        The run has no such file or no ranks on that split (yet), or the file is damaged.
    """
    path = run / PER_USER
    try:
        frame = pd.read_parquet(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PeercollabError(
            f"{run} has no {PER_USER}: give the folder of a run that is finished"
        ) from error
    except (OSError, ValueError) as error:
        raise PeercollabError(f"{path} is damaged: {error}") from error
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise PeercollabError(f"{path} is damaged: it has no column {missing[0]}")
    frame = frame[frame["split"] == split].sort_values("user")
    if frame.empty:
        raise PeercollabError(f"{path} has no ranks on {split}")
    rank_U = frame["rank"].fillna(MISS).to_numpy()
    if not np.issubdtype(rank_U.dtype, np.integer) or (rank_U < MISS).any():
        raise PeercollabError(f"{path} is damaged: ranks on {split} are whole numbers from 1")
    if frame["user"].duplicated().any():
        twice = frame["user"][frame["user"].duplicated()].iloc[0]
        raise PeercollabError(f"{path} is damaged: user {twice} has two ranks on {split}")
    return UserRanks(frame["user"].to_numpy(dtype=np.object_), rank_U.astype(np.int32))
