"""What makes peers differ: dropout and changed windows."""

from typing import Any

import numpy as np
import pytest

from peercollab.data.batches import training_batch
from peercollab.data.split import Spans
from peercollab.errors import PeercollabError
from peercollab.training.augment import augmented_batch, crop, reordered
from peercollab.training.diversity import Augmentation, DiversityOptions


def windows() -> tuple[np.ndarray, Spans]:
    """Items that are all different, in windows of 2 to 30."""
    lengths = np.random.default_rng(1).integers(2, 31, 200)
    stops = np.cumsum(lengths)
    return np.arange(stops[-1], dtype=np.int32), Spans(stops - lengths, stops)


def test_dropout_goes_in_even_steps_around_its_base() -> None:
    options = DiversityOptions(dropout_spread=0.1)
    assert [options.dropout(0.2, peer, 3) for peer in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.3])
    assert options.dropout(0.2, 1, 1) == 0.2
    assert [DiversityOptions().dropout(0.2, peer, 4) for peer in (1, 2, 3, 4)] == [0.2] * 4


def test_peers_take_turns_in_what_they_do_to_their_windows() -> None:
    options = DiversityOptions(augment=("none", "crop", "mask"), augment_share=0.3)
    kinds = [options.augmentation(peer).kind for peer in (1, 2, 3, 4)]
    assert kinds == ["none", "crop", "mask", "none"]
    assert options.augmentation(2).share == 0.3
    assert DiversityOptions().augmentation(5).kind == "none"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dropout_spread": -0.1}, "--dropout-spread is -0.1"),
        ({"dropout_spread": 1.0}, "--dropout-spread is 1.0"),
        ({"augment_share": 0.2}, "--augment-share has no effect without --augment"),
        ({"augment": ("none",), "augment_share": 0.2}, "--augment-share has no effect"),
        ({"augment": ("crop",), "augment_share": 0.0}, "--augment-share is 0.0"),
        ({"augment": ("crop",), "augment_share": 1.0}, "--augment-share is 1.0"),
    ],
)
def test_bad_values_are_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PeercollabError, match=message):
        DiversityOptions(**given)


def test_a_spread_that_leaves_the_range_names_the_peer() -> None:
    with pytest.raises(PeercollabError, match=r"--dropout-spread 0.3 .* gives peer 1 -0.1"):
        DiversityOptions(dropout_spread=0.3).dropout(0.2, 1, 2)


def test_cropping_leaves_a_stretch_of_the_window() -> None:
    _, spans = windows()
    cropped = crop(spans, 0.4, np.random.default_rng(0))
    assert (cropped.starts >= spans.starts).all()
    assert (cropped.stops <= spans.stops).all()
    expected = np.maximum(2, spans.lengths - np.floor(0.4 * spans.lengths).astype(int))
    np.testing.assert_array_equal(cropped.lengths, expected)
    assert (cropped.starts > spans.starts).any()
    assert (cropped.stops < spans.stops).any()


def test_reordering_shuffles_one_stretch_of_each_window() -> None:
    _, spans = windows()
    places, starts = reordered(spans, 0.4, np.random.default_rng(0))
    changed = 0
    for start, stop, at in zip(spans.starts, spans.stops, starts, strict=True):
        own = places[at : at + stop - start]
        assert sorted(own) == list(range(start, stop))
        moved = np.flatnonzero(own != np.arange(start, stop))
        if len(moved):
            changed += 1
            assert moved[-1] - moved[0] < np.floor(0.4 * (stop - start))
    assert changed > 100


def test_masking_hides_inputs_and_no_target() -> None:
    items, spans = windows()
    plain = training_batch(items, spans)
    batch = augmented_batch(items, spans, Augmentation("mask", 0.3), np.random.default_rng(0))
    assert batch.rows.hidden_BL is not None
    lengths = plain.rows.lengths_B.numpy()
    hidden = batch.rows.hidden_BL.numpy()
    np.testing.assert_array_equal(hidden.sum(axis=1), np.floor(0.3 * lengths))
    # However short a row, something of it is seen.
    assert (hidden.sum(axis=1) < lengths).all()
    assert not hidden[np.arange(hidden.shape[1]) >= lengths[:, None]].any()
    assert (batch.targets_N == plain.targets_N).all()
    assert (batch.rows.items_BL == plain.rows.items_BL).all()


def test_targets_follow_the_reordered_items() -> None:
    items, spans = windows()
    batch = augmented_batch(items, spans, Augmentation("reorder", 0.5), np.random.default_rng(0))
    rows, at = batch.rows, 0
    targets = batch.targets_N.numpy()
    for inputs, length in zip(rows.items_BL.numpy(), rows.lengths_B.numpy(), strict=True):
        np.testing.assert_array_equal(targets[at : at + length - 1], inputs[1:length])
        at += length


@pytest.mark.parametrize(
    ("given", "peers", "message"),
    [
        ({"dropout_spread": 0.1}, 1, "--dropout-spread has no effect with --peers 1"),
        ({"augment": ("none", "crop", "mask")}, 2, "--augment names 3 kinds for 2 peers"),
    ],
)
def test_differences_that_so_few_peers_cannot_have_are_refused(
    given: dict[str, Any], peers: int, message: str
) -> None:
    with pytest.raises(PeercollabError, match=message):
        DiversityOptions(**given).require_peers(peers)
    DiversityOptions(**given).require_peers(3)
