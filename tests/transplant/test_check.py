"""What is found out about a rule of the user's own before anything is trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from peercollab.errors import PeercollabError
from peercollab.models.bpr_mf import BPRMFOptions
from peercollab.models.model import ModelSettings
from peercollab.models.options import GivenModel
from peercollab.models.sasrec import SASRecOptions
from peercollab.transplant.check import require_mixing
from peercollab.transplant.layers import LayerChoice
from tests.transplant.test_own_rule import rule_of

SASREC = SASRecOptions(hidden_size=8, blocks=1, max_length=10)
ITEMS, USERS = 1500, 1200


def tried(
    folder: Path, body: str, choice: LayerChoice = "all", settings: ModelSettings = SASREC
) -> None:
    source = f"import torch\ndef mine(own, donor, keep):\n    {body}\n"
    require_mixing(rule_of(folder, source), choice, settings, ITEMS, USERS)


def test_a_rule_that_works_is_let_through_whatever_it_knows_of_the_catalogue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    by_item = f"return own * torch.ones({ITEMS}, 1) if own.shape == ({ITEMS}, 8) else donor"
    for body in ("return own / own.norm() + donor / donor", by_item):
        tried(tmp_path, body)
    before = torch.random.get_rng_state()
    tried(tmp_path, "print('seen'); torch.manual_seed(3); return donor")
    assert torch.equal(torch.random.get_rng_state(), before)
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith("seen\n")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return own.T", "gave shape (8, 1500) for item_embedding.weight, which has (1500, 8)"),
        ("return own.double()", "gave torch.float64 for item_embedding.weight"),
        ("return torch.sqrt(own * donor)", "gave NaN or infinite values"),
        ("return own.missing", "failed on item_embedding.weight: AttributeError"),
    ],
)
def test_one_that_does_not_is_refused_with_the_tensor(body: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(PeercollabError) as raised:
        tried(tmp_path, body)
    assert said in str(raised.value)
    assert str(raised.value).endswith("(tried on random numbers)")


def test_only_layers_that_take_part_are_tried(tmp_path: Path) -> None:
    only_square = "assert own.ndim == 1 or own.shape[0] == own.shape[1]; return own"
    tried(tmp_path, only_square, "middle")
    with pytest.raises(PeercollabError, match="failed on item_embedding"):
        tried(tmp_path, only_square, "embedding")


def test_models_of_users_are_tried_too(tmp_path: Path) -> None:
    of_users = BPRMFOptions(hidden_size=4)
    with pytest.raises(PeercollabError, match=rf"\({USERS}, 4\)"):
        tried(tmp_path, f"return own[:1] if len(own) == {USERS} else own", settings=of_users)


class WithStatistics(nn.Module):
    """A network of somebody's own with numbers of another type, and with statistics."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.items = nn.Embedding(n_items, 4, dtype=torch.float64)
        self.norm = nn.BatchNorm1d(4, dtype=torch.float64)

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        states: Tensor = self.items(items_BL)
        return states

    def item_table(self) -> Any:
        return self.items.weight


def test_statistics_are_not_negative_and_types_are_those_of_the_network(tmp_path: Path) -> None:
    settings = GivenModel(WithStatistics).build()
    body = "assert own.dtype == torch.float64; {}; return donor"
    tried(tmp_path, body.format("assert own.ndim == 2 or keep == 0.5"), settings=settings)
    with pytest.raises(PeercollabError, match=r"failed on network\.items\.weight"):
        tried(tmp_path, body.format("assert (own > 0).all()"), settings=settings)
    # Weights of a layer come first, so that what fails is neither of its statistics.
    statistics = "assert own.ndim == 2 or (own < 0).any() or (own > 0).all()"
    tried(tmp_path, body.format(statistics), settings=settings)
