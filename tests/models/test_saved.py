"""A model on disk and back, and what is said when it is damaged."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from peercollab.errors import PeercollabError
from peercollab.models.build import build_model
from peercollab.models.sasrec import SASRecOptions
from peercollab.models.saved import (
    DESCRIPTION,
    WEIGHTS,
    load_model,
    save_description,
    save_weights,
)

ITEMS = 11
OPTIONS = SASRecOptions(hidden_size=8, blocks=1, heads=2, dropout=0.1, max_length=5)
CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(build_model(ITEMS, OPTIONS, seed=3).state_dict(), tmp_path)
    save_description(ITEMS, OPTIONS, tmp_path)
    return tmp_path


def test_a_saved_model_comes_back_bit_for_bit_and_ready_to_score(folder: Path) -> None:
    saved = build_model(ITEMS, OPTIONS, seed=3).state_dict()
    model = load_model(folder, CPU)
    loaded = model.state_dict()
    assert list(loaded) == list(saved)
    assert all(torch.equal(loaded[name], value) for name, value in saved.items())
    assert not model.training
    assert model.max_length == OPTIONS.max_length


def test_the_description_holds_every_option(folder: Path) -> None:
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    assert description["items"] == ITEMS
    assert SASRecOptions(**description["options"]) == OPTIONS


def test_equal_weights_give_equal_bytes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for _ in range(3):
        other = tmp_path_factory.mktemp("other")
        save_weights(build_model(ITEMS, OPTIONS, seed=3).state_dict(), other)
        assert (other / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()


def test_saving_again_replaces_the_weights_and_leaves_nothing_else(folder: Path) -> None:
    newer = build_model(ITEMS, OPTIONS, seed=4)
    save_weights(newer.state_dict(), folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted([WEIGHTS, DESCRIPTION])
    loaded = load_model(folder, CPU).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in newer.state_dict().items())


@pytest.mark.parametrize("missing", [WEIGHTS, DESCRIPTION])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(PeercollabError, match="is missing") as caught:
        load_model(folder, CPU)
    assert str(folder / missing) in str(caught.value)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def binary(path: Path) -> None:
    path.write_bytes(bytes(range(255, 100, -1)))


def without_options(path: Path) -> None:
    path.write_text(json.dumps({"model": "sasrec", "items": ITEMS}), encoding="utf-8")


def with_unknown_option(path: Path) -> None:
    path.write_text(json.dumps({"items": ITEMS, "options": {"colour": 3}}), encoding="utf-8")


def of_another_size(path: Path) -> None:
    save_description(ITEMS + 1, OPTIONS, path.parent)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        (WEIGHTS, cut_short),
        (WEIGHTS, emptied),
        (WEIGHTS, binary),
        (DESCRIPTION, cut_short),
        (DESCRIPTION, emptied),
        (DESCRIPTION, binary),
        (DESCRIPTION, without_options),
        (DESCRIPTION, with_unknown_option),
        (DESCRIPTION, of_another_size),
    ],
)
def test_a_damaged_file_is_told_in_a_line_or_two(
    folder: Path, file: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / file)
    with pytest.raises(PeercollabError, match="is damaged") as caught:
        load_model(folder, CPU)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_tensor_that_two_modules_share_is_saved_for_both(tmp_path: Path) -> None:
    table = torch.randn(3, 2)
    save_weights({"items.weight": table, "output.weight": table}, tmp_path)
    loaded = load_file(tmp_path / WEIGHTS)
    assert torch.equal(loaded["items.weight"], table)
    assert torch.equal(loaded["output.weight"], table)
