"""The report's sections 2 to 4: what was asked, the images, their labels, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.split import TRAIN, VALIDATION
from hubblefork.data.stamps import prepare
from hubblefork.errors import ImageError
from hubblefork.report.blocks import (
    Block,
    Listing,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    counted,
    decimal,
    listed,
)
from hubblefork.report.figures.answers import label_histograms
from hubblefork.report.figures.correlations import correlation_matrix, correlation_submatrices
from hubblefork.report.figures.prototypes import cutout_beside_stamp, prototype_of_every_answer
from hubblefork.report.figures.sheets import image_sheet
from hubblefork.stats.samples import (
    Correlations,
    Difference,
    compare_distributions,
    correlations,
    peaks,
    prototypes,
)
from hubblefork.studies.lab import paper
from hubblefork.studies.lab.inputs import Lab, cutouts, image_bytes
from hubblefork.studies.lab.trainings import NETWORKS

SHOWN = 25
IMAGE_DPI = 150
EQUATIONS = "(1)  ρ_ij = (⟨ij⟩ − ⟨i⟩⟨j⟩) / (σ_i σ_j)\n(2)  σ_i  = √(⟨i²⟩ − ⟨i⟩²)\n(3)  σ_j  = √(⟨j²⟩ − ⟨j⟩²)"


def asked(lab: Lab) -> Section:
    """Return table 1: the questions and answers, with the volunteers' mean."""
    means = _means(lab.sky.votes)
    rows = []
    for question, answers in zip(lab.tree.questions, lab.tree.slices, strict=True):
        for place, column in enumerate(range(answers.start, answers.stop)):
            first = f"{question.task} {question.text}" if place == 0 else ""
            answer = lab.tree.answers[column]
            rows.append([first, answer.column, answer.text, decimal(means[column], 3)])
    caption = (
        f"Table 1. The {len(lab.tree.questions)} questions and {len(lab.tree.columns)} answers in the order "
        "of Kaggle's columns, worded after Willett et al. (2013, table 2), with the mean joint fraction "
        f"over the labelled galaxies: “{_text(lab, int(np.nanargmax(means)))}” is the answer most often "
        f"given, “{_text(lab, int(np.nanargmin(means)))}” the rarest."
    )
    header = ["question", "column", "answer", "mean fraction"]
    table = Table("table-01", header, rows, caption, dict(zip(lab.tree.columns, means, strict=True)))
    return Section("table-1", "2 · What volunteers were asked: table 1", [table])


def images(lab: Lab) -> Section:
    """Return figure 1: 25 random labelled galaxies."""
    title = "3 · Images: figure 1"
    rows = np.flatnonzero(lab.sky.labelled)
    rng = np.random.default_rng(paper.IMAGES)
    chosen = rng.choice(rows, min(SHOWN, len(rows)), replace=False)
    found = _cutouts(lab, chosen)
    if isinstance(found, Missing):
        return Section("figure-1", title, [found])
    width, height = (lab.sky.table.column(name)[int(chosen[0])].as_py() for name in ("width", "height"))
    caption = (
        f"Figure 1. {counted(len(chosen), 'labelled galaxy', 'labelled galaxies')} drawn at random of "
        f"{len(rows):,} (the report has {paper.IMAGES:,}), in red, green and blue, each with its galaxy_id. "
        f"An image has {width} × {height} pixels; the galaxy it is of fills its middle, others stand around "
        "it."
    )
    drawing = image_sheet(np.stack(found), lab.sky.ids[chosen].tolist(), columns=5)
    return Section("figure-1", title, [Picture("figure-01", drawing, caption, dpi=IMAGE_DPI)])


def labels(lab: Lab) -> Section:
    """Return figure 2: the histogram of every label."""
    votes = lab.sky.votes[lab.sky.labelled]
    several = [name for name, values in zip(lab.tree.columns, votes.T, strict=True) if peaks(values) > 1]
    named = listed([f"“{_text(lab, lab.tree.column(name))}”" for name in paper.SEVERAL_PEAKS])
    both = [name for name in paper.SEVERAL_PEAKS if name in several]
    texts = [f"“{_text(lab, lab.tree.column(name))}”" for name in several]
    lowest = np.array([np.mean(values[~np.isnan(values)] < 0.04) for values in votes.T])
    caption = (
        f"Figure 2. Normalised histograms of the {len(lab.tree.columns)} labels, 25 bins, over "
        f"{counted(len(votes), 'labelled galaxy', 'labelled galaxies')}. {_of(len(texts), 'answer')} more "
        f"than one peak that stands out by 1% of the galaxies{': ' + listed(texts) if texts else ''}; the "
        f"report names {named}, of which ours has {len(both)}. For {int(np.count_nonzero(lowest > 0.5))} "
        "answers more than half of the galaxies lie in the lowest bin: most answers are rare, so that a "
        "small error on them says little."
    )
    drawing = label_histograms(lab.tree, {"labelled": votes})
    return Section("figure-2", "3.1 · Labels: figure 2", [Picture("figure-02", drawing, caption)])


