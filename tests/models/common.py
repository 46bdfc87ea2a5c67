"""What tests of all models share: small batches, weights that all matter, and plain layers."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from peercollab.data.batches import Rows
from peercollab.data.sequences import Int64Array
from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings, SequenceModel, Symmetry

ITEMS = 13
USERS = 6
LENGTH = 7

State = Mapping[str, np.ndarray]


def any_weights(settings: ModelSettings, seed: int = 0) -> SequenceModel:
    """A float64 model in which every parameter, norms and biases included, has weight."""
    model = build_model(ITEMS, settings, seed, USERS).double().eval()
    generator = torch.Generator().manual_seed(seed + 1)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data.copy_(0.7 * drawn)
    return model


def state_of(model: SequenceModel) -> State:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def rows_of(*histories: list[int]) -> Rows:
    """The histories side by side, of users 0, 1, ..."""
    longest = max(len(history) for history in histories)
    return Rows(
        torch.tensor([history + [0] * (longest - len(history)) for history in histories]),
        torch.tensor([len(history) for history in histories]),
        users_B=torch.arange(len(histories)),
    )


def some_histories(*lengths: int, seed: int = 3) -> list[list[int]]:
    generator = np.random.default_rng(seed)
    return [generator.integers(1, ITEMS, n).tolist() for n in lengths]


def linear(state: State, name: str, x: np.ndarray) -> np.ndarray:
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def layer_norm(state: State, name: str, x: np.ndarray, eps: float) -> np.ndarray:
    variance = ((x - x.mean()) ** 2).mean()
    normed = (x - x.mean()) / math.sqrt(variance + eps)
    return normed * state[f"{name}.weight"] + state[f"{name}.bias"]


def random_orders(
    symmetries: Sequence[Symmetry], generator: np.random.Generator
) -> list[Int64Array]:
    """For each symmetry any order that it allows."""
    return [
        np.concatenate(
            [start + generator.permutation(s.block) for start in range(0, s.size, s.block)]
        )
        for s in symmetries
    ]
