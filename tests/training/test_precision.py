"""Numbers: chosen once, said with the reason, and near each other in what they lead to."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from peercollab.data.sequences import Histories
from peercollab.models.sasrec import SASRecOptions
from peercollab.training import loss as loss_module
from peercollab.training.loss import full_cross_entropy, rows_at_once
from peercollab.training.options import TrainingOptions
from peercollab.training.precision import Precision, choose
from peercollab.training.trainer import Trainer

CPU = torch.device("cpu")
OPTIONS = TrainingOptions(epochs=2, batch_size=16, seed=5)


def trainer(options: TrainingOptions) -> Trainer:
    items = (np.arange(900) * 7 % 40).astype(np.int32)
    histories = Histories(items, np.arange(0, 901, 9), 40)
    model = SASRecOptions(hidden_size=16, max_length=8, dropout=0.0)
    return Trainer(histories, model, options, stream=1, learning_rate=1e-3, device=CPU)


def test_on_a_cpu_float32_is_chosen_with_the_reason() -> None:
    assert str(choose("auto", "cpu")) == "fp32 (bf16 was measured slower on a CPU)"
    assert choose("auto", "cuda").tf32
    assert not choose("fp32", "cuda").tf32
    assert choose("bf16", "cpu").products == torch.bfloat16


@pytest.mark.parametrize(("precision", "setting"), [("auto", "high"), ("fp32", "highest")])
@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_torchs_setting_is_the_numbers_own_and_is_given_back(
    precision: Precision, setting: str, before: str
) -> None:
    numbers = choose(precision, "cuda")

    def fail() -> None:
        with numbers.used(torch.device("cuda")):
            assert torch.get_float32_matmul_precision() == setting
            raise ZeroDivisionError

    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with numbers.used(torch.device("cuda")):
            assert torch.get_float32_matmul_precision() == setting
        assert torch.get_float32_matmul_precision() == before
        with pytest.raises(ZeroDivisionError):
            fail()
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(usual)


def test_bf16_loses_little_and_leaves_weights_in_float32() -> None:
    exact, short = trainer(OPTIONS), trainer(replace(OPTIONS, precision="bf16"))
    losses = [[own.train_epoch(epoch).loss for epoch in (1, 2)] for own in (exact, short)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert all(p.dtype == torch.float32 for p in short.model.parameters())


@pytest.mark.parametrize("positions", [1, 33, 70])
def test_the_loss_in_bf16_is_within_its_own_tolerance(positions: int) -> None:
    generator = torch.Generator().manual_seed(positions)
    hidden, table = (torch.randn(n, 8, generator=generator) for n in (positions, 101))
    bias, targets = torch.randn(101, generator=generator), torch.arange(positions) % 101
    outcomes = []
    for numbers in (choose("fp32", "cpu"), choose("bf16", "cpu")):
        leaves = [x.clone().requires_grad_() for x in (hidden, table, bias)]
        with numbers.used(CPU):
            loss = full_cross_entropy(leaves[0], leaves[1], leaves[2], targets)
        loss.backward()
        outcomes.append([loss.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    for exact, short in zip(*outcomes, strict=True):
        assert short.dtype == torch.float32
        # A bf16 number has 8 bits, so each is off by 1/512 at most: 1/64 leaves room for logits,
        # probabilities and products that are rounded one after another.
        assert (exact - short).abs().max() <= exact.abs().max() / 64


def test_sums_over_many_chunks_lose_nothing_to_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss_module._CHUNK_BYTES, "cpu", 1)
    positions, items = 400 * rows_at_once(100, CPU), 100
    generator = torch.Generator().manual_seed(1)
    shapes = (positions, 8), (items, 8), (items,)
    drawn = [torch.randn(shape, generator=generator) for shape in shapes]
    targets = torch.randint(items, (positions,), generator=generator)
    outcomes = []
    for numbers in (choose("fp32", "cpu"), choose("bf16", "cpu")):
        hidden, table, bias = (x.clone().requires_grad_() for x in drawn)
        with numbers.used(CPU):
            loss = full_cross_entropy(hidden, table, bias, targets)
        outcomes.append(torch.autograd.grad(loss, (table, bias)))
    for exact, short in zip(*outcomes, strict=True):
        # As near as torch's own autocast comes, 0.4 %: a sum in bf16 would be off by 1 to 2 %.
        assert (exact - short).norm() <= 0.006 * exact.norm()


def test_a_loss_is_subtracted_in_float32() -> None:
    table = torch.tensor([[100.0], [0.25]])
    with choose("bf16", "cpu").used(CPU):
        loss = full_cross_entropy(torch.ones(1, 1), table, None, torch.tensor([1]))
    # Both logits are bf16 numbers, and their difference is none.
    assert loss.item() == 99.75