def prototype_images(lab: Lab) -> Section:
    """Return figure 3: the galaxy with the largest label of every answer."""
    title = "3.2 · Prototypes: figure 3"
    rows, values = _highest(lab)
    there = [row for row in rows if row is not None]
    found = _cutouts(lab, there)
    if isinstance(found, Missing):
        return Section("figure-3", title, [found])
    shown = dict(zip(there, found, strict=True))
    drawing = prototype_of_every_answer(
        lab.tree,
        [None if row is None else shown[row] for row in rows],
        [None if row is None else lab.sky.ids[row] for row in rows],
        values,
    )
    low, full = int(np.nanargmin(values)), int(np.count_nonzero(values > 0.95))
    caption = (
        "Figure 3. For each answer the galaxy with its largest label, with galaxy_id and label. Volunteers "
        f"are all but unanimous (above 0.95) on the prototypes of {full} of {len(values)} answers; on "
        f"“{_text(lab, low)}” no galaxy gets beyond {values[low]:.2f}: such answers are subtle, and hard to "
        "learn."
    )
    return Section("figure-3", title, [Picture("figure-03", drawing, caption)])


def _highest(lab: Lab) -> tuple[list[int | None], NDArray]:
    rows: list[int | None] = []
    for column in range(len(lab.tree.columns)):
        first = prototypes(lab.sky.votes, lab.sky.ids, column, 1)
        rows.append(int(first[0]) if len(first) else None)
    values = [np.nan if row is None else lab.sky.votes[row, column] for column, row in enumerate(rows)]
    return rows, np.array(values)


def correlated(lab: Lab) -> Section:
    """Return equations 1 to 3 and figures 4 and 5: how labels go together."""
    found = correlations(lab.sky.votes[lab.sky.labelled])
    blocks: list[Block] = [
        Listing(EQUATIONS),
        Paragraph(
            "A label that nobody gave is missing, not zero: the means of a pair are over the galaxies in "
            f"which both labels are known, {found.galaxies.min():,} to {found.galaxies.max():,} of them."
        ),
        Picture("figure-04", correlation_matrix(lab.tree, found.rho), _matrix_caption(lab, found)),
        Picture(
            "figure-05", correlation_submatrices(lab.tree, found.rho), _submatrix_caption(lab, found.rho)
        ),
        Paragraph(
            "The report expects answers that exclude each other to have ρ = 0 and takes other values for "
            "uncertainty. They are the ones that must not: what one gains the other loses, so that they "
            "anticorrelate; further down the tree what they share, that their question is asked at all, "
            "pulls the other way. Zero is what answers have that know nothing of each other."
        ),
    ]
    return Section("figure-4", "3.3 · Correlations: equations 1–3, figures 4 and 5", blocks)


def _matrix_caption(lab: Lab, found: Correlations) -> str:
    upper = np.where(np.triu(np.ones_like(found.rho, dtype=bool), k=1), found.rho, np.nan)
    high, low = (np.unravel_index(pick(upper), upper.shape) for pick in (np.nanargmax, np.nanargmin))
    near = int(np.count_nonzero(np.abs(upper) < 0.05))
    return (
        f"Figure 4. The correlation matrix of the {len(lab.tree.columns)} labels; a dash marks a negative "
        f"element, grey lines part the questions. It is highest for {_pair(lab, high)} "
        f"({decimal(upper[high], 2)}) and lowest for {_pair(lab, low)} ({decimal(upper[low], 2)}); {near} "
        f"of {np.isfinite(upper).sum()} pairs lie within 0.05 of zero."
    )


