"""Who compares many arms finds one better by luck: Holm's correction."""

from collections.abc import Sequence


def holm(p_values: Sequence[float], others: int = 0) -> list[float]:
    """Adjusted p-values, in the order given: the chance of even one false claim stays at the level.

    The i-th smallest of m (from 0) is multiplied by m - i, and none may be below a smaller one's.
    It holds whatever the dependence between the arms, which share their baseline. Source: Holm,
    "A simple sequentially rejective multiple test procedure", 1979.

    Parameters
    ----------
    p_values
        One for each arm.
    others
        More arms that were looked at, whose p is not known: it may have been smaller than all.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for at, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (others + len(p_values) - at) * p_values[index]))
        adjusted[index] = highest
    return adjusted
