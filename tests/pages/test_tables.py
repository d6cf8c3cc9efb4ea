import io
import json
from datetime import date

import numpy as np
import pytest
from rich.console import Console

from hubblefork.pages.tables import Table, bounds, counted, decimal, listed, plain, written
from hubblefork.stats.estimators import Unavailable


def test_a_table_shows_itself_in_the_terminal():
    console = Console(width=60, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(Table(["answer", "RMSE"], [["[red]smooth", "0.1"]], title="of [x]", caption="c"))
    assert "[red]smooth" in captured.get()
    assert "of [x]" in captured.get()


def test_cells_and_numbers_of_a_table_are_the_same_values():
    rows = {
        "smooth": {"rmse": {"value": 0.12345, "interval_95": [0.1, 0.2]}, "galaxies": 1200},
        "odd": {"rmse": None, "galaxies": float("nan"), "shift": -0.5, "id": "a-b"},
    }
    columns = [
        ("answer", "", str.upper),
        ("RMSE", "rmse.value", ".3f"),
        ("interval", "rmse.interval_95", bounds),
        ("galaxies", "galaxies", ","),
        ("twice", lambda row: row["galaxies"] * 2, ".0f"),
        ("shift", "shift", "+.1f"),
        ("id", "id", ""),
    ]
    table = Table.of(rows, columns, title="t")
    assert table.header == ["answer", "RMSE", "interval", "galaxies", "twice", "shift", "id"]
    assert table.rows == [
        ["SMOOTH", "0.123", "0.1000 to 0.2000", "1,200", "2400", "–", "–"],
        ["ODD", "–", "–", "–", "–", "−0.5", "a-b"],
    ]
    assert table.numbers == rows
    assert Table.of(list(rows.values()), columns[3:4], numbers=7).numbers == 7


def test_an_interval_without_ends_is_one_dash():
    nothing = float("nan")
    table = Table.of([{"ends": (nothing, nothing)}, {"ends": (nothing, 0.5)}], [("", "ends", ".1f")])
    assert table.rows == [["–"], ["– to 0.5"]]


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(-0.001, ".2f", "0.00"), (-0.0001, ".1%", "0.0%"), (-0.006, ".2f", "−0.01"), (-1, "g", "−1")],
)
def test_nothing_has_no_sign(value, form, text):
    assert written(value, form) == text


def test_rows_of_a_table_can_be_dataclasses():
    counts = [Unavailable("nothing", "wait")]
    table = Table.of(counts, [("what", "reason", ""), ("remedy", "remedy.upper", lambda upper: upper())])
    assert table.rows == [["nothing", "WAIT"]]
    assert plain(table.numbers) == [{"reason": "nothing", "remedy": "wait"}]


def test_words_for_numbers():
    assert decimal(None) == decimal(float("nan")) == "–"
    assert decimal(-0.1234) == "−0.1234"
    assert counted(1, "galaxy", "galaxies") == "1 galaxy"
    assert counted(1200, "galaxy", "galaxies") == "1,200 galaxies"
    assert (listed(["a"]), listed(["a", "b", "c"])) == ("a", "a, b and c")
    assert plain({"a": np.array([1, np.inf])}) == {"a": [1.0, None]}


def test_plain_numbers_are_json():
    value = {"a": np.array([1.0, np.nan]), "b": np.int64(3), 4: (np.float32(0.5), float("inf")), "c": None}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": [1.0, None],
        "b": 3,
        "4": [0.5, None],
        "c": None,
    }
    assert plain(1 / 3) == 0.333333
    assert plain({"day": date(2026, 1, 2)}) == {"day": "2026-01-02"}


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_narrow_terminal_keeps_words_whole(width):
    rows = [["recalibrated, quantile mapping", "0.9513 to 1.0000"], ["count", "0.1000 to 0.2000"]]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(Table(["estimator", "95% interval"], rows), crop=False)
    shown = console.export_text()
    assert "…" not in shown
    for word in ["recalibrated,", "quantile", "mapping", "0.9513", "1.0000", "estimator", "interval"]:
        assert word in shown
