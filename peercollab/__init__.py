"""peercollab: recommenders that train as peers, give each other weights, and leave one to serve.

Tensor names carry their shapes as a suffix, one capital letter a dimension:

====  ==========================================================
B     rows of a batch (windows of users' histories)
L     positions of a row, padded to the longest row of the batch
N     real positions of a batch, laid end to end, without padding
D     hidden size
H     attention heads
K     hidden size of one head
V     items of the catalogue
U     users
S     seeds, that is trainings (in comparisons)
R     resamples (in comparisons)
T     any shape: a parameter tensor
====  ==========================================================

So ``hidden_BLD`` is float32 ``[rows, positions, hidden size]``, and a name without a suffix
is not a tensor. Imports run one way:
``cli, fitting -> comparison -> run -> actors, results, serving, significance ->
training, transplant -> models, data``;
Ray is imported in ``actors`` alone.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peercollab.errors import PeercollabError
from peercollab.version import __version__

if TYPE_CHECKING:
    from peercollab.collaboration import Collaboration, collaborate
    from peercollab.fitting import FitResult, fit
    from peercollab.serving.recommender import Recommender

__all__ = [
    "Collaboration",
    "FitResult",
    "PeercollabError",
    "Recommender",
    "__version__",
    "collaborate",
    "fit",
]

# Read by libgomp, whose threads torch has, when torch is loaded. Threads that wait for each other
# awake keep those that they wait for from the cores, where other work has these: training took
# thirty times as long (docs/performance.md, "On a busy machine").
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"

# Imported when they are first asked for: torch takes seconds.
_HOMES = {
    "Collaboration": "peercollab.collaboration",
    "FitResult": "peercollab.fitting",
    "Recommender": "peercollab.serving.recommender",
    "collaborate": "peercollab.collaboration",
    "fit": "peercollab.fitting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
