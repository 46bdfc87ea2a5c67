"""The plain reference and our code come to the same logits, loss, training, ranks and exchange.

./scripts/test tests/reference
"""

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from peercollab.data.batches import training_batch
from peercollab.data.sequences import Histories, Int64Array
from peercollab.data.split import Spans, queries, training_spans, windows
from peercollab.models.build import build_model
from peercollab.models.model import ModelSettings, SequenceModel
from peercollab.models.nextitnet import NextItNetOptions
from peercollab.models.sasrec import SASRecOptions
from peercollab.training import feed as feed_module
from peercollab.training import loss as loss_module
from peercollab.training.metrics import metrics_of
from peercollab.training.options import TrainingOptions
from peercollab.training.scoring import ModelScorer, rank_targets
from peercollab.training.trainer import Trainer
from peercollab.transplant.criteria import CRITERIA
from tests.reference.lists import lists_of
from tests.reference.plain_exchange import plain_entropy, plain_exchange
from tests.reference.plain_model import PlainSASRec
from tests.reference.plain_nextitnet import PlainNextItNet
from tests.reference.plain_ranking import plain_metrics, plain_ranks
from tests.reference.plain_training import (
    PlainModel,
    PlainTrainer,
    fixed_rows,
    inputs_and_targets,
    plain_loss,
)

ITEMS = 37
LENGTH = 9
OPTIONS = SASRecOptions(hidden_size=8, blocks=2, heads=2, dropout=0.0, max_length=LENGTH)
DILATIONS = (1, 2)
CONVOLUTIONS = NextItNetOptions(hidden_size=8, dilations=DILATIONS, dropout=0.0, max_length=LENGTH)


@pytest.fixture
def histories() -> Histories:
    """150 users of 3 to 30 items: some shorter than a window, some cut into several."""
    generator = np.random.default_rng(4)
    lengths = generator.integers(3, 31, 150)
    items = generator.integers(0, ITEMS, lengths.sum()).astype(np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), ITEMS)


