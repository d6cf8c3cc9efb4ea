"""From a box of images and label tables to a catalogue and a list of what was refused.

Images are read straight out of their archives and decoded by a pool of threads; only a few of
them are in memory at any time. Every image and every row of labels ends in `catalogue.parquet` or
in `rejects.csv`, none in neither.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hubblefork.data.labels import REPEATED, Labels, read_labels
from hubblefork.errors import CatalogueError, HubbleforkError, ImageError
from hubblefork.images.cutouts import READING, Reading
from hubblefork.images.decoder import Cutout, each, inspect
from hubblefork.images.field import Sky, StampSpec, crop_of
from hubblefork.images.members import ImageFault, MemberError, Place, Source
from hubblefork.images.sources import Inputs, check_apart, find_inputs, open_source, reject_of
from hubblefork.images.surveys import load_survey
from hubblefork.io import Progress, replacing, silent
from hubblefork.tables.catalogue import (
    ID,
    IMAGES,
    SKY,
    check_names,
    fractions,
    id_column,
    naming,
    portable,
    with_fractions,
    with_metadata,
    with_positions,
    with_votes,
)
from hubblefork.tables.formats import names_of
from hubblefork.tables.layouts import tree_of
from hubblefork.tables.names import SUFFIXES, Target, galaxy_id_of, off_the_sky
from hubblefork.tables.rejects import Reject, write_rejects
from hubblefork.zoo import DecisionTree, VoteCounts, load_tree, tree_text
from hubblefork.zoo.tree import TREE

CATALOGUE = "catalogue.parquet"
REJECTS = "rejects.csv"


@dataclass(frozen=True)
class IngestSummary:
    """How many galaxies came in and how well labelled, what was refused why, which files were left alone."""

    galaxies: int
    labelled_fully: int
    labelled_partly: int
    unlabelled: int
    rejects: dict[str, int]
    ignored: tuple[Path, ...]
    notes: tuple[str, ...]


def ingest(
    inputs: Sequence[Place],
    out: Path,
    *,
    labels: Sequence[Path] = (),
    missing: Collection[float] = (),
    tree: DecisionTree | None = None,
    layout: str = "",
    strict: bool = False,
    only_labelled: bool = False,
    crop: int | str = "",
    reading: Reading = Reading(),
    threads: int | None = None,
    progress: Progress = silent,
) -> IngestSummary:
    """Write `catalogue.parquet`, `tree.toml` and `rejects.csv` into `out`, each whole or not at all.

    `inputs` are folders in Kaggle's layout, folders of images, archives and label tables; `labels` are more
    label tables; without a `tree` their columns say which it is, else the survey of the `reading`; `layout`
    says which of several layouts of a table is read; the numbers `missing` stand for missing values in all
    of them. Images of a source none of which has labels are kept without; where some have labels the others
    are refused, with `only_labelled` not even read. Images that do not show a `crop` around their galaxy
    (`field.extent_of`) are refused. `reading` says how fluxes are read. `strict` raises at the first refusal.
    Raises ImageError when no image can be used and where `out` is among the images, CatalogueError for a
    table that cannot be read or of which no row is used and for answers named as what a catalogue says of
    images, StampError for what is no crop, DiskError.
    """
    chosen = find_inputs(inputs, labels)
    shown = StampSpec(crop, 1, pixel_scale=reading.pixel_scale) if crop else None
    tree = tree or _tree_of(chosen, reading, layout)
    check_names(tree)
    gathering = _Gathering(
        chosen, read_labels(chosen.tables, tree, missing=missing, layout=layout), strict, reading, shown
    )
    check_apart(out, inputs, inside=False)
    check_apart(out, chosen.sources)
    with ExitStack() as stack:
        sources = [source for path in chosen.sources for source in _opened(path, stack, gathering)]
        wanted = gathering.labels.row_of if only_labelled else None
        names = [[n for n in s.names() if wanted is None or galaxy_id_of(n) in wanted] for s in sources]
        advance = stack.enter_context(progress("ingest", sum(map(len, names))))
        for source, chosen_names in zip(sources, names, strict=True):
            for name, result in each(
                source, inspect, names=chosen_names, threads=threads, together=1, reading=reading
            ):
                gathering.take(source, name, result)
                advance(1)
    gathering.refuse_unused_labels()
    if not gathering.members:
        raise _nothing_usable(chosen.sources, gathering.rejects)
    gathering.check_tables()
    table = portable(gathering.table(tree), out / CATALOGUE)
    with replacing(out / REJECTS) as rejects:
        write_rejects(gathering.rejects, rejects)
        with replacing(out / TREE) as named, replacing(out / CATALOGUE) as made:
            named.write_text(tree_text(tree), encoding="utf-8")
            pa.parquet.write_table(table, made)
    return _summary(table, gathering, tree)


def _tree_of(inputs: Inputs, reading: Reading, layout: str) -> DecisionTree:
    """Return the tree of the first label table, else of the survey; Galaxy Zoo 2's where neither says it."""
    for path in inputs.tables:
        with naming(path):
            if tree := tree_of(names_of(path), layout):
                return tree
    survey = reading.display.survey if reading.display else ""
    return load_tree(load_survey(survey).tree) if survey else load_tree()