def _submatrix_caption(lab: Lab, rho: NDArray) -> str:
    opposite = {
        question.name.replace("_", " "): rho[answers.start, answers.start + 1]
        for question, answers in zip(lab.tree.questions, lab.tree.slices, strict=True)
        if len(question.answers) == 2
    }
    texts = [f"{decimal(value, 2)} ({name})" for name, value in opposite.items()]
    return (
        "Figure 5. The submatrix of each question, in hundredths. Of the questions with two answers only "
        f"one that is asked of every galaxy has ρ = −1: {listed(texts)}. Joint fractions of a question "
        "further down sum to its reach, and a galaxy that never reaches it has neither answer."
    )


def differences(lab: Lab) -> Section:
    """Return figure 6: training against validation labels, with a test for every answer."""
    title = "3.4 · Training and validation labels: figure 6"
    train, validation, fair = lab.votes(TRAIN), lab.votes(VALIDATION), lab.fair_training()
    if not len(train) or not len(validation):
        return Section("figure-6", title, [Missing("A part of the split is empty.", "hubblefork split DATA")])
    selected = len(fair) < len(train) and len(fair) > 0
    tests = compare_distributions(train, validation)
    fair_tests = compare_distributions(fair, validation) if selected else None
    samples = {"training": train, "validation": validation} | (
        {"training, unselected": fair} if selected else {}
    )
    notes = ["" if test is None else f"p {_p(test.corrected)}" for test in tests]
    drawing = label_histograms(lab.tree, samples, notes=notes)
    blocks: list[Block] = [Picture("figure-06", drawing, _differences_caption(lab, tests, fair_tests))]
    if selected:
        blocks.append(Paragraph(_selection_text(train, fair)))
    blocks.append(_differences_table(lab, tests, fair_tests))
    return Section("figure-6", title, blocks)


Tests = Sequence[Difference | None]


def _differences_caption(lab: Lab, tests: Tests, fair_tests: Tests | None) -> str:
    known = [test for test in tests if test is not None]
    differing = [test for test in known if test.significant]
    text = (
        "Figure 6. Labels of the training and of the validation galaxies; in each panel the p-value of a "
        f"two-sample Kolmogorov–Smirnov test after Holm's correction for {len(known)} looks. "
        f"{_of(len(differing), 'answer', 'differ', 'differs')} at 0.05."
    )
    if fair_tests is None:
        verdict = (
            "there are no systematic differences"
            if not differing
            else "the split is uneven in it, by chance or not"
        )
        return f"{text} As in the report, {verdict}." if not differing else f"{text} So {verdict}."
    fair = sum(test is not None and test.significant for test in fair_tests)
    return (
        f"{text} Against the training galaxies that nobody selected, {fair or 'none'} does: it is the "
        "selection that differs, not the split."
    )


def _selection_text(train: NDArray, fair: NDArray) -> str:
    return (
        "The report splits at random. Here the split judges only on listed galaxies, which nobody selected; "
        f"{len(train) - len(fair):,} of the {len(train):,} training galaxies are not on that list. Where "
        "others picked those by their votes, training labels are distributed otherwise than validation "
        "labels, and the test finds it. The table gives both comparisons: with all training galaxies, and "
        f"with the {len(fair):,} listed ones."
    )


def _differences_table(lab: Lab, tests: Tests, fair_tests: Tests | None) -> Table:
    rows, numbers = [], {}
    for column, name in enumerate(lab.tree.columns):
        cells = _test_cells(tests[column])
        numbers[name] = {"training": _test_numbers(tests[column])}
        if fair_tests is not None:
            cells += _test_cells(fair_tests[column])
            numbers[name]["unselected"] = _test_numbers(fair_tests[column])
        rows.append([lab.tree.answers[column].text, *cells])
    header = ["answer", "distance", "p", "p, Holm"]
    header += ["unselected: distance", "p", "p, Holm"] if fair_tests is not None else []
    sizes = next((test.galaxies for test in tests if test is not None), (0, 0))
    caption = (
        f"Kolmogorov–Smirnov distance between training ({sizes[0]:,} galaxies for the first answer) and "
        f"validation ({sizes[1]:,}) labels, and its p-value (scipy.stats.ks_2samp, asymptotic) before and "
        "after Holm's correction, which holds however the answers depend on each other. Fractions are tied, "
        "many at exactly 0; that makes the test conservative."
    )
    return Table("figure-06-tests", header, rows, caption, numbers)


def _test_cells(test: Difference | None) -> list[str]:
    if test is None:
        return ["–", "–", "–"]
    return [decimal(test.distance, 3), _p(test.p_value), _p(test.corrected)]


