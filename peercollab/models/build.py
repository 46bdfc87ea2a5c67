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
