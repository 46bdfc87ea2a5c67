"""Streams of random numbers are independent and fixed."""

from itertools import product
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from peercollab.training.streams import Purpose, stream_seed

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
NUMBERS = st.integers(0, 2**32 - 1)


def test_every_purpose_stream_position_and_seed_has_a_seed_of_its_own() -> None:
    cases = list(product((0, 1, 10), range(6), PURPOSES, range(12)))
    assert len({stream_seed(*each) for each in cases}) == len(cases)


@given(NUMBERS, NUMBERS, st.sampled_from(PURPOSES), NUMBERS)
def test_a_seed_is_fixed_and_fits_torch(
    seed: int, stream: int, purpose: Purpose, position: int
) -> None:
    drawn = stream_seed(seed, stream, purpose, position)
    assert 0 <= drawn < 2**63
    assert stream_seed(seed, stream, purpose, position) == drawn


def test_neighbouring_seeds_share_no_bits_to_speak_of() -> None:
    differing = [
        (stream_seed(10, 1, "order", at) ^ stream_seed(10, 1, "order", at + 1)).bit_count()
        for at in range(200)
    ]
    # Of 63 bits half differ; three standard errors of the mean of 200 are 0.8.
    assert abs(sum(differing) / len(differing) - 31.5) < 0.8
