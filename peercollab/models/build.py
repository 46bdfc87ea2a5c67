"""Make a model, with its initial weights drawn from a seed."""

import torch

from peercollab.models.model import ModelSettings, SequenceModel


def build_model(
    n_items: int, settings: ModelSettings, seed: int, n_users: int = 0
) -> SequenceModel:
    """A model on the CPU whose weights depend on `seed` alone.

    They are drawn on the CPU, so that every device starts from the same ones, and torch's own
    generator is left as it was.

    Parameters
    ----------
    n_items
        Size of the catalogue.
    settings
        The kind of model, and its options.
    seed
        Where the weights come from.
    n_users
        Users of a model that has a vector for each.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return settings.make(n_items, n_users)


def model_bytes(n_items: int, settings: ModelSettings, n_users: int = 0) -> int:
    """Bytes of a model's weights and buffers, without making one of that size.

    A catalogue of one item and one of two tell what each item adds, and users likewise. (A model
    on torch's meta device would tell directly, but filling it imports torch's compiler, which
    takes seconds.)
    """

    def size(items: int, users: int) -> int:
        state = build_model(items, settings, 0, users).state_dict()
        return sum(value.nbytes for value in state.values())

    one = size(1, 1)
    return one + (n_items - 1) * (size(2, 1) - one) + max(n_users - 1, 0) * (size(1, 2) - one)
