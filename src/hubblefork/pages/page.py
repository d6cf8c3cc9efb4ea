"""A page: one Markdown template, filled with figures, tables and values, as HTML with PDFs and numbers.

A template (`pages/templates/NAME.md.j2`) is Jinja inside Markdown. Each section begins with
`## Title {#anchor}`. These functions are there, next to the context given to `Page.write`:

- `{% call figure("name") %}The caption.{% endcall %}` and the same with `table`: what was given to
  `Page.figure` or `Page.table` under that name, or what was said with `Page.missing`;
- `{% call facts() %}` with a line `Name | Markdown` for each fact, `{{ warnings() }}`, `{{ listing(text) }}`,
  `{{ code(text) }}`, `{{ missing("name", "another") }}` (nothing where nothing is missing), `has("name")`;
- `numbers.name`: the numbers of a figure or table;
- the filters `bounds`, `counted`, `decimal`, `duration`, `extremes`, `listed`, `share`, `written`: see
  `pages.tables`.

Whatever an expression yields is text: neither its HTML nor its Markdown is interpreted.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markdown_it import MarkdownIt
from markupsafe import Markup
from matplotlib.figure import Figure

from hubblefork import __version__
from hubblefork.io import duration, replacing
from hubblefork.pages.style import DPI, PAGE, pdf, png
from hubblefork.pages.tables import (
    Table,
    bounds,
    counted,
    decimal,
    extremes,
    listed,
    plain,
    share,
    written,
)

FILTERS = {f.__name__: f for f in (bounds, counted, decimal, duration, extremes, listed, share, written)}
PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
OPEN, CLOSE = "\ue000", "\ue001"  # around the number of a block that is HTML already
Caller = Callable[[], str]
HEADING = re.compile(r"(?P<title>.*?)\s*\{#(?P<anchor>[\w-]+)\}")


class Missing(Exception):
    """What could not be shown, and what to do about it (a command, or a sentence)."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what, self.remedy = what, remedy


Part = dict[str, str] | Table | Missing | None
"""A figure, with its name, data URI and width; a table; what is missing; or nothing to say."""


