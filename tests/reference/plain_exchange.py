"""Exchange the published way: each peer's weights in a file, read and mixed layer by layer."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

BINS = 10


def plain_entropy(weight_T: Tensor) -> float:
    """``-sum p ln p`` over ten equal-width bins of a layer's weight, in float64 (nats)."""
    values = weight_T.detach().cpu().numpy().astype(np.float64).ravel()
    if values.min() == values.max():
        return 0.0
    counts, _ = np.histogram(values, bins=BINS)
    shares = counts[counts > 0] / values.size
    return float(-(shares * np.log(shares)).sum())


def plain_exchange(models: Sequence[nn.Module], folder: Path, steepness: float = 30.0) -> None:
    """One layer-wise exchange in a ring: each peer takes from the one before it, all at once.

    Every module's weight decides how much of the donor's is taken, and its bias follows it.
    """
    for number, model in enumerate(models):
        torch.save(model.state_dict(), folder / f"peer-{number}.pt")
    for number, model in enumerate(models):
        donor = torch.load(folder / f"peer-{(number - 1) % len(models)}.pt")
        own = model.state_dict()
        for name in own:
            if not name.endswith("weight"):
                continue
            delta = plain_entropy(own[name]) - plain_entropy(donor[name])
            alpha = 1 / (1 + math.exp(-steepness * delta))
            for part in (name, f"{name.removesuffix('weight')}bias"):
                if part in own:
                    own[part] = alpha * own[part] + (1 - alpha) * donor[part]
        model.load_state_dict(own)
