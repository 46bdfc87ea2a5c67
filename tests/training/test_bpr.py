"""BPR's pairs, its negatives and its loss, against what is written plainly."""

import math

import numpy as np
import pytest
import torch

from peercollab.data.sequences import Histories
from peercollab.errors import PeercollabError
from peercollab.models.bpr_mf import BPRMFOptions
from peercollab.training.bpr import OutsideSampler, bpr
from peercollab.training.examples import make_examples, pairs
from peercollab.training.options import TrainingOptions
from peercollab.training.trainer import Trainer

ITEMS = 9


def log_of(*histories: list[int], n_items: int = ITEMS) -> Histories:
    lengths = [len(history) for history in histories]
    items = np.array([item for history in histories for item in history], dtype=np.int32)
    return Histories(items, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), n_items)


# The last two of each are held out.
LOG = log_of([3, 1, 3, 2, 8], [0, 4, 7], [5, 6], [8, 0, 1, 2, 3, 4, 5, 6, 7])
OWN = [{3, 1}, {0}, {5, 6}, {8, 0, 1, 2, 3, 4, 5}]


def test_pairs_are_those_of_training_each_once() -> None:
    users, items = pairs(LOG)
    assert list(zip(users.tolist(), items.tolist(), strict=True)) == [
        (user, item) for user, own in enumerate(OWN) for item in sorted(own)
    ]
    parts = make_examples(LOG, BPRMFOptions()).batch(np.array([2, 0]), np.random.default_rng(0))
    (part,) = parts
    assert part.rows.users_B is not None
    assert part.rows.users_B.tolist() == [1, 0]
    assert part.targets_N.tolist() == [0, 1]


def test_negatives_are_uniform_over_what_the_user_does_not_have() -> None:
    sampler = OutsideSampler(LOG)
    n_draws = 20_000
    for user, own in enumerate(OWN):
        users_N = torch.full((n_draws,), user)
        drawn = sampler.draw(users_N, np.random.default_rng(user)).numpy()
        counts = np.bincount(drawn, minlength=ITEMS)
        outside = sorted(set(range(ITEMS)) - own)
        assert counts[sorted(own)].sum() == 0
        expected = n_draws / len(outside)
        assert (abs(counts[outside] - expected) < 5 * math.sqrt(expected)).all()


def test_negatives_of_many_users_at_once_are_their_own() -> None:
    generator = np.random.default_rng(1)
    users = generator.integers(0, len(OWN), 500)
    drawn = OutsideSampler(LOG).draw(torch.from_numpy(users), generator).tolist()
    assert all(item not in OWN[user] for user, item in zip(users, drawn, strict=True))


def test_who_has_all_items_is_left_out() -> None:
    # The first user has all three of them, before the two that are held out.
    log = log_of([0, 1, 2, 0, 0], [1, 0, 2], n_items=3)
    examples = make_examples(log, BPRMFOptions())
    (part,) = examples.batch(np.arange(len(examples)), np.random.default_rng(0))
    assert part.rows.users_B is not None
    assert part.rows.users_B.tolist() == [1]
    with pytest.raises(PeercollabError, match="every user has all items"):
        make_examples(log_of([0, 1, 2, 0, 0], n_items=3), BPRMFOptions())


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_loss_is_that_of_the_paper_and_so_is_its_gradient(
    weight_decay: float, has_bias: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_ND, table_VD = (
        torch.randn(n, 4, generator=generator, dtype=torch.float64, requires_grad=True)
        for n in (6, ITEMS)
    )
    bias_V = torch.randn(ITEMS, generator=generator, dtype=torch.float64) if has_bias else None
    targets_N, negatives_N = (torch.randint(ITEMS, (6,), generator=generator) for _ in range(2))
    loss = bpr(hidden_ND, table_VD, bias_V, targets_N, negatives_N, weight_decay)
    expected = torch.zeros((), dtype=torch.float64)
    for user_D, target, negative in zip(hidden_ND, targets_N, negatives_N, strict=True):
        x_ui, x_uj = user_D @ table_VD[target], user_D @ table_VD[negative]
        if bias_V is not None:
            x_ui, x_uj = x_ui + bias_V[target], x_uj + bias_V[negative]
        expected = expected - torch.log(torch.sigmoid(x_ui - x_uj)) / 6
        squares = sum((v**2).sum() for v in (user_D, table_VD[target], table_VD[negative]))
        expected = expected + weight_decay / 2 * squares / 6
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (hidden_ND, table_VD), retain_graph=True)
    for found, wanted in zip(
        gradients, torch.autograd.grad(expected, (hidden_ND, table_VD)), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def test_weight_decay_is_the_losss_and_not_adams() -> None:
    """An item in no batch keeps its vector, whatever the penalty."""
    log = log_of([0, 1, 2, 3], [1, 0, 2, 3], n_items=200)
    options = TrainingOptions(epochs=1, batch_size=4, weight_decay=0.5)
    trainer = Trainer(
        log,
        BPRMFOptions(hidden_size=4),
        options,
        stream=1,
        learning_rate=0.01,
        device=torch.device("cpu"),
    )
    before = trainer.model.item_table()[0].detach().clone()
    trainer.train_epoch(1)
    moved = (trainer.model.item_table()[0] != before).any(dim=1)
    # Four pairs, each with one negative.
    assert 2 < moved.sum() <= 6
