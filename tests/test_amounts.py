"""Amounts as people write them."""

import pytest

from hubblefork.errors import RecipeError
from hubblefork.io import bytes_of, duration, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("10min", 600),
        ("2h", 7200),
        ("1h30min", 5400),
        ("1h 30m", 5400),
        ("1.5 h", 5400),
        ("1d", 86400),
    ],
)
def test_times(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "2", "0s", "3x", "2hours", "-1h", "h", "1h and more"])
def test_what_is_no_time(text):
    with pytest.raises(RecipeError, match="is no time above 0: write it as 90s"):
        seconds(text)


@pytest.mark.parametrize(
    ("text", "value"), [("500MB", 5e8), ("1.5 GB", 1.5e9), ("2GiB", 2**31), ("100 kB", 1e5), ("7B", 7)]
)
def test_memory(text, value):
    assert bytes_of(text) == value


@pytest.mark.parametrize("text", ["", "2", "0MB", "lots", "2 GB or so", "-1MB"])
def test_what_is_no_memory(text):
    with pytest.raises(RecipeError, match="is no amount of memory above 0"):
        bytes_of(text)


@pytest.mark.parametrize(
    ("value", "text"), [(4.21, "4.2 s"), (59.4, "59.4 s"), (61, "1 min 1 s"), (3661, "1 h 1 min")]
)
def test_durations_for_reading(value, text):
    assert duration(value) == text