class Page:
    """Figures, tables and missing parts by name; `write` sets them in a template.

    `numbers` are those of figures and tables by name, `captions` (after `write`) their captions as text;
    with `keep_figures`, `figures` are the figures with their resolution (dots per inch).

    >>> page = Page("report")
    >>> numbers = page.figure("scatter", *plots.panels(tree, predicted, volunteers))
    >>> page.table("errors", Table(["answer", "RMSE"], rows, values))
    >>> page.missing("curves", "runs/a/metrics.csv is not there.", "hubblefork train data --out runs/a")
    >>> page.write("run.md.j2", title="runs/a", subtitle="A run", facts={"run": notes}, galaxies=7)
    """

    def __init__(self, out: str | Path, *, keep_figures: bool = False) -> None:
        self.out = Path(out)
        self.keep_figures = keep_figures
        self.figures: dict[str, tuple[Figure, int]] = {}
        self.numbers: dict[str, Any] = {}
        self.captions: dict[str, str] = {}
        self._parts: dict[str, Part] = {}
        self._pdfs: dict[str, bytes] = {}
        self._warnings: list[str] = []

    def figure(self, name: str, figure: Figure, numbers: Mapping[str, Any], *, dpi: int = DPI) -> Any:
        """Keep a figure as PDF and as PNG; the figure is emptied unless `keep_figures`.

        Returns the numbers as `numbers.json` gets them.
        """
        self._pdfs[f"{name}.pdf"] = pdf(figure, dpi=dpi)
        uri = f"data:image/png;base64,{b64encode(png(figure, dpi=dpi)).decode()}"
        width = f"{figure.get_size_inches()[0] / PAGE * 100:.2f}%"
        if self.keep_figures:
            self.figures[name] = figure, dpi
        else:
            figure.clear()
        self._parts[name] = {"name": name, "uri": uri, "width": width}
        self.numbers[name] = plain(numbers)
        return self.numbers[name]

    def table(self, name: str, table: Table) -> Any:
        """Keep a table. Returns its numbers as `numbers.json` gets them."""
        self._parts[name] = table
        self.numbers[name] = plain(table.numbers)
        return self.numbers[name]

    def warn(self, text: str) -> None:
        """Keep a warning for the reader."""
        self._warnings.append(text)

    def missing(self, name: str, what: str, remedy: str) -> None:
        """Say that the figure or table `name` cannot be shown, and the command that changes this."""
        self._parts[name] = Missing(what, remedy)

    def optional(self, *names: str) -> None:
        """Show nothing under these names unless they become figures or tables."""
        self._parts |= dict.fromkeys(names)

    @contextmanager
    def showing(self, *names: str) -> Iterator[None]:
        """Say below these names what the block raises as Missing."""
        try:
            yield
        except Missing as missing:
            for name in names:
                self.missing(name, missing.what, missing.remedy)

    def has(self, name: str) -> bool:
        """Return whether there is a figure or table of that name, and not only a word that it is missing."""
        return isinstance(self._parts.get(name), dict | Table)

    def write(
        self,
        template: str,
        *,
        title: str,
        subtitle: str,
        facts: Mapping[str, Any] | None = None,
        sections: Collection[str] | None = None,
        **context: Any,
    ) -> Path:
        """Write `index.html`, `numbers.json` and a PDF of each figure; return the path of the first.

        `sections` are the anchors of those to write, by default all. The page needs no other file and no
        network. `numbers.json` has `facts`, and below `sections` the numbers of each section's figures and
        tables. All files are written before the first takes the place of an older one. Raises
        DiskError; jinja2.UndefinedError where the template names what is not there.
        """
        blocks = _Blocks(self._parts, self._warnings)
        names = {"numbers": self.numbers, "has": self.has, "title": title, "subtitle": subtitle}
        text = _template(template, sections).render(**names, **blocks.functions(), **context)
        shown = _sections(text, blocks)
        self.captions = blocks.captions
        base = _html_templates().get_template("page.html")
        html = base.render(title=title, subtitle=subtitle, sections=shown, version=__version__)
        numbers = {
            section["anchor"]: {name: self.numbers[name] for name in section["names"] if name in self.numbers}
            for section in shown
        }
        everything = {**plain(facts or {}), "sections": numbers}
        json_text = json.dumps(everything, indent=1, allow_nan=False) + "\n"
        texts = {"index.html": html, "numbers.json": json_text}
        files = {name: text.encode(errors="backslashreplace") for name, text in texts.items()} | self._pdfs
        with ExitStack() as stack:
            for name, content in files.items():
                stack.enter_context(replacing(self.out / name)).write_bytes(content)
        return self.out / "index.html"


class _Blocks:
    """The functions of a template that yield HTML: each block is kept, a mark stands for it in Markdown."""

    def __init__(self, parts: Mapping[str, Part], texts: Sequence[str]) -> None:
        self.parts, self.texts = parts, texts
        self.html: list[str] = []
        self.names: list[str] = []
        self.counts = {"figure": 0, "table": 0}
        self.captions: dict[str, str] = {}

    def functions(self) -> dict[str, Callable[..., Markup]]:
        """Return the functions by the name that templates use."""
        names = ("missing", "facts", "listing", "code", "warnings")
        labelled = {kind: partial(self.labelled, kind) for kind in self.counts}
        return {**labelled, **{name: getattr(self, name) for name in names}}

    def labelled(
        self, kind: str, name: str, caption: str = "", label: str | None = None, caller: Caller | None = None
    ) -> Markup:
        """Show a figure or table or say that it is missing.

        The caption is plain text (default: that of the table), or Markdown in a call block; `label` stands
        before it (default: "Figure 1" and so on).
        """
        if name not in self.parts:
            raise KeyError(f"the page has no {kind} “{name}”, and nothing says that it is missing")
        part = self.parts[name]
        if part is None or isinstance(part, Missing):
            return self.missing(name)
        if label is None:
            self.counts[kind] += 1
            label = f"{kind.capitalize()} {self.counts[kind]}"
        text = _inline(caller() if caller else _escaped(caption or getattr(part, "caption", "")), self)
        self.captions[name] = f"{label}. {text.striptags()}" if label else text.striptags()
        return self._kept(kind, name, part=part, caption=text, words=text.striptags(), label=label)

    def missing(self, *names: str) -> Markup:
        """Say what is missing under some names, nothing where nothing is."""
        parts = [part for name in names if isinstance(part := self.parts.get(name), Missing)]
        said = [self._kept("missing", "", what=part.what, remedy=part.remedy) for part in parts]
        return Markup("").join(said)

    def facts(self, entries: Mapping[str, Any] | None = None, caller: Caller | None = None) -> Markup:
        """Show names and values: the lines `Name | Markdown` of a call block, or a mapping of plain texts."""
        texts: dict[str, str] = {name: _escaped(value) for name, value in (entries or {}).items()}
        for line in str.splitlines(caller()) if caller else ():
            name, _, value = line.partition(" | ")
            texts |= {name.strip(): value} if value else {}
        entries = {name: _inline(text, self) for name, text in texts.items()}
        return self._kept("facts", "", entries=entries) if entries else Markup("")

    def listing(self, text: str | None, title: str = "") -> Markup:
        """Show a text as it stands, folded below its title if it has one; nothing where there is none."""
        return self._kept("listing", "", text=str.__str__(text), title=title) if text else Markup("")

    def code(self, text: str) -> Markup:
        """Show a name or a command within a sentence."""
        return Markup(self._mark(_html("code", text=text), ""))

    def warnings(self) -> Markup:
        """Show all warnings of the page."""
        texts = (_inline(_escaped(text), self) for text in self.texts)
        return Markup("").join(self._kept("warning", "", text=text) for text in texts)

    def _kept(self, block: str, name: str, **values: Any) -> Markup:
        return Markup(f"\n\n{self._mark(_html(block, **values), name)}\n\n")

    def _mark(self, html: str, name: str) -> str:
        self.html.append(html)
        self.names.append(name)
        return f"{OPEN}{len(self.html) - 1}{CLOSE}"

    def filled(self, html: str) -> str:
        """Return HTML with the blocks in the place of their marks."""
        return re.sub(f"(?:<p>)?{OPEN}(\\d+){CLOSE}(?:</p>)?", lambda mark: self.html[int(mark[1])], html)


