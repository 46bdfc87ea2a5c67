"""Averages of weights, and which of them to take in."""

import torch

from peercollab.training.soup import Weights, greedy_soup, uniform_soup


def weights(value: float, counter: int = 0) -> dict[str, torch.Tensor]:
    return {"w": torch.full((2, 3), value), "counter": torch.tensor(counter)}


def test_a_uniform_soup_is_the_mean_and_counters_are_the_firsts() -> None:
    soup = uniform_soup([weights(1.0, 7), weights(2.0, 8), weights(6.0, 9)])
    assert torch.equal(soup["w"], torch.full((2, 3), 3.0))
    assert soup["counter"] == 7


def test_a_greedy_soup_takes_in_only_what_makes_it_better() -> None:
    judged: list[float] = []

    def nearness_to_two(soup: Weights) -> float:
        judged.append(float(soup["w"][0, 0]))
        return -abs(judged[-1] - 2.0)

    chosen = greedy_soup([weights(1.5), weights(9.0), weights(2.1)], nearness_to_two)
    assert chosen == [0, 2]
    assert judged == [1.5, 5.25, torch.tensor([1.5, 2.1]).mean().item()]


def test_an_equal_soup_is_not_a_better_one() -> None:
    assert greedy_soup([weights(1.0), weights(1.0)], lambda soup: 0.5) == [0]
