"""Make a model, with its initial weights drawn from a seed."""

import torch

from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRec, SASRecOptions


def build_model(n_items: int, options: SASRecOptions, seed: int) -> SequenceModel:
    """A model on the CPU whose weights depend on `seed` alone.

    They are drawn on the CPU, so that every device starts from the same ones, and torch's own
    generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SASRec(n_items, options)


def model_bytes(n_items: int, options: SASRecOptions) -> int:
    """Bytes of a model's weights and buffers, without making one of that size.

    A catalogue of one item and one of two tell what each item adds. (A model on torch's meta
    device would tell directly, but filling it imports torch's compiler, which takes seconds.)
    """
    one, two = (
        sum(value.nbytes for value in build_model(n, options, seed=0).state_dict().values())
        for n in (1, 2)
    )
    return one + (n_items - 1) * (two - one)
