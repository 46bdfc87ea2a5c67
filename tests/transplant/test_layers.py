"""The layer map of real and of awkward models."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from peercollab.data.batches import Rows
from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.model import Scope, SequenceModel
from peercollab.models.sasrec import SASRecOptions
from peercollab.transplant.layers import LayerChoice, choose_layers, layer_map, layer_tensors

ITEMS = 11
OPTIONS = SASRecOptions(hidden_size=8, blocks=2, heads=2, max_length=5)


class TiedNetwork(SequenceModel):
    """An item table that is the output too, and a normalisation that keeps statistics."""

    shared_layers = ("output",)

    def __init__(self) -> None:
        super().__init__()
        self.max_length = 5
        self.items = nn.Embedding(ITEMS, 4)
        self.norm = nn.BatchNorm1d(4)
        self.output = nn.Linear(4, ITEMS, bias=False)
        self.output.weight = self.items.weight

    def forward(self, rows: Rows) -> Tensor:
        return self.norm(self.items(rows.items_BL).mT).mT

    def item_table(self) -> tuple[Tensor, Tensor | None]:
        return self.output.weight, None


class ScaledNetwork(TiedNetwork):
    """A parameter of the model's own, in none of its modules."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4, 4))


class MaskedLinear(nn.Linear):
    """A module with a buffer that is no part of its state."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.register_buffer("mask", torch.ones(4, 4), persistent=False)


class MaskedNetwork(TiedNetwork):
    def __init__(self) -> None:
        super().__init__()
        self.masked = MaskedLinear()


def sasrec() -> SequenceModel:
    return build_model(ITEMS, OPTIONS, seed=0)


MODELS = [sasrec, TiedNetwork, ScaledNetwork]


@pytest.mark.parametrize("make", MODELS)
def test_every_parameter_is_in_exactly_one_layer(make: type[SequenceModel]) -> None:
    model = make()
    in_layers = [name for layer in layer_map(model).values() for name in layer.tensors]
    assert len(in_layers) == len(set(in_layers))
    parameters = {name for name, _ in model.named_parameters()}
    assert parameters <= set(in_layers)


@pytest.mark.parametrize("make", [*MODELS, MaskedNetwork])
def test_the_map_names_tensors_as_the_models_state_does(make: type[SequenceModel]) -> None:
    model = make()
    tensors = layer_tensors(model)
    for layer in layer_map(model).values():
        for name, shape in layer.tensors.items():
            assert tuple(tensors[name].shape) == shape


@pytest.mark.parametrize("make", MODELS)
def test_every_layer_has_exactly_one_scope(make: type[SequenceModel]) -> None:
    layers = layer_map(make())
    assert {layer.scope for layer in layers.values()} <= set(get_args(Scope))
    assert all(layer.name == name for name, layer in layers.items())


def test_scopes_of_sasrec_are_embedding_middle_and_final() -> None:
    layers = layer_map(sasrec())
    in_a_block = (
        "query",
        "key",
        "value",
        "attention_norm",
        "widen",
        "narrow",
        "feed_forward_norm",
    )
    scopes = {"item_embedding": "embedding", "position_embedding": "embedding", "output": "final"}
    scopes |= {f"blocks.{block}.{name}": "middle" for block in range(2) for name in in_a_block}
    assert {name: layer.scope for name, layer in layers.items()} == scopes


def test_query_key_and_value_are_layers_of_their_own() -> None:
    layers = layer_map(sasrec())
    for name in ("query", "key", "value"):
        assert layers[f"blocks.1.{name}"].tensors == {
            f"blocks.1.{name}.weight": (8, 8),
            f"blocks.1.{name}.bias": (8,),
        }


@pytest.mark.parametrize("make", MODELS)
def test_a_layers_weight_comes_first(make: type[SequenceModel]) -> None:
    for layer in layer_map(make()).values():
        names = list(layer.tensors)
        assert layer.weight == names[0]
        weights = [name for name in names if name.endswith(".weight")]
        assert weights == names[: len(weights)]


def test_a_shared_tensor_is_one_layer_in_the_scope_of_its_first_module() -> None:
    layers = layer_map(TiedNetwork())
    assert layers["items"].scope == "embedding"
    assert layers["items"].tensors == {"items.weight": (ITEMS, 4)}
    assert "output" not in layers


def test_statistics_of_a_batch_norm_travel_with_its_layer_and_its_counter_does_not() -> None:
    layer = layer_map(TiedNetwork())["norm"]
    assert layer.weight == "norm.weight"
    assert set(layer.tensors) == {
        "norm.weight",
        "norm.bias",
        "norm.running_mean",
        "norm.running_var",
    }
    assert layer.buffers == {"norm.running_mean", "norm.running_var"}


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        (torch.bfloat16, "--precision bf16"),
        (torch.float16, "in float32"),
        (torch.int64, "a buffer"),
    ],
)
def test_weights_that_cannot_be_mixed_are_named(kind: torch.dtype, remedy: str) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = nn.Parameter(torch.zeros(2, 2, dtype=kind), requires_grad=False)
    with pytest.raises(PeercollabError, match=f"layer 1: weight is of {kind}, .*{remedy}"):
        layer_map(model)


def test_choices_partition_the_layers() -> None:
    layers = layer_map(sasrec())
    assert choose_layers(layers, "all") == layers
    choices: tuple[LayerChoice, ...] = ("embedding", "middle", "final")
    parts = [choose_layers(layers, choice) for choice in choices]
    assert sum(len(part) for part in parts) == len(layers)
    for choice, part in zip(choices, parts, strict=True):
        assert part
        assert {layer.scope for layer in part.values()} == {choice}
        assert all(layers[name] is layer for name, layer in part.items())


def test_an_empty_scope_is_refused_by_name() -> None:
    with pytest.raises(PeercollabError, match="--layers final") as caught:
        choose_layers(layer_map(TiedNetwork()), "final")
    assert len(str(caught.value).splitlines()) <= 2


def test_layer_tensors_are_the_models_own_memory_without_gradients() -> None:
    model = TiedNetwork()
    tensors = layer_tensors(model)
    assert set(tensors) == set(model.state_dict())
    assert not any(value.requires_grad for value in tensors.values())
    tensors["items.weight"].fill_(3.0)
    tensors["norm.running_mean"].fill_(5.0)
    assert torch.equal(model.items.weight, torch.full((ITEMS, 4), 3.0))
    assert torch.equal(model.output.weight, model.items.weight)
    assert model.norm.running_mean is not None
    assert torch.equal(model.norm.running_mean, torch.full((4,), 5.0))
    assert model.items.weight.requires_grad
