"""Surveys as data: what each file states, and what is refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

import hubblefork
from hubblefork.errors import RecipeError
from hubblefork.images.surveys import Stretch, load_survey, stretch_of, survey_names, survey_of
from hubblefork.zoo import tree_names
from hubblefork.zoo.tree import DEFAULT

SURVEYS = ("euclid", "euclid_vis", "hsc", "jwst", "legacy", "lsst", "sdss")
TREES = {"galaxy_zoo_2", "gz_decals_5", "gz_cosmic_dawn", "gz_euclid", "gz_jwst_ceers"}


@pytest.mark.parametrize("name", SURVEYS)
def test_each_survey_states_what_a_cutout_needs(name: str) -> None:
    survey = load_survey(name)
    assert survey.name == name and survey.title and survey.tree in TREES
    assert "doi:10." in survey.source
    assert 0.02 < survey.pixel_scale < 0.4 and 22 < survey.zero_point < 32
    assert all(0.03 < width < 1.6 for width in survey.psf_fwhm)
    assert all(20 < depth < 30 for depth in survey.depth)
    assert stretch_of(survey.stretch.entries()) == survey.stretch


def test_the_names_are_those_of_the_files_and_others_are_answered() -> None:
    assert survey_names() == SURVEYS
    with pytest.raises(
        RecipeError, match=r'no survey "legcy" \(did you mean "legacy"\?\); there are euclid, '
    ):
        load_survey("legcy")


def test_one_survey_is_grey_and_the_colours_run_from_red_to_blue() -> None:
    assert [name for name in SURVEYS if len(load_survey(name).rgb) == 1] == ["euclid_vis"]
    for survey in map(load_survey, SURVEYS):
        order = [survey.bands.index(band) for band in survey.rgb]
        assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"kind": "luptn"}, r'no stretch "luptn" \(did you mean "lupton"\?\)'),
        (
            {"kind": "linear", "minimum": 0.0},
            "a linear stretch is stated by minimum, maximum, not by minimum",
        ),
        ({"kind": "linear", "minimum": 1.0, "maximum": 1.0}, "from 1 to 1: from less to more"),
        ({"kind": "zscale", "contrast": 0.0}, "contrast must be above 0"),
        ({"kind": "zscale", "contrast": 0.25, "scale": [1.0, 0.0, 1.0]}, "each scale must be above 0"),
        ({"kind": "zscale", "contrst": 0.25}, r'no contrst \(did you mean "contrast"\?\)'),
        ({"contrast": 0.25}, "needs a kind"),
    ],
)
def test_a_stretch_is_stated_wholly_or_refused(entries: dict, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        stretch_of(entries)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"depth": (22.0,)}, "one value for each of its bands"),
        ({"rgb": ("i", "r")}, "rgb names one or three of u, g, r, i, z"),
        ({"rgb": ("i", "r", "y")}, "rgb names one or three of u, g, r, i, z"),
        ({"stretch": Stretch("zscale", contrast=0.25, scale=(1.0, 2.0))}, "its stretch has 2 scales"),
    ],
)
def test_a_survey_that_contradicts_itself_is_refused(change: dict, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        replace(load_survey("sdss"), **change)


SPOKEN = {"sdss", "desi", "decals", "legacy", "legacysurvey", "hsc", "hubble", "candels", "cosmos", "ceers",
          "jwst", "ukidss", "euclid", "lsst"}  # fmt: skip
ROOT = Path(hubblefork.__file__).parent
OF_SURVEYS = {ROOT / "zoo", ROOT / "mock"}


def test_no_survey_is_named_in_python_but_where_skies_are_drawn() -> None:
    names = {*survey_names(), *tree_names(), *SPOKEN} - {DEFAULT}
    named = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(names, key=len, reverse=True))})(?![a-z0-9])")
    files = [path for path in ROOT.rglob("*.py") if OF_SURVEYS.isdisjoint(path.parents)]
    found = {str(path.relative_to(ROOT)): named.findall(path.read_text().lower()) for path in files}
    assert len(files) > 100
    assert {path: which for path, which in found.items() if which} == {}


def test_a_tree_has_a_survey() -> None:
    assert survey_of("gz_decals_5") == load_survey("legacy")
    with pytest.raises(RecipeError, match="no survey has the tree gz_rings"):
        survey_of("gz_rings")
