"""The family of errors is the one drawn in the module's docstring."""

import inspect
import re

import pytest

from hubblefork import errors
from hubblefork.errors import ExtraMissing, did_you_mean, extras

LINE = re.compile(r"^ {4}(?P<bars>(?:│ {3}| {4})*)(?P<branch>[├└]── )?(?P<name>[A-Z]\w+)", re.MULTILINE)


def defined_family() -> dict[str, str]:
    """Each exception of the module with the one it is derived from."""
    classes = inspect.getmembers(errors, inspect.isclass)
    return {name: found.__base__.__name__ for name, found in classes if found.__module__ == errors.__name__}


def drawn_family() -> dict[str, str]:
    """The same, out of the drawing."""
    family: dict[str, str] = {}
    line: list[str] = ["Exception"]
    for match in LINE.finditer(errors.__doc__ or ""):
        depth = len(match["bars"]) // 4 + bool(match["branch"])
        line = [*line[: depth + 1], match["name"]]
        family[match["name"]] = line[-2]
    return family


def test_the_drawing_is_the_family() -> None:
    assert drawn_family() == defined_family()
    assert len(defined_family()) > 5


@pytest.mark.parametrize("name", sorted(defined_family()))
def test_every_error_can_be_caught_at_the_head_and_keeps_its_message(name: str) -> None:
    with pytest.raises(errors.HubbleforkError, match="what happened"):
        raise getattr(errors, name)("what happened")


def test_no_error_of_ours_is_taken_for_one_of_the_system() -> None:
    for name in defined_family():
        assert not issubclass(getattr(errors, name), OSError | ValueError | KeyError)


def test_the_nearest_known_name_is_suggested_or_none() -> None:
    assert did_you_mean("spirl", ["smooth", "spiral"]) == ' (did you mean "spiral"?)'
    assert did_you_mean("xyzzy", ["smooth", "spiral"]) == ""
    assert did_you_mean("spiral", []) == ""


def test_a_package_of_an_extra_is_named_with_its_extra():
    said = r"a mock sky needs the package galsim.*hubblefork\[mock\]"
    with pytest.raises(ExtraMissing, match=said), extras("a mock sky"):
        raise ModuleNotFoundError("No module named 'galsim.des'", name="galsim.des")
    with pytest.raises(ModuleNotFoundError), extras():
        raise ModuleNotFoundError("No module named 'ours'", name="ours")