@dataclass
class _Gathering:
    """What has come in so far, column by column in plain arrays, and what was refused."""

    inputs: Inputs
    labels: Labels
    strict: bool
    reading: Reading
    shown: StampSpec | None
    source_of: dict[str, str] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    shapes: array = field(default_factory=lambda: array("i"))
    centres: array = field(default_factory=lambda: array("B"))
    twins: dict[bytes, str] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    refused_images: dict[str, str] = field(default_factory=dict)
    labelled_sources: set[Place] = field(default_factory=set)
    fluxes: bool = False
    skies: list[Sky] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.refused_labels = {reject.galaxy_id: reject.reason for reject in self.labels.rejects}
        for reject in self.labels.rejects:
            self.refuse(reject, CatalogueError(str(reject)))

    def refuse(self, reject: Reject, error: HubbleforkError) -> None:
        if self.strict:
            raise error
        self.rejects.append(reject)

    def refuse_image(self, error: MemberError) -> None:
        self.refused_images.setdefault(error.galaxy_id, error.reason)
        self.refuse(reject_of(error, error.galaxy_id), error)

    def begin(self, source: Source) -> None:
        """Note what of a source cannot be used or is no image, and whether any of its images has labels."""
        ids = {galaxy_id_of(name) for name in source.names()}
        if not ids:
            allowed = f"neither {SUFFIXES} files nor archives (.zip, .tar, .tar.gz)"
            self.refuse_image(MemberError(source.path, "", "no images in it", allowed))
        for defect in source.defects:
            self.refuse_image(defect)
        for other in source.left_out:
            path = Path(source.path) / other.member
            if path == Path(source.path) or path not in (*self.inputs.sources, *self.inputs.tables):
                self.refused_images.setdefault(other.galaxy_id, other.reason)
                self.rejects.append(reject_of(other))
        if not ids.isdisjoint(self.labels.row_of) or not ids.isdisjoint(self.refused_labels):
            self.labelled_sources.add(source.path)

    def aimed(self, source: Source) -> Source:
        """Return a source that knows of its galaxies what the labels say, where it does not itself."""
        of = self.labels.targets
        told = {name: of[i] for name in source.names() if (i := galaxy_id_of(name)) in of}
        return replace(source, targets=told | source.targets) if told else source

    def take(self, source: Source, member: str, result: Cutout | MemberError) -> None:
        """Take one image in, or refuse it."""
        galaxy_id = galaxy_id_of(member)
        if isinstance(result, MemberError):
            self.refuse_image(result)
        elif objection := self._objection(source.path, galaxy_id, result):
            self.refuse_image(MemberError(source.path, member, *objection))
        else:
            self.fluxes = result.sky.fluxes
            self.source_of[galaxy_id] = str(source.path)
            self.twins[result.digest] = galaxy_id
            self.members.append(member)
            self.skies.append(result.sky)
            target = source.targets.get(member, Target())
            self.targets.append(Target() if off_the_sky(target.ra, target.dec) else target)
            self.shapes.extend((result.width, result.height))
            self.centres.extend(result.centre)

    def _objection(self, source: Place, galaxy_id: str, cutout: Cutout) -> tuple[str, ...] | None:
        if galaxy_id in self.source_of:
            return "galaxy_id stands twice", f"first in {self.source_of[galaxy_id]}"
        if cutout.digest in self.twins:
            return "same image as another galaxy", f"galaxy_id {self.twins[cutout.digest]}"
        if self.members and self.reading.display and cutout.sky.fluxes != self.fluxes:
            kinds = ("a picture that somebody has stretched", "a FITS cutout")
            value = f"{kinds[cutout.sky.fluxes]}, and {self.members[0]} is {kinds[self.fluxes]}"
            return "another kind of image", value, "ingest each kind by itself"
        if self.shown:
            try:
                crop_of(cutout.height, cutout.width, self.shown, self.reading.field, cutout.sky)
            except ImageFault as fault:
                return fault.reason, fault.value, fault.remedy
        if source not in self.labelled_sources or galaxy_id in self.labels.row_of:
            return None
        if galaxy_id in self.refused_labels:
            return "image of refused labels", self.refused_labels[galaxy_id]
        return "image without labels", "other images of this source have labels"

    def refuse_unused_labels(self) -> None:
        for galaxy_id, row in self.labels.row_of.items():
            if galaxy_id not in self.source_of:
                table, member, line = self.labels.origins[row]
                why = self.refused_images.get(galaxy_id)
                reason = "labels of a refused image" if why else "labels without an image"
                value = f"line {line}: {why}" if why else f"line {line}"
                reject = Reject(str(table), member, galaxy_id, reason, value)
                self.refuse(reject, CatalogueError(str(reject)))

    def check_tables(self) -> None:
        """Raise CatalogueError for a table of labels of which no row is used."""
        labels = self.labels
        used = {reject.source for reject in labels.rejects if reject.reason == REPEATED}
        rows = (labels.row_of[name] for name in self.source_of if name in labels.row_of)
        used |= {str(labels.origins[row].table) for row in rows}
        for table in self.inputs.tables:
            if str(table) not in used:
                refused = [reject for reject in self.rejects if reject.source == str(table)]
                counts = Counter(reject.reason for reject in refused).items()
                why = ", ".join(f"{count} × {reason}" for reason, count in counts) or "it has no rows"
                first = f"; the first: {refused[0].galaxy_id}: {refused[0].value}" if refused else ""
                raise CatalogueError(
                    f"{table}: none of its rows is used: {why}{first}. Images are named as {self.members[0]}"
                )

    def table(self, tree: DecisionTree) -> pa.Table:
        """Return the catalogue; a galaxy without labels has null in all columns of the tree."""
        width, height = np.array(self.shapes).reshape(-1, 2).T
        red, green, blue = np.array(self.centres).reshape(-1, 3).T
        columns = {
            ID: id_column(list(self.source_of)),
            "source": pa.array(self.source_of.values(), pa.string()),
            "member": pa.array(self.members, pa.string()),
            **{"width": width, "height": height},
            **{"centre_red": red, "centre_green": green, "centre_blue": blue},
        }
        for name in SKY:
            values = [getattr(sky, name) for sky in self.skies]
            columns |= {name: pa.array(values, pa.float64())} if any(values) else {}
        catalogue = pa.table(columns)
        if any(target.ra is not None for target in self.targets):
            catalogue = with_positions(catalogue, self.targets)
        unlabelled = np.full((1, len(tree.columns)), np.nan)
        rows = [self.labels.row_of.get(galaxy_id, -1) for galaxy_id in self.source_of]
        joint = np.concatenate([self.labels.joint, unlabelled])[rows]
        metadata = {"tree": tree.name, IMAGES: hashlib.sha256(b"".join(self.twins)).hexdigest()}
        reading = self.reading if self.fluxes else self.reading.of_pictures
        metadata |= {READING: str(reading)} if str(reading) else {}
        catalogue = with_fractions(catalogue, joint, tree)
        if self.labels.votes is not None:
            nobody = np.zeros((1, len(tree.columns) + len(tree.questions)), np.int64)
            counts = np.concatenate([np.hstack(astuple(self.labels.votes)), nobody])[rows]
            votes = VoteCounts(*np.split(counts, [len(tree.columns)], axis=1))
            catalogue = with_votes(catalogue, votes, tree)
        return with_metadata(catalogue, metadata)


