import matplotlib as mpl
import pytest

from hubblefork.errors import DiskError
from hubblefork.pages.style import (
    SMALL,
    in_house_style,
    new_figure,
    png,
    save,
    save_as,
    svg,
    text_width,
    wrapped,
)


@in_house_style
def drawing():
    figure = new_figure(2, 1)
    figure.add_subplot().plot([1, 2])
    return figure, {}


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    pdf, image = save(drawing()[0], tmp_path / "one")
    again = save(drawing()[0], tmp_path / "two")
    assert pdf.read_bytes() == again[0].read_bytes()
    assert image.read_bytes() == again[1].read_bytes()
    assert png(drawing()[0]) == png(drawing()[0])
    assert pdf.read_bytes().startswith(b"%PDF")
    assert b"CreationDate" not in pdf.read_bytes()
    assert svg(drawing()[0]) == svg(drawing()[0])


def test_a_picture_is_of_the_kind_its_name_ends_in(tmp_path):
    for name, beginning in {"a.PNG": b"\x89PNG", "a.pdf": b"%PDF", "a.svg": b"<?xml"}.items():
        save_as(drawing()[0], tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(beginning)
    with pytest.raises(DiskError, match=r'ends in \.png, \.pdf, \.svg, not "\.jpg"'):
        save_as(drawing()[0], tmp_path / "a.jpg")


def test_settings_of_others_stay_as_they_were():
    before = dict(mpl.rcParams)
    png(drawing()[0])
    assert dict(mpl.rcParams) == before


def test_a_figure_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError):
        save(drawing()[0], tmp_path / "file" / "figure")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_wrapped_lines_fit():
    lines = wrapped("Is there a sign of a bar feature through the centre of the galaxy?", 1.2, SMALL).split(
        "\n"
    )
    assert len(lines) > 2
    assert all(text_width(line, SMALL) <= 1.2 for line in lines)
