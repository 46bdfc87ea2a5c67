"""The pictures of a report show the numbers of the records, and a peer looks the same in all."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from peercollab.results import donor_plot, layer_plots, plots

MakeRecord = Callable[..., dict[str, Any]]
LAYERS = {"item_embedding": "embedding", "blocks.0.query": "middle", "output": "final"}


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_title() == title]
    return axes


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [line for line in axes.get_lines() if line.get_label() == label]
    return found


def points(line: Line2D) -> list[tuple[float, float]]:
    xs, ys = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
    return list(zip(xs.tolist(), ys.round(6).tolist(), strict=True))


def test_learning_curves_show_loss_and_validation(make_record: MakeRecord) -> None:
    records = [make_record(1), make_record(2, validated=False), make_record(3)]
    selected = {"peer": 2, "round": 3, "ndcg@10": 0.032}
    figure = plots.learning_curves(records, selected, popularity=0.02)
    loss = panel(figure, "training loss")
    assert points(line(loss, "peer 1")) == [(1, 7.91), (2, 7.81), (3, 7.71)]
    validation = panel(figure, "validation NDCG@10")
    assert points(line(validation, "peer 2")) == [(1, 0.012), (3, 0.032)]
    assert points(line(validation, "kept: peer 2, round 3")) == [(3, 0.032)]
    assert [y for _, y in points(line(validation, "popularity"))] == [0.02, 0.02]


def test_donor_shares_are_what_is_not_kept(make_record: MakeRecord) -> None:
    figure = layer_plots.donor_shares([make_record(round) for round in (1, 2, 3)])
    assert figure is not None
    axes = panel(figure, "peer 1 from 2")
    shares = axes.images[0].get_array()
    assert shares is not None
    expected = [[0.9, 0.8, 0.7], [0.95, 0.9, 0.85], [0.9, 0.9, 0.9]]
    np.testing.assert_allclose(shares, expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(LAYERS)
    other = panel(figure, "peer 2 from 1").images[0].get_array()
    assert other is not None
    np.testing.assert_allclose(other[2], [0.8, 0.8, 0.8])


def test_layers_that_take_no_part_are_left_out_or_left_blank(make_record: MakeRecord) -> None:
    records = [make_record(1), make_record(2)]
    for record in records:
        for transfer in record["transfers"]:
            del transfer["shares"]["output"]
    del records[1]["transfers"][0]["shares"]["blocks.0.query"]
    figure = layer_plots.donor_shares(records)
    assert figure is not None
    shares = panel(figure, "peer 1 from 2").images[0].get_array()
    assert shares is not None
    assert np.ma.getmaskarray(shares).tolist() == [[False, False], [False, True]]


def test_without_exchange_there_is_no_map_and_no_criterion(make_record: MakeRecord) -> None:
    records = [make_record(1, exchange=False)]
    assert layer_plots.donor_shares(records) is None
    assert layer_plots.criterion_values(records) is None


def test_the_criterion_has_a_panel_for_each_layer(make_record: MakeRecord) -> None:
    figure = layer_plots.criterion_values([make_record(1), make_record(2)])
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == list(LAYERS)
    assert points(line(panel(figure, "output"), "peer 2")) == [(1, 2.22), (2, 2.22)]


def test_phases_are_stacked_and_summed(make_record: MakeRecord) -> None:
    figure = plots.costs([make_record(round) for round in (1, 2)])
    seconds = panel(figure, "seconds of each phase")
    bars = [patch for patch in seconds.patches if isinstance(patch, Rectangle)]
    tops = [bar.get_y() + bar.get_height() for bar in bars]
    assert tops == [12.5, 12.5, 12.75, 12.75, 13, 13, 13, 13, 14, 14]
    _, labels = seconds.get_legend_handles_labels()
    assert labels[0] == "train 25 s (89.3%)"
    assert labels[-1] == "transplant 2 s (7.1%)"
    moved = panel(figure, "weights moved between peers, MB")
    assert [bar.get_height() for bar in moved.patches if isinstance(bar, Rectangle)] == [2, 2]


def test_nothing_moved_is_not_drawn(make_record: MakeRecord) -> None:
    assert len(plots.costs([make_record(1, exchange=False)]).axes) == 1


def test_a_peer_has_one_look_of_its_own(make_record: MakeRecord) -> None:
    records = [make_record(1, peers=8), make_record(2, peers=8)]
    criterion = layer_plots.criterion_values(records)
    assert criterion is not None
    figures = [plots.learning_curves(records, None, None), criterion]
    looks = {
        peer: {
            (line(axes, f"peer {peer}").get_color(), line(axes, f"peer {peer}").get_marker())
            for figure in figures
            for axes in figure.axes
        }
        for peer in range(1, 9)
    }
    assert all(len(look) == 1 for look in looks.values())
    assert len(set.union(*looks.values())) == 8


@pytest.mark.parametrize(("peers", "rounds"), [(1, 1), (2, 1), (3, 2), (5, 1), (8, 50)])
def test_any_number_of_peers_and_rounds_can_be_drawn(
    peers: int, rounds: int, make_record: MakeRecord
) -> None:
    records = [make_record(round, peers=peers) for round in range(1, rounds + 1)]
    shares = layer_plots.donor_shares(records)
    assert (shares is None) == (peers == 1)
    for figure in filter(None, (shares, plots.learning_curves(records, None, None))):
        assert b"<svg" in plots.to_svg(figure)
    if shares is not None:
        assert sum(axes.get_title() != "" for axes in shares.axes) == peers
    matrix = donor_plot.donor_matrix(records)
    assert (matrix is None) == (peers < 3)


def test_no_picture_goes_through_pyplot() -> None:
    assert "matplotlib.pyplot" not in vars(plots).values()
    assert not hasattr(plots, "plt")
    assert "matplotlib.pyplot" not in sys.modules


def test_the_same_records_give_the_same_bytes(make_record: MakeRecord) -> None:
    first, second = (plots.to_svg(plots.costs([make_record(1)])) for _ in range(2))
    assert first == second


def test_shares_of_several_donors_add_up_and_small_ones_fill_the_colours(
    make_record: MakeRecord,
) -> None:
    record = make_record(1, peers=3)
    record["transfers"] = [
        {"receiver": 1, "donor": donor, "shares": dict.fromkeys(LAYERS, 0.01)} for donor in (2, 3)
    ]
    figure = layer_plots.donor_shares([record])
    assert figure is not None
    (image,) = panel(figure, "peer 1 from 2, 3").images
    shares = image.get_array()
    assert shares is not None
    np.testing.assert_allclose(shares, 0.02)
    assert image.get_clim() == (0, 0.02)


@pytest.mark.parametrize(
    ("shares", "limits"),
    [
        ((-1.0, -1.0), (-1, 1)),
        ((3.0, 0.5), (0, 3)),
        ((-1.0, 3.0), (-1, 3)),
        ((-0.01, 0.1), (-0.01, 0.1)),
        ((-0.1, -0.1), (-0.1, 0)),
        ((0.0, 0.0), (0, 1)),
        ((0.3, 0.1), (0, 1)),
    ],
)
def test_shares_beyond_the_whole_can_be_drawn(
    shares: tuple[float, float], limits: tuple[float, float], make_record: MakeRecord
) -> None:
    record = make_record(1)
    for transfer, share in zip(record["transfers"], shares, strict=True):
        transfer["shares"] = dict.fromkeys(LAYERS, share)
    figure = layer_plots.donor_shares([record])
    assert figure is not None
    assert b"<svg" in plots.to_svg(figure)
    (image,) = panel(figure, "peer 1 from 2").images
    assert image.get_clim() == limits


def test_many_donors_are_told_by_their_number(make_record: MakeRecord) -> None:
    record = make_record(1, peers=8)
    record["transfers"] = [
        {"receiver": 1, "donor": donor, "shares": {"output": 0.1}} for donor in range(2, 9)
    ]
    figure = layer_plots.donor_shares([record])
    assert figure is not None
    assert panel(figure, "peer 1 from 7 peers").images


def test_who_gave_is_a_mean_over_exchanges_and_layers(make_record: MakeRecord) -> None:
    often, once = make_record(1, peers=3), make_record(2, peers=3)
    often["receivers"], once["receivers"] = {"1": 3, "2": 1}, {"1": 1}
    often["transfers"] = [
        {"receiver": 1, "donor": 2, "shares": {"output": 0.5}},
        {"receiver": 1, "donor": 3, "shares": {"item_embedding": 1.0}},
        {"receiver": 2, "donor": 3, "shares": {"output": -0.004}},
    ]
    once["transfers"] = [{"receiver": 1, "donor": 2, "shares": {"output": 0.9}}]
    figure = donor_plot.donor_matrix([often, once])
    assert figure is not None
    (axes,) = figure.axes
    # Two layers, four exchanges: (3 * 0.5 + 0.9) / 8 and 3 * 1.0 / 8.
    assert [text.get_text() for text in axes.texts] == ["0.30", "0.38", "-0.0040"]
    assert [text.get_position() for text in axes.texts] == [(1, 0), (2, 0), (2, 1)]


def test_who_gave_is_shown_only_where_there_is_a_choice(make_record: MakeRecord) -> None:
    assert donor_plot.donor_matrix([make_record(1, peers=2)]) is None
    assert donor_plot.donor_matrix([make_record(1, peers=3, exchange=False)]) is None


def test_a_soup_is_drawn_as_a_level_and_a_lost_round_as_a_gap(make_record: MakeRecord) -> None:
    lost = make_record(2)
    lost["peers"][0] |= {"loss": None, "validation": None}
    soup = {"select": "greedy-soup", "ingredients": [{}, {}], "ndcg@10": 0.04}
    figure = plots.learning_curves([make_record(1), lost, make_record(3)], soup, None)
    losses = panel(figure, "training loss")
    assert [x for x, _ in points(line(losses, "peer 1"))] == [1, 3]
    kept = line(panel(figure, "validation NDCG@10"), "kept: greedy-soup of 2")
    assert {y for _, y in points(kept)} == {0.04}
