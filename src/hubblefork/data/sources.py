"""Known surveys: where their files come from, on what terms, and how their labels become ours.

What is known about a survey is data, in `surveys/*.toml`. Galaxy Zoo 2's own table (Hart et al.
2016) names galaxies by their SDSS id and images by another; `gz2_labels` brings the two together.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
from numpy.typing import NDArray

from hubblefork.data.catalogue import ID, with_fractions, with_metadata, write_catalogue
from hubblefork.errors import CatalogueError, DownloadError, did_you_mean
from hubblefork.zoo import DecisionTree, load_tree, to_joint

NORMAL_DEPTH = ("original", "extra", "stripe82")
KINDS = ("debiased", "weighted_fraction", "fraction")
POSITION = {"dr7objid": pa.int64(), "ra": pa.float64(), "dec": pa.float64()}


@dataclass(frozen=True)
class RemoteFile:
    """One published file: what it holds, its URL, its checksum ("md5:…") where one is published."""

    name: str
    holds: str
    url: str = ""
    checksum: str = ""


@dataclass(frozen=True)
class Survey:
    """One published set of images and labels; `columns` gives each answer's name in its table."""

    name: str
    title: str
    home: str
    tree: str
    terms: str
    citations: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    competition: str = ""
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelCount:
    """What became of a table: galaxies labelled, without an image, and scaled (a sum off by over 1%)."""

    labelled: int
    without_image: int
    scaled: int


def survey_names() -> tuple[str, ...]:
    """Return the names of the known surveys."""
    files = resources.files("hubblefork.data").joinpath("surveys").iterdir()
    return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".toml")))


def load_survey(name: str) -> Survey:
    """Return what is known about a survey. Raises DownloadError for an unknown name."""
    if name not in survey_names():
        known = ", ".join(survey_names())
        near = did_you_mean(name, survey_names())
        raise DownloadError(f'there is no survey "{name}"{near}; known are {known}')
    text = resources.files("hubblefork.data").joinpath("surveys", f"{name}.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)
    files = tuple(RemoteFile(**file) for file in entries.pop("files"))
    return Survey(**{**entries, "files": files, "citations": tuple(entries["citations"])})


def gz2_labels(table: Path, mapping: Path, out: Path, *, kind: str = "debiased") -> LabelCount:
    """Turn the table of Hart et al. 2016 into labels of the images that Zenodo holds.

    `mapping` says which image (`asset_id`, its file name) shows which galaxy (`objid`); of it the
    images of normal depth count, which are the ones the table is about. The labels have one row
    per image: `galaxy_id` is the asset id, since images are known by their names; `dr7objid`,
    `ra` and `dec` (degrees) stand beside it; then the joint fractions of the tree.

    `kind` is "debiased" (corrected for redshift), "weighted_fraction" (weighted by the volunteers'
    consistency) or "fraction". Debiasing treats every answer by itself, so the fractions of a
    question need not sum to one: they are divided by their sum, and the galaxies for which that
    changes more than 1% are counted. A question whose fractions are all zero or empty was asked
    of nobody: null. Fractions outside [0, 1] stay as they are, for `ingest` to refuse by name.

    Raises CatalogueError for a table that cannot be read or lacks columns, DiskError.
    """
    if kind not in KINDS:
        raise CatalogueError(f'there is no kind "{kind}"{did_you_mean(kind, KINDS)}: {", ".join(KINDS)}')
    survey = load_survey("gz2")
    tree = load_tree(survey.tree)
    columns = {f"{survey.columns[answer]}_{kind}": pa.float64() for answer in tree.columns}
    votes = _read_columns(table, {**POSITION, **columns})
    images = _images_of_galaxies(mapping)
    shown = votes.join(images, "dr7objid", join_type="inner").sort_by("asset_id")
    if not len(shown):
        raise CatalogueError(f"{table} and {mapping} have no galaxy in common: are they of the same survey?")
    fractions = np.stack([shown.column(name).to_numpy() for name in columns], axis=1)
    conditional, scaled = _conditional(tree, fractions)
    labels = shown.select(["asset_id", *POSITION]).rename_columns([ID, *POSITION])
    labels = with_fractions(labels, to_joint(tree, conditional), tree)
    notes = {"tree": tree.name, "quantity": "joint_fraction", "kind": kind, "source": survey.citations[-1]}
    write_catalogue(with_metadata(labels, notes), out)
    return LabelCount(len(shown), len(votes) - len(shown), int(scaled.sum()))


def _images_of_galaxies(mapping: Path) -> pa.Table:
    images = _read_columns(mapping, {"objid": pa.int64(), "sample": pa.string(), "asset_id": pa.int64()})
    images = images.filter(pa.compute.is_in(images["sample"], pa.array(NORMAL_DEPTH)))
    images = images.drop_columns("sample").rename_columns(["dr7objid", "asset_id"])
    for name in images.column_names:
        repeated = len(images) - pa.compute.count_distinct(images[name]).as_py()
        if repeated:
            raise CatalogueError(f"{mapping}: {repeated} rows repeat a {name} of the images of normal depth")
    return images


def _conditional(tree: DecisionTree, fractions: NDArray) -> tuple[NDArray, NDArray[np.bool_]]:
    """Scale each question to sum to one; return that and, per galaxy, whether it changed more than 1%."""
    conditional = fractions.copy()
    scaled = np.zeros(len(fractions), dtype=bool)
    for answers in tree.slices:
        given = fractions[:, answers]
        total = given.sum(axis=1)
        sound = ((given >= 0) & (given <= 1)).all(axis=1) & (total > 0)
        conditional[sound, answers] = given[sound] / total[sound, None]
        conditional[(given == 0).all(axis=1), answers] = np.nan
        scaled |= sound & (np.abs(total - 1) > 0.01)
    return conditional, scaled


def _read_columns(path: Path, columns: dict[str, pa.DataType]) -> pa.Table:
    """Read some columns of a CSV, compressed or not. Raises CatalogueError."""
    convert = pa.csv.ConvertOptions(column_types=columns, include_columns=list(columns))
    try:
        with pa.csv.open_csv(path) as beginning:
            present = beginning.schema.names
        missing = [name + did_you_mean(name, present) for name in columns if name not in present]
        if missing:
            raise CatalogueError(f"{path}: {len(missing)} columns are missing: {', '.join(missing)}")
        return pa.csv.read_csv(path, convert_options=convert)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CatalogueError(f"{path}: not a readable table: {error}; fetch it anew") from error
