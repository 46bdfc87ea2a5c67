"""The laws that every model keeps: the registered ones in all their forms, and the guide's own."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from peercollab.data.batches import Rows
from peercollab.data.sequences import Histories
from peercollab.data.split import Spans
from peercollab.models.bpr_mf import BPRMFOptions
from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings, SequenceModel
from peercollab.models.nextitnet import NextItNetOptions
from peercollab.models.options import MODELS, ModelOptions, options_of
from peercollab.models.own_model import OwnModelOptions
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import load_model, save_description, save_weights
from peercollab.models.youtube_dnn import YouTubeDNNOptions
from peercollab.training.options import TrainingOptions
from peercollab.training.scoring import ModelScorer, top_k
from peercollab.training.trainer import Trainer
from peercollab.transplant.alignment import permute
from peercollab.transplant.exchange import Exchange
from peercollab.transplant.grafting import Grafting
from peercollab.transplant.layers import layer_map
from peercollab.transplant.options import TransplantOptions
from peercollab.transplant.plan import Transfer, TransplantPlan
from tests.models.common import (
    ITEMS,
    LENGTH,
    USERS,
    any_weights,
    random_orders,
    rows_of,
    some_histories,
)
from tests.models.guide import python_of_the_guide

CPU = torch.device("cpu")
SIZES: Mapping[str, Any] = {"hidden_size": 6, "max_length": LENGTH, "dropout": 0.0}


def own_model() -> ModelSettings:
    """The network of the guide, made as the command line would."""
    space: dict[str, Any] = {}
    exec(python_of_the_guide()[0], space)
    return OwnModelOptions.from_object(space["Recent"], dict(SIZES))


SETTINGS: Mapping[str, ModelSettings] = {
    "sasrec": SASRecOptions(**SIZES, heads=2),
    "sasrec, later forms": SASRecOptions(
        **SIZES, norm="before", final_norm=True, projection=True, activation="gelu", tied=True
    ),
    "nextitnet": NextItNetOptions(**SIZES, dilations=(1, 2)),
    "nextitnet, bottleneck": NextItNetOptions(**SIZES, dilations=(1, 2), residual="bottleneck"),
    "youtube-dnn": YouTubeDNNOptions(**SIZES),
    "bpr-mf": BPRMFOptions(hidden_size=6),
    "the guide's": own_model(),
}
of_every_model = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
reading = {name: settings for name, settings in SETTINGS.items() if not settings.of_users}
of_every_reader = pytest.mark.parametrize("settings", reading.values(), ids=reading)


def last_states(model: SequenceModel, rows: Rows) -> Tensor:
    with torch.no_grad():
        return model.last_hidden(rows)


@of_every_reader
@pytest.mark.parametrize("changed", [0, 3, LENGTH - 1])
def test_a_later_item_never_changes_an_earlier_position(
    changed: int, settings: ModelSettings
) -> None:
    model = any_weights(settings)
    (history,) = some_histories(LENGTH)
    other = history.copy()
    other[changed] = (history[changed] + 5) % ITEMS
    with torch.no_grad():
        before, after = (model(rows_of(items))[0] for items in (history, other))
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.allclose(before[changed], after[changed])


@of_every_model
def test_padding_changes_nothing(settings: ModelSettings) -> None:
    model = any_weights(settings)
    rows = rows_of(*some_histories(3, LENGTH))
    other = rows.items_BL.clone()
    other[0, 3:] = 9
    with_other = replace(rows, items_BL=other)
    alone = Rows(rows.items_BL[:1, :3], rows.lengths_B[:1], users_B=torch.tensor([0]))
    torch.testing.assert_close(last_states(model, with_other), last_states(model, rows))
    torch.testing.assert_close(last_states(model, alone)[0], last_states(model, rows)[0])


@of_every_model
def test_the_order_of_rows_changes_no_row(settings: ModelSettings) -> None:
    model = any_weights(settings)
    histories = some_histories(1, 4, LENGTH, 2)
    order = [2, 0, 3, 1]
    rows = rows_of(*histories)
    moved = replace(rows_of(*(histories[row] for row in order)), users_B=torch.tensor(order))
    torch.testing.assert_close(last_states(model, moved), last_states(model, rows)[order])


@of_every_reader
def test_the_last_hidden_state_is_that_among_all_of_them(settings: ModelSettings) -> None:
    model = any_weights(settings)
    rows = rows_of(*some_histories(1, 4, LENGTH, 2))
    with torch.no_grad():
        among_all = model(rows)[torch.arange(4), rows.lengths_B - 1]
    torch.testing.assert_close(last_states(model, rows), among_all, rtol=1e-9, atol=1e-9)


def some_log() -> Histories:
    generator = np.random.default_rng(5)
    lengths = generator.integers(5, 12, USERS)
    steps = generator.choice([1, 1, 2], lengths.sum())
    items = (np.cumsum(steps) % ITEMS).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Histories(items, offsets, ITEMS)


def trained(settings: ModelSettings, epochs: int = 2, **training: Any) -> Trainer:
    options = TrainingOptions(epochs=epochs, batch_size=4, **training)
    trainer = Trainer(some_log(), settings, options, stream=1, learning_rate=0.01, device=CPU)
    for epoch in range(1, epochs + 1):
        trainer.train_epoch(epoch)
    return trainer


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@of_every_model
def test_a_second_training_equals_the_first(settings: ModelSettings) -> None:
    first, second = weights_of(trained(settings)), weights_of(trained(settings))
    assert all(torch.equal(first[name], value) for name, value in second.items())


@of_every_model
def test_training_lowers_the_loss(settings: ModelSettings) -> None:
    options = TrainingOptions(epochs=30, batch_size=4)
    trainer = Trainer(some_log(), settings, options, stream=1, learning_rate=0.01, device=CPU)
    losses = [trainer.train_epoch(epoch).loss for epoch in range(1, 31)]
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


@of_every_model
def test_recommendations_are_the_same_after_saving_and_loading(
    settings: ModelSettings, tmp_path: Path
) -> None:
    log = some_log()
    model = trained(settings).model.eval()
    save_weights(model.state_dict(), tmp_path)
    save_description(ITEMS, settings, tmp_path, USERS)
    own = settings if isinstance(settings, OwnModelOptions) else None
    loaded = load_model(tmp_path, CPU, own)
    spans = Spans(log.offsets[:-1], log.offsets[1:])
    users = np.array([0, 1, -1, 3, 4, 5])
    (items, scores), (items_again, scores_again) = (
        top_k(ModelScorer(one, CPU), log.items, spans, 5, keep_seen=False, users=users)
        for one in (model, loaded)
    )
    assert (items == items_again).all()
    assert (scores == scores_again).all()


@of_every_model
@pytest.mark.parametrize("loss", [None, "full", "sampled", "gbce"])
def test_a_gradient_reaches_every_parameter(settings: ModelSettings, loss: Any) -> None:
    trainer = trained(settings, epochs=1, loss=loss, init="own")
    named = dict(trainer.model.named_parameters())
    begun = dict(build_model(ITEMS, settings, 0, USERS).named_parameters())
    assert named.keys() == begun.keys()
    for name, parameter in named.items():
        moments = trainer.optimizer.moments(parameter)
        assert moments, name
        # A softmax does not change when all its scores grow by one number: so with this bias.
        if not name.endswith("key.bias"):
            assert moments[1].max() > 0, name


@of_every_model
def test_every_parameter_is_in_one_layer_and_every_layer_in_one_scope(
    settings: ModelSettings,
) -> None:
    model = build_model(ITEMS, settings, 0, USERS)
    layers = layer_map(model)
    in_layers = [name for layer in layers.values() for name in layer.tensors]
    assert sorted(in_layers) == sorted(name for name, _ in model.named_parameters())
    for name, layer in layers.items():
        is_embedding = isinstance(model.get_submodule(name), torch.nn.Embedding)
        assert (layer.scope == "embedding") == is_embedding
        assert (layer.scope == "final") == (name.split(".")[-1] == "output")


@of_every_model
def test_a_transplant_from_a_peer_with_the_same_weights_changes_nothing(
    settings: ModelSettings,
) -> None:
    trainer = trained(settings, epochs=1)
    before = weights_of(trainer)
    for rule in ("layer-wise", "parameter-wise", "average"):
        transplant = TransplantOptions(rule=rule).build()
        grafting = Grafting(trainer.model, transplant, trainer, CPU)
        shares = dict.fromkeys(grafting.layers, 0.5)
        plan = TransplantPlan(Exchange(1, 1), (0, 1), (0,), (Transfer(0, 1, shares),))
        parcel = grafting.export(plan.request(plan.transfers[0]))
        copied = {name: tuple(part.copy() for part in parts) for name, parts in parcel.items()}
        grafting.graft(plan, copied)
        for name, value in trainer.model.state_dict().items():
            assert torch.equal(value, before[name]), (rule, name)


with_symmetries = {
    name: settings for name, settings in SETTINGS.items() if any_weights(settings).symmetries()
}


@pytest.mark.parametrize("settings", with_symmetries.values(), ids=with_symmetries)
def test_units_in_another_order_compute_the_same_scores(settings: ModelSettings) -> None:
    model = any_weights(settings)
    rows = rows_of(*some_histories(1, 4, LENGTH))
    symmetries = list(model.symmetries())
    generator = np.random.default_rng(2)

    def scores() -> Tensor:
        table_VD, bias_V = model.item_table()
        scores_BV = last_states(model, rows) @ table_VD.T
        return (scores_BV if bias_V is None else scores_BV + bias_V).detach()

    orders = random_orders(symmetries, generator)
    before, state = scores(), model.state_dict()
    model.load_state_dict(permute(dict(state), symmetries, orders))
    torch.testing.assert_close(scores(), before, rtol=1e-9, atol=1e-9)


def test_all_registered_models_but_the_ones_own_have_symmetries() -> None:
    assert set(with_symmetries) == set(SETTINGS) - {"the guide's"}


# Of every option another value than the default.
OTHER_VALUES: Mapping[str, Any] = {
    "hidden_size": 8,
    "blocks": 3,
    "heads": 2,
    "dropout": 0.5,
    "max_length": 3,
    "norm": "before",
    "final_norm": True,
    "projection": True,
    "activation": "gelu",
    "tied": True,
    "residual": "bottleneck",
    "dilations": (2, 1),
    "kernel_size": 2,
}


def options_of_models() -> Iterator[tuple[str, str]]:
    for name, kind in MODELS.items():
        for option in options_of(kind):
            yield name, option


@pytest.mark.parametrize(("model", "option"), options_of_models())
def test_every_option_of_every_model_changes_what_it_learns(model: str, option: str) -> None:
    small: dict[str, Any] = {
        name: value
        for name, value in {"hidden_size": 6, "max_length": LENGTH, "dilations": (1, 2)}.items()
        if name in options_of(MODELS[model])
    }
    plain = ModelOptions(model=model, **small).build()
    other = ModelOptions(model=model, **(small | {option: OTHER_VALUES[option]})).build()
    losses = []
    for settings in (plain, other):
        trainer = Trainer(
            some_log(),
            settings,
            TrainingOptions(epochs=2, batch_size=4),
            stream=1,
            learning_rate=0.01,
            device=CPU,
        )
        losses.append([trainer.train_epoch(epoch).loss for epoch in (1, 2)])
    assert losses[0] != losses[1]


def test_every_option_of_the_command_line_is_some_models() -> None:
    of_models = {option for kind in MODELS.values() for option in options_of(kind)}
    assert {field.name for field in fields(ModelOptions)} == of_models | {"model"}
    assert set(OTHER_VALUES) == of_models
