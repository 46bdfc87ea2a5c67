"""BPR-MF: vectors of users and items, and what it says of users that it does not know."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peercollab.data.batches import Rows, lay_out
from peercollab.data.layout import ReadOptions
from peercollab.data.prepare import PrepareOptions, prepare
from peercollab.data.read import read_interactions
from peercollab.data.split import Spans, queries
from peercollab.models.bpr_mf import BPRMFOptions
from peercollab.models.build import build_model, model_bytes
from peercollab.run import popularity_ranks
from peercollab.training.metrics import metrics_of
from peercollab.training.options import TrainingOptions
from peercollab.training.scoring import ModelScorer, rank_targets
from peercollab.training.trainer import Trainer
from tests.models.common import ITEMS, USERS, any_weights, rows_of, some_histories, state_of
from tests.training.losses import largest_allocation

CPU = torch.device("cpu")
OPTIONS = BPRMFOptions(hidden_size=6)


def test_scores_of_a_known_user_are_products_of_two_vectors_whatever_the_history() -> None:
    model = any_weights(OPTIONS)
    state = state_of(model)
    rows = replace(rows_of(*some_histories(1, 4, 2)), users_B=torch.tensor([5, 0, 5]))
    table_VD, bias_V = model.item_table()
    assert bias_V is None
    with torch.no_grad():
        scores = (model.last_hidden(rows) @ table_VD.T).numpy()
    for row, user in enumerate((5, 0, 5)):
        for item in range(ITEMS):
            expected = sum(
                a * b
                for a, b in zip(
                    state["user_embedding.weight"][user],
                    state["item_embedding.weight"][item],
                    strict=True,
                )
            )
            np.testing.assert_allclose(scores[row, item], expected, rtol=1e-9)


def test_a_new_users_vector_points_where_bprs_gradient_does() -> None:
    model = any_weights(OPTIONS)
    histories = some_histories(1, 4, 7)
    rows = replace(rows_of(*histories), users_B=torch.tensor([-1, 2, -1]))
    found = model.last_hidden(rows).detach()
    assert torch.equal(found[1], model.get_parameter("user_embedding.weight")[2])
    table_VD, _ = model.item_table()
    for row in (0, 2):
        # The loss of the history's items against the mean of the catalogue, at a vector of zeros.
        user_D = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        ahead = table_VD.detach()[histories[row]] - table_VD.detach().mean(dim=0)
        torch.nn.functional.softplus(-(ahead @ user_D)).sum().backward()
        assert user_D.grad is not None
        cosine = torch.cosine_similarity(found[row], -user_D.grad, dim=0)
        assert abs(float(cosine) - 1) < 1e-9


def test_without_users_all_are_new() -> None:
    model = any_weights(OPTIONS)
    rows = rows_of(*some_histories(3, 2))
    nobody = replace(rows, users_B=torch.full((2,), -1))
    assert torch.equal(model.last_hidden(replace(rows, users_B=None)), model.last_hidden(nobody))


def test_vectors_begin_small() -> None:
    state = build_model(300, OPTIONS, seed=1, n_users=200).state_dict()
    assert state["user_embedding.weight"].shape == (200, 6)
    for value in state.values():
        assert abs(value.std().item() / 0.01 - 1) < 0.1


def test_bytes_are_known_before_it_is_made() -> None:
    model = build_model(ITEMS, OPTIONS, seed=0, n_users=USERS)
    size = sum(value.nbytes for value in model.state_dict().values())
    assert model_bytes(ITEMS, OPTIONS, USERS) == size


@pytest.mark.real_data
def test_vectors_made_of_histories_rank_far_better_than_popularity(real_data: Path) -> None:
    interactions = read_interactions(real_data / "ml-100k.inter", ReadOptions())
    histories = prepare(interactions, PrepareOptions())[0].histories
    trainer = Trainer(
        histories,
        BPRMFOptions(hidden_size=64),
        TrainingOptions(epochs=10),
        stream=1,
        learning_rate=1e-3,
        device=CPU,
    )
    for epoch in range(1, 11):
        trainer.train_epoch(epoch)
    asked = queries(histories, "validation")
    nobody = replace(asked, users=np.full(len(asked), -1))
    model = ModelScorer(trainer.model.eval(), CPU)
    ranks = rank_targets(model, histories.items, nobody, keep_seen=False)
    popular = popularity_ranks(histories, keep_seen=False)["validation"]
    assert metrics_of(ranks)["ndcg@10"] > 1.2 * metrics_of(popular)["ndcg@10"]


def test_nothing_is_laid_out_of_the_history_of_a_user_that_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scorer = ModelScorer(any_weights(OPTIONS), CPU)
    items = np.arange(12, dtype=np.int32) % ITEMS
    spans = Spans(np.array([0, 0, 6]), np.array([3, 12, 8]))
    lengths: list[list[int]] = []

    def noted(*arguments: Any) -> Rows:
        rows = lay_out(*arguments)
        lengths.append(rows.lengths_B.tolist())
        return rows

    monkeypatch.setattr("peercollab.training.scoring.lay_out", noted)
    with torch.no_grad():
        known_BD = scorer.last_hidden(items, spans, np.array([2, 0, 1]))
        some_BD = scorer.last_hidden(items, spans, np.array([-1, 0, 1]))
        none_BD = scorer.last_hidden(items, spans, None)
    assert lengths == [[0, 0, 0], [3, 0, 0], [3, 12, 2]]
    assert torch.equal(some_BD[1:], known_BD[1:])
    torch.testing.assert_close(some_BD[0], none_BD[0])
    assert not torch.allclose(some_BD[0], known_BD[0])


def test_a_vector_made_of_a_long_history_needs_no_vector_for_each_item() -> None:
    options = BPRMFOptions(hidden_size=256)
    model = build_model(ITEMS, options, seed=0, n_users=USERS)
    rows = Rows(torch.randint(ITEMS, (8, 20_000)), torch.full((8,), 20_000))
    with torch.no_grad():
        largest = largest_allocation(lambda: model.last_hidden(rows))
    # Side by side they would be 164 MB; the rows themselves are 1.
    assert largest < 4e6
