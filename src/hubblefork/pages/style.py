"""The house style: sizes, colours, fonts, and how a figure becomes a file.

The width is that of a journal page (180 mm): a figure is printed at the size it is drawn at, and no letter is
under 7 points. Colours are those of Okabe & Ito (2008, "Color universal design"), which colour-blind readers
can tell apart. A marker, a line style or a label says the same as a colour, so that nothing is lost in grey.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from hubblefork.errors import DiskError
from hubblefork.io import replacing

PAGE = 7.1  # inches
SMALL, NORMAL = 7.0, 8.0  # points
POINTS = 72.0  # in an inch
LINE = 1.25 * SMALL / POINTS  # inches from one line of small text to the next
DPI = 200

BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION = (
    *("#0072B2", "#E69F00", "#009E73"),
    *("#CC79A7", "#56B4E9", "#D55E00"),
)
INK, GREY, FAINT = "#1a1a1a", "#6b6b6b", "#d9d9d9"
SERIES: tuple[dict[str, Any], ...] = (  # colour, line style and marker together, so that each alone is enough
    {"color": BLUE, "linestyle": "-", "marker": "o"},
    {"color": VERMILION, "linestyle": "--", "marker": "s"},
    {"color": GREEN, "linestyle": "-.", "marker": "^"},
    {"color": PURPLE, "linestyle": ":", "marker": "D"},
    {"color": INK, "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": ORANGE, "linestyle": (0, (1, 1)), "marker": "P"},
    {"color": SKY, "linestyle": (0, (3, 1)), "marker": "*"},
)
DENSITY = "cividis_r"  # sequential, dark is much: also in grey
SIGNED = "RdBu_r"  # diverging around 0; negative cells are marked as well

STYLE = mpl.rc_params_from_file(Path(__file__).with_name("house.mplstyle"), use_default_template=False)
"""The settings of matplotlib while a figure is drawn and written; the sizes and INK are those above."""

Drawing = tuple[Figure, dict[str, Any]]
P = ParamSpec("P")
T = TypeVar("T")


def in_house_style(draw: Callable[P, T]) -> Callable[P, T]:
    """Run a drawing function under the house style, leaving matplotlib's settings as they were."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> T:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float, *, layout: Any = "constrained") -> Figure:
    """Return an empty figure of that size in inches; `layout=None` where axes are placed by hand."""
    return Figure(figsize=(width, height), layout=layout)


def png(figure: Figure, *, dpi: int = DPI) -> bytes:
    """Return the figure as a PNG file's bytes; the same figure gives the same bytes."""
    return _file(figure, format="png", dpi=dpi, metadata={"Software": None})


def pdf(*figures: Figure, dpi: int = DPI) -> bytes:
    """Return figures, a page each, as a PDF file's bytes (vector); the same figures give the same bytes."""
    buffer = BytesIO()
    with mpl.rc_context(STYLE), PdfPages(buffer, metadata={"CreationDate": None}) as pages:
        for figure in figures:
            pages.savefig(figure, dpi=dpi)
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """Return the figure as an SVG file's bytes (vector); the same figure gives the same bytes."""
    return _file(figure, format="svg", metadata={"Date": None})


def _file(figure: Figure, **settings: Any) -> bytes:
    buffer = BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, **settings)
    return buffer.getvalue()


def save(figure: Figure, stem: Path) -> tuple[Path, Path]:
    """Write `stem`.pdf and `stem`.png, each whole or not at all. Raises DiskError."""
    first, second = (stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png"))
    for path in (first, second):
        save_as(figure, path)
    return first, second


def save_as(figure: Figure, path: Path) -> None:
    """Write the figure whole or not at all, as the path ends: .png, .pdf or .svg. Raises DiskError."""
    kinds: dict[str, Callable[[Figure], bytes]] = {".png": png, ".pdf": pdf, ".svg": svg}
    if path.suffix.lower() not in kinds:
        raise DiskError(f'{path}: a picture ends in {", ".join(kinds)}, not "{path.suffix}"')
    content = kinds[path.suffix.lower()](figure)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


@functools.cache
def text_width(text: str, size: float) -> float:
    """Return the width of a line of text in inches, at a font size in points."""
    if not text.strip():
        return 0.0
    font = FontProperties(family=STYLE["font.family"], size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) / POINTS


def wrapped(text: str, width: float, size: float) -> str:
    """Break text into lines no wider than `width` inches, between words only."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, size) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)
