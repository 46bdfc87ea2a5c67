"""Units in another order: the same function; matching finds the order back."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.data.batches import Rows
from peercollab.models.build import build_model
from peercollab.models.model import SequenceModel
from peercollab.models.sasrec import SASRecOptions
from peercollab.transplant.alignment import align, permute
from peercollab.transplant.rules.rule import Bundles
from tests.models.common import random_orders

ITEMS = 50


FORMS: list[dict[str, Any]] = [
    {},
    {"norm": "before", "final_norm": True, "activation": "gelu"},
    {"projection": True},
    {"tied": True},
]
in_every_form = pytest.mark.parametrize(
    "form", FORMS, ids=["published", "norms", "projection", "tied"]
)


def model_of(heads: int, seed: int = 1, **form: Any) -> SequenceModel:
    options = SASRecOptions(hidden_size=12, blocks=2, heads=heads, max_length=9, **form)
    model = build_model(ITEMS, options, seed).eval()
    with torch.no_grad():
        # Norms begin at 1 and 0, which no permutation would change.
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
    return model


def logits(model: SequenceModel) -> Tensor:
    items = torch.randint(ITEMS, (5, 9), generator=torch.Generator().manual_seed(0))
    hidden_BLD = model(Rows(items, torch.full((5,), 9)))
    table_VD, bias_V = model.item_table()
    scores_BLV = hidden_BLD @ table_VD.T
    return scores_BLV if bias_V is None else scores_BLV + bias_V


def state_of(model: SequenceModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@in_every_form
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_a_permuted_model_computes_the_same_function(heads: int, form: dict[str, Any]) -> None:
    model = model_of(heads, **form)
    symmetries = list(model.symmetries())
    before = logits(model)
    original = state_of(model)
    permuted = permute(original, symmetries, random_orders(symmetries, np.random.default_rng(4)))
    model.load_state_dict(permuted)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
    moved = [name for name in original if not torch.equal(original[name], permuted[name])]
    # Of a change in order only what lies along the items stays.
    assert set(original) - set(moved) == {"output.bias"} & set(original)


@in_every_form
@pytest.mark.parametrize("heads", [1, 2, 3])
def test_matching_finds_the_order_back(heads: int, form: dict[str, Any]) -> None:
    model = model_of(heads, **form)
    symmetries = list(model.symmetries())
    own = state_of(model)
    shuffled = permute(own, symmetries, random_orders(symmetries, np.random.default_rng(4)))
    aligned = align(
        {name: (value,) for name, value in own.items()},
        {name: (value, value * 2) for name, value in shuffled.items()},
        symmetries,
    )
    for name, value in own.items():
        assert torch.equal(aligned[name][0], value)
        assert torch.equal(aligned[name][1], value * 2)


@pytest.mark.parametrize("heads", [1, 2])
def test_aligning_a_stranger_brings_it_nearer_and_keeps_its_function(heads: int) -> None:
    own, donor = model_of(heads, seed=1), model_of(heads, seed=2)
    before = logits(donor)
    bundles = [{n: (v,) for n, v in state_of(model).items()} for model in (own, donor)]
    aligned = align(bundles[0], bundles[1], donor.symmetries())

    def agreement(other: Bundles) -> float:
        return sum(float((bundles[0][name][0] * other[name][0]).sum()) for name in other)

    assert agreement(aligned) > agreement(bundles[1]) + 1
    donor.load_state_dict({name: bundle[0] for name, bundle in aligned.items()})
    torch.testing.assert_close(logits(donor), before, rtol=1e-4, atol=1e-4)


def test_what_travels_is_matched_by_itself() -> None:
    model = model_of(heads=1)
    symmetries = list(model.symmetries())
    name = "item_embedding.weight"
    own = state_of(model)
    shuffled = permute(own, symmetries, random_orders(symmetries, np.random.default_rng(4)))
    aligned = align({n: (v,) for n, v in own.items()}, {name: (shuffled[name],)}, symmetries)
    assert list(aligned) == [name]
    assert torch.equal(aligned[name][0], own[name])


def test_equal_models_stay_as_they_are() -> None:
    model = model_of(heads=2)
    bundles = {name: (value,) for name, value in state_of(model).items()}
    aligned = align(bundles, bundles, model.symmetries())
    assert all(torch.equal(aligned[name][0], bundles[name][0]) for name in bundles)


def test_every_symmetry_names_tensors_of_its_size() -> None:
    model = model_of(heads=2)
    state = model.state_dict()
    for symmetry in model.symmetries():
        assert symmetry.size % symmetry.block == 0
        for name, axis in symmetry.axes:
            assert state[name].shape[axis] == symmetry.size