def _test_numbers(test: Difference | None) -> dict[str, Any] | None:
    return None if test is None else {**vars(test), "galaxies": list(test.galaxies)}


def downsizing(lab: Lab) -> Section:
    """Return figure 7 and section 4: a stamp beside its original, and what the images take."""
    title = "4 · Smaller images: figure 7"
    spec = next((network.recipe.stamps for network in lab.there(*NETWORKS).values()), None)
    if spec is None:
        return Section(
            "figure-7", title, [Missing("No network is trained: it says which stamps.", "train one")]
        )
    rows = np.flatnonzero(lab.sky.labelled)
    wanted = np.flatnonzero(lab.sky.ids == paper.EXAMPLE)
    row = int(wanted[0]) if len(wanted) else int(rows[0])
    found = _cutouts(lab, [row], side=10_000)
    blocks: list[Block] = [_sizes(lab, spec.size)]
    if isinstance(found, Missing):
        return Section("figure-7", title, [found, *blocks])
    stamp = np.asarray(prepare(lab.data, spec).pixels[row])
    galaxy_id = lab.sky.ids[row]
    which = (
        "the report's own example" if len(wanted) else f"the report's, {paper.EXAMPLE}, is not in these data"
    )
    caption = (
        f"Figure 7. Galaxy {galaxy_id} ({which}): its image, and the stamp of {spec.size} × {spec.size} "
        f"pixels made of the central {spec.crop} × {spec.crop} (dashed). The shape survives; what lies at "
        "the edge, often empty sky, is gone, and so is detail finer than "
        f"{decimal(spec.crop / spec.size, 1)} pixels of the image."
    )
    drawing = cutout_beside_stamp(found[0], stamp, galaxy_id=galaxy_id, crop=spec.crop)
    return Section("figure-7", title, [Picture("figure-07", drawing, caption, dpi=IMAGE_DPI), *blocks])


def _sizes(lab: Lab, size: int) -> Table:
    table = lab.sky.table.filter(lab.sky.labelled)
    decoded, _ = image_bytes(table)
    _, files = image_bytes(lab.sky.table)
    each, stamp = decoded / len(table), 3 * size**2
    rows = [
        ["one image, decoded", f"{each / 1e3:,.1f} kB", f"{paper.KILOBYTES} kB"],
        ["one stamp", f"{stamp / 1e3:,.1f} kB", f"{paper.STAMP_KILOBYTES} kB"],
        [f"the {len(table):,} labelled images, decoded", f"{decoded / 1e9:,.2f} GB", f"{paper.GIGABYTES} GB"],
        [
            f"their stamps ({len(table):,})",
            f"{len(table) * stamp / 1e9:,.3f} GB",
            f"{paper.STAMPS_GIGABYTES} GB",
        ],
        [f"all {len(lab.sky.ids):,} images as files", f"{files / 1e9:,.3f} GB", "–"],
    ]
    caption = (
        f"Sizes before and after. The report's set has {paper.IMAGES:,} images. Stamps are "
        f"{each / stamp:.0f} times smaller than decoded images; as JPEG files the images are "
        f"{decoded / len(table) / max(files / len(lab.sky.ids), 1):.0f} times smaller than decoded, and are "
        "read straight from their archives: nothing is unpacked."
    )
    numbers = {"image": each, "stamp": stamp, "images": decoded, "stamps": len(table) * stamp, "files": files}
    return Table("section-4-sizes", ["", "here", "report"], rows, caption, numbers)


def _cutouts(lab: Lab, rows: Sequence[int] | NDArray, **settings: int) -> list[NDArray[np.uint8]] | Missing:
    try:
        return cutouts(lab.sky, rows, **settings)
    except ImageError as error:
        return Missing(f"No galaxies are shown: {error}", f"hubblefork ingest … --out {lab.data}")


def _means(votes: NDArray) -> NDArray:
    known = ~np.isnan(votes)
    return np.where(known, votes, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def _pair(lab: Lab, place: Any) -> str:
    return listed([f"“{_text(lab, int(column))}”" for column in place])


def _text(lab: Lab, column: int) -> str:
    return lab.tree.answers[column].text


def _of(number: int, noun: str, many: str = "have", one: str = "has") -> str:
    if not number:
        return f"No {noun} {one}"
    return f"{number} {noun if number == 1 else noun + 's'} {one if number == 1 else many}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