def both(of: ModelSettings = OPTIONS) -> tuple[SequenceModel, PlainModel]:
    """Our model with every parameter drawn anew, and the plain one with the same ones."""
    ours = build_model(ITEMS, of, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in ours.parameters():
        parameter.data.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    plain: PlainModel
    if of == OPTIONS:
        plain = PlainSASRec(ITEMS, 8, blocks=2, heads=2, dropout=0.0, max_length=LENGTH)
    else:
        plain = PlainNextItNet(ITEMS, 8, DILATIONS, dropout=0.0, max_length=LENGTH)
    plain.eval().copy_from(ours.state_dict())
    return ours, plain


of_both_kinds = pytest.mark.parametrize("of", [OPTIONS, CONVOLUTIONS], ids=lambda of: of.name)


@of_both_kinds
def test_logits_are_equal_whichever_side_is_padded(of: ModelSettings, histories: Histories) -> None:
    ours, plain = both(of)
    spans = training_spans(histories)
    batch = training_batch(histories.items, windows(spans, LENGTH))
    rows = fixed_rows(lists_of(histories.items, spans), LENGTH, plain.padding)
    inputs_BL, targets_BL = inputs_and_targets(rows, plain.padding)
    is_real_BL = targets_BL != plain.padding
    assert not is_real_BL.all()
    with torch.no_grad():
        table_VD, bias_V = ours.item_table()
        hidden_ND = ours(batch.rows).flatten(0, 1)[batch.real_N]
        ours_NV = hidden_ND @ table_VD.T + bias_V
        plain_NV = plain.logits(inputs_BL)[is_real_BL]
    assert torch.equal(batch.targets_N, targets_BL[is_real_BL])
    torch.testing.assert_close(plain_NV, ours_NV, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([2], id="one-position"),
        pytest.param([2, 2, 2], id="one-item-sequences"),
        pytest.param([7], id="a-batch-of-one"),
        pytest.param([2, 3, 5, 7, 4, 9], id="odd-lengths"),
        pytest.param([10, 10, 10], id="full-rows"),
        pytest.param([23, 11, 2], id="cut-into-windows"),
    ],
)
@pytest.mark.parametrize("fewest_rows", [32, 4], ids=["one-chunk", "chunks"])
@of_both_kinds
def test_gradients_of_a_training_step_are_equal(
    of: ModelSettings, lengths: list[int], fewest_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every parameter, in float32, from packed rows and a loss in chunks."""
    monkeypatch.setattr(loss_module, "_FEWEST_ROWS", fewest_rows)
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 1)
    ours, plain = both(of)
    items = np.random.default_rng(3).integers(0, ITEMS, sum(lengths)).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    spans = Spans(offsets[:-1], offsets[1:])
    batch = training_batch(items, windows(spans, LENGTH))
    hidden_ND = ours(batch.rows).flatten(0, 1)[batch.real_N]
    loss = loss_module.full_cross_entropy(hidden_ND, *ours.item_table(), batch.targets_N)
    loss.backward()
    rows = fixed_rows(lists_of(items, spans), LENGTH, plain.padding)
    expected = plain_loss(plain, *inputs_and_targets(rows, plain.padding))
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    table = gradients["item_embedding.weight"]
    assert table is not None
    gradients["item_embedding.weight"] = table[:-1]
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("keep_seen", [False, True])
@of_both_kinds
def test_ranks_and_metrics_are_equal(
    of: ModelSettings, histories: Histories, keep_seen: bool
) -> None:
    ours, plain = both(of)
    asked = queries(histories, "validation")
    expected = rank_targets(
        ModelScorer(ours, torch.device("cpu")), histories.items, asked, keep_seen=keep_seen
    )
    ranks = plain_ranks(
        plain,
        lists_of(histories.items, asked.spans),
        asked.targets.tolist(),
        keep_seen=keep_seen,
        batch_size=32,
    )
    assert ranks == expected.tolist()
    assert plain_metrics(ranks) == pytest.approx(metrics_of(expected))


def test_training_lowers_the_loss_and_counts_real_positions(histories: Histories) -> None:
    _, plain = both()
    sequences = lists_of(histories.items, training_spans(histories))
    trainer = PlainTrainer(plain, sequences, batch_size=16, learning_rate=1e-2)
    rows = inputs_and_targets(trainer.rows, plain.padding)
    before = plain_loss(plain, *rows).item()
    steps = -(-len(trainer.rows) // 16)
    assert trainer.train(steps) == sum(len(sequence) - 1 for sequence in sequences)
    trainer.train(4 * steps)
    assert plain_loss(plain, *rows).item() < before - 0.2


def test_training_takes_the_same_way(histories: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many steps, from the same start, with the same batches and no dropout."""
    orders = torch.Generator().manual_seed(5)

    def drawn_alike(n_rows: int, batch_size: int, _: np.random.Generator) -> list[Int64Array]:
        order = torch.randperm(n_rows, generator=orders).numpy()
        return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]

    monkeypatch.setattr(feed_module, "shuffled", drawn_alike)
    ours = Trainer(
        histories,
        OPTIONS,
        TrainingOptions(batch_size=16),
        stream=1,
        learning_rate=1e-3,
        device=torch.device("cpu"),
    )
    plain = PlainSASRec(ITEMS, 8, blocks=2, heads=2, dropout=0.0, max_length=LENGTH)
    plain.copy_from(ours.model.state_dict())
    sequences = lists_of(histories.items, windows(training_spans(histories), LENGTH))
    trainer = PlainTrainer(plain, sequences, batch_size=16, seed=5)
    before = copy.deepcopy(ours.model.state_dict())
    for epoch in (1, 2, 3):
        positions = ours.train_epoch(epoch).positions
        assert trainer.train(ours.steps_per_epoch) == positions
    after = plain.state_dict()
    after["item_embedding.weight"] = after["item_embedding.weight"][:-1]
    for name, weight in ours.model.state_dict().items():
        if name.endswith("key.bias"):
            continue  # Its gradient is 0 but for rounding, which Adam makes into steps.
        assert (weight - before[name]).abs().max() > 0.01
        torch.testing.assert_close(weight, after[name], rtol=0, atol=2e-4, msg=name)


def test_an_exchange_mixes_by_entropy(tmp_path: Path) -> None:
    models = [PlainSASRec(ITEMS, 8, max_length=LENGTH) for _ in range(3)]
    before = [copy.deepcopy(model.state_dict()) for model in models]
    plain_exchange(models, tmp_path, steepness=5.0)
    layer = "blocks.1.widen"
    for number, model in enumerate(models):
        own, donor = before[number], before[number - 1]
        entropy = [CRITERIA["entropy"].measure(state[f"{layer}.weight"]) for state in (own, donor)]
        assert entropy[0] == pytest.approx(plain_entropy(own[f"{layer}.weight"]), abs=1e-9)
        alpha = 1 / (1 + math.exp(-5.0 * (entropy[0] - entropy[1])))
        for name in (f"{layer}.weight", f"{layer}.bias"):
            mixed = alpha * own[name] + (1 - alpha) * donor[name]
            torch.testing.assert_close(model.state_dict()[name], mixed)
