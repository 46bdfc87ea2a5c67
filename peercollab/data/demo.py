"""A synthetic interaction log, so that everything can be tried without a file.

Users have two tastes, tastes and the items within them are popular by Zipf's law, and most steps
follow an item's own successors: something that a sequence model can learn and popularity cannot.
Nobody meets an item twice.
"""

import csv
from pathlib import Path

import numpy as np

from peercollab.data.ids import renumber
from peercollab.data.layout import Layout
from peercollab.data.read import Interactions

# What it is called as data, and in a run's folder.
DEMO = "demo"
DEMO_FILE = "demo.csv"

USERS = 1500
TASTES = 10
ITEMS_A_TASTE = 50
SUCCESSORS = 4
FOLLOWS_TRANSITION = 0.6
SHORTEST, LONGEST = 8, 50
COLUMNS = ("user", "item")


def demo_interactions(seed: int = 0) -> Interactions:
    """The demo log: always the same for the same seed."""
    generator = np.random.default_rng(seed)
    n_items = TASTES * ITEMS_A_TASTE
    popularity = _zipf(ITEMS_A_TASTE)
    # Successors stay within the taste, for the most part the popular ones.
    first_of_taste = np.arange(n_items) // ITEMS_A_TASTE * ITEMS_A_TASTE
    successors = first_of_taste[:, None] + np.stack(
        [
            generator.choice(ITEMS_A_TASTE, SUCCESSORS, replace=False, p=popularity)
            for _ in range(n_items)
        ]
    )
    users: list[int] = []
    items: list[int] = []
    for user in range(USERS):
        tastes = generator.choice(TASTES, size=2, replace=False, p=_zipf(TASTES))
        history = _history(generator, tastes, popularity, successors)
        users += [user] * len(history)
        items += history
    # Not every item is met.
    all_ids = np.array([f"item-{i:03d}" for i in range(n_items)], dtype=object)
    numbers, item_ids = renumber(np.array(items, dtype=np.int64), all_ids)
    return Interactions(
        users=np.array(users, dtype=np.int64),
        items=numbers,
        times=None,
        user_ids=np.array([f"user-{u:04d}" for u in range(USERS)], dtype=object),
        item_ids=item_ids,
        layout=Layout.csv(*COLUMNS),
    )


def _zipf(n: int) -> np.ndarray:
    """Shares of n things by Zipf's law: the k-th has a share proportional to 1 / k."""
    share = 1.0 / np.arange(1, n + 1)
    return share / share.sum()


def _history(
    generator: np.random.Generator,
    tastes: np.ndarray,
    popularity: np.ndarray,
    successors: np.ndarray,
) -> list[int]:
    """One user's items in order, none of them twice."""
    length = int(generator.integers(SHORTEST, LONGEST, endpoint=True))
    history: list[int] = []
    seen: set[int] = set()
    for _ in range(length):
        fresh = [int(i) for i in successors[history[-1]] if int(i) not in seen] if history else []
        if fresh and generator.random() < FOLLOWS_TRANSITION:
            item = int(generator.choice(fresh))
        else:
            taste = int(generator.choice(tastes))
            item = taste * ITEMS_A_TASTE + int(generator.choice(ITEMS_A_TASTE, p=popularity))
            if item in seen:
                continue
        history.append(item)
        seen.add(item)
    return history


def write_csv(interactions: Interactions, path: Path) -> None:
    """Write the log as a CSV file of user and item, for `recommend` and for looking at."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(
            zip(
                interactions.user_ids[interactions.users],
                interactions.item_ids[interactions.items],
                strict=True,
            )
        )
