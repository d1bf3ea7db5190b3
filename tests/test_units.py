"""Energies in words: what is printed reads back as what it was, within its three digits."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from spikeship.deploy.report.report import energy_range, si

PREFIXES = {"": 1.0, "m": 1e-3, "µ": 1e-6, "n": 1e-9, "p": 1e-12}
NUMBER = re.compile(r"([0-9][0-9,]*(?:\.[0-9]+)?(?:e[+-][0-9]+)?)(?: ([mµnp]?)J)?")
HALF = 0.005 * (1 + 1e-9)  # of the last of three digits, at most so much of the value
# the ends of units are where units go wrong
ENDS = st.builds(
    lambda exponent, factor: factor * 10.0**exponent,
    st.integers(-12, 4),
    st.sampled_from([0.9949, 0.9951, 0.9994, 0.9996, 1.0, 1.0004, 1.004, 1.006]),
)
VALUES = st.one_of(ENDS, st.floats(1e-14, 1e6), st.floats(-32, 13).map(lambda x: 2.0**x))


def read(text: str, unit: str | None = None) -> tuple[float, float, str | None]:
    """A number as printed, in joules, as a number alone, and its prefix."""
    found = NUMBER.fullmatch(text)
    assert found is not None, text
    prefix = found[2] if found[2] is not None else unit
    assert prefix is not None, f"{text} has no unit"
    alone = float(found[1].replace(",", ""))
    return alone * PREFIXES[prefix], alone, found[2]


@given(VALUES)
def test_a_printed_energy_reads_back(value: float) -> None:
    again, alone, prefix = read(si(value, "J"))
    assert abs(again - value) <= HALF * value
    assert (alone < 1000 or prefix == "") and (alone >= 1 or prefix == "p")


@given(VALUES, VALUES)
@example(500e-6, 999.7e-6)  # not 500-1 mJ
@example(0.9996e-6, 0.9996e-6)
@example(1e-9, 1.0)
def test_a_printed_range_reads_back(one: float, other: float) -> None:
    low, high = sorted((one, other))
    text = energy_range({"low": low, "high": high})
    begin, end = text.split("–")
    above, _, unit = read(end)
    below, _, _ = read(begin, unit)
    assert below <= above
    assert abs(below - low) <= HALF * low and abs(above - high) <= HALF * high
    assert end == si(high, "J")


def test_ranges_in_words() -> None:
    for low, high, said in (
        (500e-6, 999.7e-6, "0.5–1 mJ"),
        (500e-6, 999.4e-6, "500–999 µJ"),
        (0.91e-6, 21e-6, "0.91–21 µJ"),
        (1.23e-9, 1.0, "1.23 nJ–1 J"),
        (0.0, 3e-6, "0–3 µJ"),
        (0.0, 0.0, "0–0 J"),
        (12.0, 12_345.0, "12–12,300 J"),
        (170e-6, None, "170 µJ or more"),
        (170e-6, float("inf"), "170 µJ or more"),
        (float("nan"), 1.0, "–"),
    ):
        assert energy_range({"low": low, "high": high}) == said


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    assert si(value, "J") == "–"
