"""Whether a rule of the user's own can mix what a network has."""

import sys
from contextlib import redirect_stdout

import torch
from torch import Tensor

from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings
from peercollab.transplant.layers import LayerChoice, choose_layers, layer_map
from peercollab.transplant.rules.own_rule import OwnRule

SHARE = 0.5


@torch.no_grad()
def require_mixing(
    rule: OwnRule, choice: LayerChoice, settings: ModelSettings, n_items: int, n_users: int
) -> None:
    """Try a rule on tensors like those that will take part, before anything is trained.

    Their values are random, of both signs, but for statistics, and not close to 0: a rule need not
    be made for the first weights of a network, such as biases of zeros.

    Raises
    ------
    PeercollabError
        It fails on one, or gives something else than such a tensor.
    """
    model = build_model(n_items, settings, 0, n_users)
    state = model.state_dict()
    generator = torch.Generator().manual_seed(0)

    def drawn(name: str, *, is_statistic: bool) -> tuple[Tensor]:
        like = state[name]
        values = torch.rand(like.shape, dtype=like.dtype, generator=generator) + 0.5
        if is_statistic:
            return (values,)
        return (torch.where(torch.rand(like.shape, generator=generator) < 0.5, values, -values),)

    # What the function prints goes where it goes in training.
    with torch.random.fork_rng(devices=[]), redirect_stdout(sys.stderr):
        for layer in choose_layers(layer_map(model), choice).values():
            for name in layer.tensors:
                own, donor = (drawn(name, is_statistic=name in layer.buffers) for _ in range(2))
                try:
                    rule.mix(name, own, donor, SHARE)
                except PeercollabError as error:
                    raise PeercollabError(f"{error} (tried on random numbers)") from error
