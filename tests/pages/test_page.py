import json
import resource

import numpy as np
import pytest
from jinja2 import DictLoader
from jinja2.exceptions import UndefinedError
from strict import Strict

from hubblefork.errors import DiskError
from hubblefork.pages import page as page_module
from hubblefork.pages.page import Page
from hubblefork.pages.style import new_figure
from hubblefork.pages.tables import Table

TEMPLATE = """
## What came *out* {#out}

The recipe {{ name }} has {{ value|decimal }} and {{ number|counted("galaxy", "galaxies") }}.
{% if number > 1 %}
    An indented paragraph is no code block, and {{ code(name) }} is code.
{% endif %}

{% call figure("curve") %}
The largest is {{ numbers.curve.largest }}, of {{ name }}.
{% endcall %}

{{ warnings() }}

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
    page.warn(f"It is *not* finished: {NAME}.")
    page.missing("lost", "runs/a_b is not there.", "hubblefork train --out runs/a_b")
    page.missing("other", "Nothing else.", "the same command goes on")
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
    assert "Nothing else.To have it: the same command goes on" in html.text
    assert "has 0.5000 and 7 galaxies. An indented paragraph is no code block" in html.text
    assert "second line" in html.text
    assert "Where" in html.text
    assert "in x<y" in html.text


def test_commands_are_code_and_other_remedies_are_words(templates, tmp_path):
    written(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "To have it: <code>hubblefork train --out runs/a_b</code>" in page
    assert "To have it: the same command goes on</p>" in page


def test_a_wide_table_does_not_take_its_caption_along(templates, tmp_path):
    _, html = written(tmp_path)
    opened = [tag for tag, _ in html.tags]
    assert "caption" not in opened
    assert opened.count("figcaption") == opened.count("figure") == 2


def test_a_line_below_an_included_template_is_a_line_of_its_own(templates, tmp_path):
    templates["part.md.j2"] = "- first\n"
    templates["test.md.j2"] = """## A {#a}
{% include "part.md.j2" %}
- second
"""
    _, html = written(tmp_path)
    assert [tag for tag, _ in html.tags].count("li") == 2


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


@pytest.fixture
def full_disk():
    """A disk on which no file can be larger than 3 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_page_that_does_not_fit_on_the_disk_leaves_the_older_one_whole(templates, tmp_path, request):
    written(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before["index.html"]) > 3000 > len(before["numbers.json"])
    request.getfixturevalue("full_disk")
    page = Page(tmp_path)
    figure = new_figure(7.1, 1)
    figure.add_subplot().plot([3, 2, 1])
    page.figure("curve", figure, {"largest": 7}, dpi=20)
    page.table("errors", Table(["answer"], [["x"]], {"smooth": 7}))
    page.missing("lost", "x", "y")
    with pytest.raises(DiskError, match=r"could not be written") as error:
        page.write("test.md.j2", title="", subtitle="", name="", value=1, number=1)
    assert "\n" not in str(error.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes(templates, tmp_path):
    templates["test.md.j2"] = "## A {#a}\n{{ name }}"
    Page(tmp_path).write("test.md.j2", title="run\udcff", subtitle="", facts={"run": "\udcff"}, name="\udcfe")
    html = Strict((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert "run\\udcff" in html.text and "\\udcfe" in html.text
