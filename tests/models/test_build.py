"""Initial weights come from their seed alone."""

import math

import torch

from peercollab.models.build import build_model
from peercollab.models.sasrec import SASRecOptions

OPTIONS = SASRecOptions(hidden_size=32, blocks=1, max_length=40)
ITEMS = 500


def test_weights_depend_on_the_seed_alone() -> None:
    first = build_model(ITEMS, OPTIONS, seed=1).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(77)
        again = build_model(ITEMS, OPTIONS, seed=1).state_dict()
    other = build_model(ITEMS, OPTIONS, seed=2).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    drawn = [name for name in first if "norm" not in name]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_torchs_own_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    build_model(ITEMS, OPTIONS, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_embeddings_are_normal_with_deviation_a_hundredth_and_the_rest_is_torchs_default() -> None:
    state = build_model(ITEMS, OPTIONS, seed=3).state_dict()
    for name in ("item_embedding.weight", "position_embedding.weight"):
        n = state[name].numel()
        assert abs(state[name].std().item() / 0.01 - 1) < 4 / math.sqrt(2 * n)
        assert abs(state[name].mean().item()) < 4 * 0.01 / math.sqrt(n)
    # Linear layers: uniform within 1 / sqrt(inputs), weight and bias.
    bound = 1 / math.sqrt(OPTIONS.hidden_size)
    for name in ("output.weight", "output.bias", "blocks.0.query.weight", "blocks.0.narrow.weight"):
        assert 0.9 * bound < state[name].abs().max().item() <= bound
    assert state["blocks.0.attention_norm.weight"].eq(1).all()
    assert state["blocks.0.attention_norm.bias"].eq(0).all()
