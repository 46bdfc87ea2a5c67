"""What peers gave each other in the runs of an arm, and how alike they became: a summary."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

Record = Mapping[str, Any]
Values = defaultdict[Any, list[float]]

# Enough to see by: records are kept and given to others.
DIGITS = 4


def exchanges_of(runs: Sequence[Sequence[Record]]) -> dict[str, Any] | None:
    """A summary of the records of several runs; None if nothing was given in any.

    Parameters
    ----------
    runs
        For each run, under one seed, the records of its rounds.

    Returns
    -------
    dict
        ``shares``: for each receiver and layer the donors' share, as a mean over rounds and runs.
        ``similarity``: for each scope and each round with an exchange the cosine between a
        receiver's and a donor's weights before they mixed, as a mean over layers, pairs and runs.
        It ends with the longest run; empty if no layer was given whole.
    """
    shares: Values = defaultdict(list)
    cosines: Values = defaultdict(list)
    for record in (record for run in runs for record in run):
        received: defaultdict[tuple[int, str], float] = defaultdict(float)
        for transfer in record["transfers"]:
            for layer, share in transfer["shares"].items():
                received[transfer["receiver"], layer] += share
            for layer, cosine in transfer["similarity"].items():
                cosines[record["layers"][layer], record["round"]].append(cosine)
        for receiver_and_layer, share in received.items():
            shares[receiver_and_layer].append(share)
    if not shares:
        return None
    by_receiver: dict[str, dict[str, float]] = {}
    for (receiver, layer), values in shares.items():
        by_receiver.setdefault(str(receiver), {})[layer] = round(mean(values), DIGITS)
    by_scope: dict[str, dict[str, float]] = {}
    for (scope, at), values in sorted(cosines.items(), key=lambda item: item[0][1]):
        by_scope.setdefault(scope, {})[str(at)] = round(mean(values), DIGITS)
    return {"shares": dict(sorted(by_receiver.items())), "similarity": by_scope}
