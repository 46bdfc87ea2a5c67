"""Make a model, with its initial weights drawn from a seed."""

import torch

from peercollab.models.model import ModelSettings, SequenceModel

# Of a model that is made to see what it is.
FEW_ITEMS = 8


def build_model(
    n_items: int, settings: ModelSettings, seed: int, n_users: int = 0
) -> SequenceModel:
    """A model on the CPU whose weights depend on `seed` alone.

    They are drawn on the CPU, so that every device starts from the same ones, and torch's own
    generator there is left as it was.

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
        torch.default_generator.manual_seed(seed)
        return settings.make(n_items, n_users)


def model_bytes(n_items: int, settings: ModelSettings, n_users: int = 0) -> int:
    """Bytes of a model's weights and buffers, without making one of that size.

    A catalogue of few items and one of twice as many tell what each item adds, and users likewise.
    (Not of one: networks of the user's own are known to be made for few, and no fewer. A model
    on torch's meta device would tell directly, but filling it imports torch's compiler, which
    takes seconds.)
    """

    def size(items: int, users: int) -> int:
        state = build_model(items, settings, 0, users).state_dict()
        return sum(value.nbytes for value in state.values())

    few = size(FEW_ITEMS, 1)
    item = (size(2 * FEW_ITEMS, 1) - few) // FEW_ITEMS
    user = size(FEW_ITEMS, 2) - few
    return few + (n_items - FEW_ITEMS) * item + max(n_users - 1, 0) * user
