import json

import numpy as np
import pytest
from jinja2 import DictLoader
from jinja2.exceptions import UndefinedError
from rich.console import Console
from strict import Strict

from hubblefork.pages import page as page_module
from hubblefork.pages.page import Page
from hubblefork.pages.style import new_figure
from hubblefork.pages.tables import Table, bounds, counted, decimal, listed, plain
from hubblefork.stats.estimators import Unavailable

TEMPLATE = """
## What came *out* {#out}

The recipe {{ name }} has {{ value|decimal }} and {{ number|counted("galaxy", "galaxies") }}.
{% if number > 1 %}
    An indented paragraph is no code block, and {{ code(name) }} is code.
{% endif %}

{% call figure("curve") %}
The largest is {{ numbers.curve.largest }}, of {{ name }}.
{% endcall %}

{% call warning() %}It is *not* finished: {{ name }}.{% endcall %}

## Tables {#tables}

{{ table("errors", "A caption with <b> and *.") }}

{% call figure("lost") %}Its first value is {{ absent.value }}.{% endcall %}

{{ missing("curve") }}
{{ missing("other") }}

{% set where %}in {{ code("x<y") }}{% endset %}
{{ facts({"Data": name, "Where": where}) }}
{{ listing(name ~ "\\n  second line") }}
"""
NAME = "<script>alert(1)</script> *a* _b_ [c](http://d) `e` \ue0000\ue001"


@pytest.fixture
def templates(monkeypatch):
    texts = {"test.md.j2": TEMPLATE}
    monkeypatch.setattr(page_module._markdown_templates(), "loader", DictLoader(texts))
    return texts


def written(tmp_path):
    page = Page(tmp_path)
    figure = new_figure(7.1, 1)
    figure.add_subplot().plot([1, 2, 3])
    assert page.figure("curve", figure, {"largest": np.float64(1 / 3)}, dpi=20) == {"largest": 0.333333}
    page.table("errors", Table(["answer", "RMSE"], [["<smooth>", "0.1"]], {"smooth": float("nan")}))
    page.missing("lost", "runs/a_b is not there.", "hubblefork train --out runs/a_b")
    page.missing("other", "Nothing else.", "hubblefork fetch")
    page.write("test.md.j2", title="A <run>", subtitle="s", facts={"run": 1}, name=NAME, value=0.5, number=7)
    return page, Strict((tmp_path / "index.html").read_text(encoding="utf-8"))


def test_a_page_is_whole_html_that_needs_nothing_else(templates, tmp_path):
    _, html = written(tmp_path)
    assert html.all("section", "id") == ["out", "tables"]
    assert html.all("a", "href") == ["#out", "#tables", "curve.pdf", "numbers.json"]
    assert all(uri.startswith("data:image/png;base64,") for uri in html.all("img", "src"))
    assert (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF-")
    assert html.all("a", "href")[:2] == ["#out", "#tables"]


def test_a_caption_can_have_another_label_or_none(templates, tmp_path):
    templates["test.md.j2"] = """## A {#a}
{{ table("errors", "A caption.", label="Table 6 of the report") }} {{ figure("curve", "Bare.", label="") }}
"""
    page, html = written(tmp_path)
    assert "Table 6 of the report. A caption." in html.text
    assert page.captions == {"errors": "Table 6 of the report. A caption.", "curve": "Bare."}


def test_what_comes_from_data_is_neither_html_nor_markdown(templates, tmp_path):
    _, html = written(tmp_path)
    shown = "<script>alert(1)</script> *a* _b_ [c](http://d) `e` 0"
    assert html.text.count(shown) == 4  # sentence, caption, warning, facts
    assert html.text.count(NAME) == 2  # code, listing
    assert html.all("img", "alt") == [f"The largest is 0.333333, of {shown}."]
    assert "A caption with <b> and *." in html.text
    assert "<smooth>" in html.text
    assert "script" not in {tag for tag, _ in html.tags}
    assert not [href for href in html.all("a", "href") if href.startswith("http")]


def test_figures_and_tables_are_counted_and_what_is_missing_is_said(templates, tmp_path):
    _, html = written(tmp_path)
    assert "Figure 1. The largest" in html.text
    assert "Table 1. A caption" in html.text
    assert "runs/a_b is not there.To have it: hubblefork train --out runs/a_b" in html.text
    assert "Nothing else.To have it: hubblefork fetch" in html.text
    assert "has 0.5000 and 7 galaxies. An indented paragraph is no code block" in html.text
    assert "second line" in html.text
    assert "Where" in html.text
    assert "in x<y" in html.text


def test_numbers_are_kept_by_section(templates, tmp_path):
    page, _ = written(tmp_path)
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers == {
        "run": 1,
        "sections": {"out": {"curve": {"largest": 0.333333}}, "tables": {"errors": {"smooth": None}}},
    }
    assert page.has("curve")
    assert not page.has("lost")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("## A {#a}\n{{ unknown }}", UndefinedError),
        ("## A {#a}\n{{ figure('x') }}", KeyError),
        ("## A\n", ValueError),
    ],
)
def test_a_template_that_names_what_is_not_there_fails(templates, tmp_path, text, error):
    templates["wrong.md.j2"] = text
    with pytest.raises(error):
        Page(tmp_path).write("wrong.md.j2", title="", subtitle="")


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
