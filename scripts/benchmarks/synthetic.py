"""Interaction logs of any size in MovieLens' shape, made up in seconds.

A few users have very much and most have little, a few items are met by many and most by few. An
item may come twice in a history, which MovieLens does not have and which costs the same.
"""

import numpy as np

from peercollab.data.sequences import Histories, Int64Array

SHORTEST = 10
LENGTH_SPREAD = 1.1
FLAT_ITEMS = 500
POPULARITY_EXPONENT = 2.0


def synthetic_histories(n_users: int, n_items: int, interactions: int, seed: int = 1) -> Histories:
    """A log with exactly so many interactions, at least one for each user and item.

    Lengths of histories are log-normal from `SHORTEST` on; the k-th item has a share of
    ``1 / (k + 500) ** 2``. In MovieLens-1M's size that is near it: the median history has 93
    items (93 there), the 200 most frequent items have 0.33 of all interactions (0.30) and the 1,000
    most frequent ones 0.76 (0.75).
    """
    generator = np.random.default_rng(seed)
    lengths = _lengths(generator, n_users, interactions)
    shares = 1.0 / (np.arange(n_items) + FLAT_ITEMS) ** POPULARITY_EXPONENT
    cumulated = np.cumsum(shares / shares.sum())
    ranks = np.searchsorted(cumulated, generator.random(interactions))
    # So that the catalogue has as many items as it is said to have.
    ranks[generator.choice(interactions, n_items, replace=False)] = np.arange(n_items)
    numbers = generator.permutation(n_items).astype(np.int32)
    return Histories(
        items=numbers[np.minimum(ranks, n_items - 1)],
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        n_items=n_items,
    )


def _lengths(generator: np.random.Generator, n_users: int, interactions: int) -> Int64Array:
    """int64 ``[users]``: interactions of each user, which add up to `interactions`."""
    shortest = min(SHORTEST, interactions // n_users)
    weights = generator.lognormal(sigma=LENGTH_SPREAD, size=n_users)
    extra = (interactions - shortest * n_users) * weights / weights.sum()
    lengths = shortest + extra.astype(np.int64)
    missing = interactions - int(lengths.sum())
    lengths[np.argsort(extra % 1)[n_users - missing :]] += 1
    return lengths
