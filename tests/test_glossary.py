"""One word for one thing: the names of the package keep to docs/glossary.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "hubblefork"
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
SINGLE_CAPITAL = re.compile(r"[A-Z]")


class Name(NamedTuple):
    name: str
    kind: str
    line: int


def rows() -> Iterator[list[str]]:
    """The cells of every row of the tables of terms (not of the exceptions)."""
    for line in GLOSSARY.partition("## Exceptions")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[0] not in ("term", "---"):
            yield cells


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def banned() -> dict[str, str]:
    """Each name that is not used, with the term to use instead."""
    return {name: cells[0].strip("`") for cells in rows() for name in quoted(cells[2])}


def exceptions() -> set[tuple[str, str]]:
    lines = GLOSSARY.partition("## Exceptions")[2].splitlines()
    cells = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")
    ]
    return {(name, where) for name, where, _ in cells}


def words(name: str) -> tuple[str, ...]:
    """Split snake_case and CamelCase into words: `readCatalog_2` is read, catalog, 2."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name))


def names_of(source: str) -> Iterator[Name]:
    """Every function, class, parameter and field that a source defines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield Name(node.name, type(node).__name__, node.lineno)
        if isinstance(node, ast.arg):
            yield Name(node.arg, "parameter", node.lineno)
        if isinstance(node, ast.ClassDef):
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name):
                    yield Name(entry.target.id, "field", entry.lineno)


def offence(name: str) -> str | None:
    """Say which term a name should use instead of a banned one; None when the name is fine."""
    if SINGLE_CAPITAL.fullmatch(name):
        return f"{name}: a single capital names nothing"
    spoken = words(name)
    for synonym, term in banned().items():
        sought = words(synonym)
        if any(spoken[i : i + len(sought)] == sought for i in range(len(spoken))):
            return f"{name}: say {term}, not {synonym}"
    return None


def test_the_glossary_is_read_as_it_is_meant() -> None:
    assert banned()["catalog"] == "catalogue"
    assert banned()["img"] == "cutout"
    assert len(banned()) > 30
    assert len({cells[0] for cells in rows()}) == len(list(rows())) > 20


def test_no_name_of_the_package_is_a_banned_synonym() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        where = path.relative_to(PACKAGE).as_posix()
        module = Name(path.parent.name if path.stem == "__init__" else path.stem, "module", 1)
        for name in (module, *names_of(path.read_text(encoding="utf-8"))):
            wrong = offence(name.name)
            if wrong and (name.name, where) not in exceptions():
                found.append(f"{where}:{name.line}: {name.kind} {wrong}")
    assert found == []


@pytest.mark.parametrize("term", [term for cells in rows() for term in quoted(cells[0])])
def test_every_term_of_the_glossary_is_in_use(term: str) -> None:
    sources = (path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    assert any(re.search(rf"\b{term}\b", source) for source in sources)


def test_no_term_is_banned_itself() -> None:
    for cells in rows():
        for term in quoted(cells[0]):
            assert offence(term) is None


def test_every_exception_is_needed() -> None:
    for name, where in exceptions():
        assert offence(name), f"{name} needs no exception"
        assert name in {found.name for found in names_of((PACKAGE / where).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("synonym", sorted(banned()))
def test_the_check_can_fail(synonym: str) -> None:
    camel = "".join(part.capitalize() for part in synonym.split("_"))
    source = f"""
class {camel}Reader:
    {synonym}: int
    def read_{synonym}(self, {synonym}, *, of_{synonym}_2=None, **more_{synonym}): ...
async def {synonym}_wait(): ...
spell = lambda {synonym}: 0
"""
    wrong = [name for name in names_of(source) if offence(name.name)]
    assert [name.kind for name in wrong].count("parameter") == 4
    assert {name.kind for name in wrong} == {
        "ClassDef",
        "FunctionDef",
        "AsyncFunctionDef",
        "parameter",
        "field",
    }
    assert offence(synonym) == f"{synonym}: say {banned()[synonym]}, not {synonym}"


@pytest.mark.parametrize("name", ["X", "Y", "T"])
def test_single_capitals_are_found(name: str) -> None:
    assert offence(name) is not None


@pytest.mark.parametrize(
    "name",
    ["catalogue", "configure_optimizers", "y", "x", "Catalogue", "problem", "accurate", "runs", "explain"],
)
def test_words_that_only_begin_alike_are_fine(name: str) -> None:
    assert offence(name) is None