def _opened(path: Place, stack: ExitStack, gathering: _Gathering) -> list[Source]:
    """Open a source for as long as the stack lasts; none, and a reject, when it cannot be opened."""
    try:
        source = stack.enter_context(open_source(path, gathering.reading.files))
    except ImageError as error:
        value = str(error).removeprefix(f"{path}: ")
        gathering.refuse(Reject(str(path), "", "", "source cannot be opened", value), error)
        return []
    gathering.begin(source)
    return [gathering.aimed(source)]


def _nothing_usable(sources: Sequence[Place], rejects: Sequence[Reject]) -> ImageError:
    places = {str(source) for source in sources}
    refused = [reject for reject in rejects if reject.source in places]
    counts = ", ".join(f"{count} × {reason}" for reason, count in Counter(r.reason for r in refused).items())
    labels = {reject.galaxy_id: reject for reject in rejects if reject.source not in places}
    first = labels.get(refused[0].galaxy_id, refused[0])
    return ImageError(f"{first}. No image can be used ({counts}) and nothing was written")


def _summary(table: pa.Table, gathering: _Gathering, tree: DecisionTree) -> IngestSummary:
    missing = np.isnan(fractions(table, tree))
    fully, unlabelled = int((~missing.any(axis=1)).sum()), int(missing.all(axis=1).sum())
    return IngestSummary(
        galaxies=len(table),
        labelled_fully=fully,
        labelled_partly=len(table) - fully - unlabelled,
        unlabelled=unlabelled,
        rejects=dict(Counter(reject.reason for reject in gathering.rejects).most_common()),
        ignored=gathering.inputs.ignored,
        notes=(*(f"labels: {note}" for note in gathering.labels.notes), *_notes(table)),
    )


def _notes(table: pa.Table) -> tuple[str, ...]:
    if pa.types.is_integer(table.schema.field(ID).type):
        return ()
    others = [i for i in table.column(ID).to_pylist() if pa.types.is_string(id_column([i]).type)]
    return (
        f"{ID} is kept as text for all {len(table)} galaxies: "
        f'{len(others)} of them, the first "{others[0]}", are no 64-bit integers',
    )