def _template(name: str, sections: Collection[str] | None) -> Template:
    """Return the template of a page with those of its sections that have one of these anchors."""
    environment = _markdown_templates()
    assert environment.loader is not None
    head, *parts = re.split(r"(?m)^(?=## )", environment.loader.get_source(environment, name)[0])
    anchors = [part.partition("{#")[2].partition("}")[0] for part in parts]
    chosen = [part for part, own in zip(parts, anchors, strict=True) if sections is None or own in sections]
    return environment.from_string("".join([head, *chosen]))


def _sections(text: str, blocks: _Blocks) -> list[dict[str, Any]]:
    """Return the sections of a Markdown text: anchor, title, HTML, names of figures and tables."""
    sections = []
    for part in re.split(r"(?m)^## ", text)[1:]:
        heading, _, body = part.partition("\n")
        match = HEADING.fullmatch(heading.strip())
        if match is None:
            raise ValueError(f"the section “{heading}” of the template has no anchor: ## Title {{#anchor}}")
        names = [blocks.names[int(mark)] for mark in re.findall(f"{OPEN}(\\d+){CLOSE}", body)]
        html = Markup(blocks.filled(_markdown().render(body)))
        title = _inline(match["title"], blocks)
        sections.append({"anchor": match["anchor"], "title": title, "html": html, "names": names})
    return sections


def _inline(text: str, blocks: _Blocks) -> Markup:
    return Markup(blocks.filled(_markdown().renderInline(" ".join(str.split(text)))))


def _escaped(value: Any) -> Markup:
    """Return a value as Markdown that reads as it stands; what is Markdown already stays."""
    if isinstance(value, Markup):
        return value
    words = re.sub(f"[{OPEN}{CLOSE}]", "", " ".join(str(value).split()))
    return Markup(PUNCTUATION.sub(r"\\\1", words))


def _html(block: str, **values: Any) -> str:
    parts: Any = _html_templates().get_template("blocks.html").module
    return str(getattr(parts, block)(**values)).strip()


@cache
def _markdown() -> MarkdownIt:
    """Return the Markdown of templates: no HTML, and no code block where text is merely indented."""
    return MarkdownIt("commonmark", {"html": False}).disable("code")


@cache
def _markdown_templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("hubblefork.pages"),
        undefined=StrictUndefined,
        finalize=_escaped,
        autoescape=True,
        comment_start_string="<!--",
        comment_end_string="-->",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,  # else the line below an included template joins its last one
    )
    environment.filters.update(FILTERS)
    return environment


@cache
def _html_templates() -> Environment:
    settings: Any = {"undefined": StrictUndefined, "autoescape": True}
    return Environment(
        loader=PackageLoader("hubblefork.pages"), trim_blocks=True, lstrip_blocks=True, **settings
    )
