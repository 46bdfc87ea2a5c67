"""Whether a rule of the user's own can mix what a network has."""

import sys
from collections.abc import Mapping
from contextlib import redirect_stdout

import torch
from torch import Tensor

from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings
from peercollab.transplant.layers import LayerChoice, choose_layers, layer_map
from peercollab.transplant.rules.own_rule import OwnRule

# Rows of the largest tables that are tried: items and users differ in nothing but their number.
FEW = 1000


def require_mixing(
    rule: OwnRule, choice: LayerChoice, settings: ModelSettings, n_items: int, n_users: int
) -> None:
    """Try a rule on tensors like those that will take part, before anything is trained.

    Their values are no weights of a network, whose first ones, such as biases of zeros, a rule need
    not be made for.

    Raises
    ------
    PeercollabError
        It fails on one, or gives something else than such a tensor.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        return {
            name: torch.rand(shape, generator=generator) + 0.5 for name, shape in shapes.items()
        }

    model = build_model(min(n_items, FEW), settings, 0, min(n_users, FEW))
    for layer in choose_layers(layer_map(model), choice).values():
        own, donor = drawn(layer.tensors), drawn(layer.tensors)
        for name in layer.tensors:
            # What the function prints goes where it goes in training.
            with redirect_stdout(sys.stderr):
                rule.mix(name, (own[name],), (donor[name],), 0.5)
