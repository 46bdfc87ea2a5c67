"""How much a peer received from each donor, as one number."""

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def mean_shares(records: Sequence[Record], receiver: int) -> dict[int, float]:
    """The mean share of each donor in a receiver's weights, in the order of first giving.

    It is a mean over the exchanges in which the receiver mixed, and over the layers that it got
    from anybody: a donor that did not give one of these has a share of 0 there, so that the
    donors' shares add up to what all of them gave.

    Parameters
    ----------
    records
        Of one round or several.
    receiver
        The peer's number.
    """
    sums: dict[int, float] = {}
    layers: set[str] = set()
    exchanges = 0
    for record in records:
        mixed = record["receivers"].get(str(receiver), 0)
        exchanges += mixed
        for transfer in record["transfers"]:
            if transfer["receiver"] == receiver and transfer["shares"]:
                donor, shares = transfer["donor"], transfer["shares"]
                sums[donor] = sums.get(donor, 0.0) + mixed * sum(shares.values())
                layers.update(shares)
    return {donor: total / (exchanges * len(layers)) for donor, total in sums.items() if exchanges}
