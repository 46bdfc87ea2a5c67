"""Soups: one model from several, by averaging their weights.

"Model soups", ICML 2022, arXiv 2203.05482. Averages of weights want models that have something in
common, such as one start, or exchanges along the way.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


def uniform_soup(ingredients: Sequence[Weights]) -> Weights:
    """The mean of all weights; what is no fraction, such as a counter, is the first's."""
    return {
        name: torch.stack([weights[name] for weights in ingredients]).mean(dim=0)
        if first_T.is_floating_point()
        else first_T
        for name, first_T in ingredients[0].items()
    }


def greedy_soup(ingredients: Sequence[Weights], judge: Callable[[Weights], float]) -> list[int]:
    """Which ingredients to average: each in turn stays if the soup gets better with it.

    Parameters
    ----------
    ingredients
        The best first.
    judge
        How good weights are; higher is better.

    Returns
    -------
    list of int
        Places of the ingredients, ascending; the first is always among them.
    """
    chosen, value = [0], judge(ingredients[0])
    for place in range(1, len(ingredients)):
        tried = judge(uniform_soup([ingredients[i] for i in (*chosen, place)]))
        if tried > value:
            chosen, value = [*chosen, place], tried
    return chosen
