"""The report's section 6: predicted labels, prototypes, and the merger fraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.split import VALIDATION
from hubblefork.errors import ImageError
from hubblefork.report.blocks import (
    Block,
    Listing,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    bounds,
    counted,
    decimal,
    listed,
)
from hubblefork.report.figures.answers import predicted_against_volunteers
from hubblefork.report.figures.mergers import fraction_against_threshold
from hubblefork.report.figures.prototypes import prototype_rows
from hubblefork.report.figures.sheets import image_sheet
from hubblefork.report.galaxies import COVERED, UNDERCOUNT
from hubblefork.report.inputs import Galaxies
from hubblefork.stats.estimators import LEVEL, MERGER, THRESHOLD, Count, binomial_interval, count_above
from hubblefork.stats.metrics import rmse
from hubblefork.stats.samples import prototypes
from hubblefork.studies.lab import paper
from hubblefork.studies.lab.inputs import Lab, Network, Unlabelled, cutouts, unlabelled_cutouts
from hubblefork.studies.lab.trainings import ALL, NETWORKS

EACH, NINE = 5, 9
IMAGE_DPI = 150
FIRST_SCATTER, FIRST_PROTOTYPES = 11, 14


def predicted(lab: Lab) -> Section:
    """Return figures 11 to 13: predicted against volunteers' fractions, 37 panels a network."""
    blocks: list[Block] = []
    for number, name in enumerate(NETWORKS, start=FIRST_SCATTER):
        network = lab.networks[name]
        blocks.append(network if isinstance(network, Missing) else _scatter(lab, number, network))
    return Section("section-6-1", "6.1 · Predicted labels: figures 11–13", blocks)


def _scatter(lab: Lab, number: int, network: Network) -> Picture:
    galaxies = network.judged[VALIDATION]
    drawing = predicted_against_volunteers(lab.tree, galaxies.predicted, galaxies.volunteers)
    r = {name: found["r"] for name, found in drawing[1]["answers"].items() if found["r"] is not None}
    caption = (
        f"Figure {number}. {network.name} against the volunteers on {len(galaxies.ids):,} validation "
        f"galaxies: RMSE {decimal(rmse(galaxies.predicted, galaxies.volunteers))}. "
    )
    if r:
        high, low = max(r, key=r.__getitem__), min(r, key=r.__getitem__)
        caption += (
            f"Pearson's r has a median of {decimal(float(np.median(list(r.values()))), 2)} over the labels, "
            f"from {decimal(r[low], 2)} (“{_text(lab, low)}”) to {decimal(r[high], 2)} "
            f"(“{_text(lab, high)}”). "
        )
    caption += (
        f"Predictions spread less than votes (standard deviation {_spread(galaxies.predicted)} against "
        f"{_spread(galaxies.volunteers)} about each label's mean): rare answers are drawn towards 0."
    )
    return Picture(f"figure-{number}", drawing, caption)


def _spread(values: NDArray) -> str:
    return decimal(
        float(np.sqrt(np.mean([np.var(c[~np.isnan(c)]) for c in values.T if (~np.isnan(c)).any()]))), 3
    )


def prototype_sheets(lab: Lab) -> Section:
    """Return figures 14 to 17: the five highest galaxies of seven answers, by volunteers and networks."""
    networks = lab.there(*NETWORKS)
    missing: list[Block] = [lab.networks[name] for name in NETWORKS if name not in networks]  # type: ignore[misc]
    title = "6.2 · Prototypes: figures 14–17"
    if not networks:
        return Section("section-6-2", title, missing)
    first = next(iter(networks.values())).judged[VALIDATION]
    sheets: list[Callable[[], Block]] = [partial(_by_volunteers, lab, first, networks)]
    sheets += [
        partial(_by_network, lab, FIRST_PROTOTYPES + 1 + NETWORKS.index(name), network)
        for name, network in networks.items()
    ]
    intro = Paragraph(
        f"The {EACH} validation galaxies with the largest fraction of seven answers. Under each image stand "
        "its galaxy_id, the fraction it was chosen by and, in brackets, the other side's."
    )
    return Section("section-6-2", title, [*missing, intro, *(_or_missing(lab, make) for make in sheets)])


def _or_missing(lab: Lab, make: Callable[[], Block]) -> Block:
    try:
        return make()
    except ImageError as error:
        return Missing(f"No galaxies are shown: {error}", f"hubblefork ingest … --out {lab.data}")


def _by_volunteers(lab: Lab, galaxies: Galaxies, networks: Mapping[str, Network]) -> Block:
    name = next(iter(networks))
    chosen = _chosen(lab, galaxies, galaxies.volunteers, galaxies.predicted)
    drawing = prototype_rows(lab.tree, chosen, by="volunteers", other=name)
    lowest = min(chosen, key=lambda answer: chosen[answer][0][1])
    caption = (
        f"Figure 14. Chosen by the volunteers' fractions. “{_text(lab, lowest)}” is the rarest of the "
        f"seven: even its first galaxy has only {decimal(chosen[lowest][0][1], 2)}."
    )
    return Picture("figure-14", drawing, caption, dpi=IMAGE_DPI)


def _by_network(lab: Lab, number: int, network: Network) -> Block:
    galaxies = network.judged[VALIDATION]
    chosen = _chosen(lab, galaxies, galaxies.predicted, galaxies.volunteers)
    drawing = prototype_rows(lab.tree, chosen, by=network.name, other="volunteers")
    shared, votes = {}, {}
    for answer, some in chosen.items():
        column = lab.tree.column(answer)
        theirs = prototypes(galaxies.volunteers, galaxies.ids, column, EACH)
        shared[answer] = len({one[0] for one in some} & set(galaxies.ids[theirs].tolist()))
        votes[answer] = float(np.nanmean([one[2] for one in some]))
    worst = min(votes, key=votes.__getitem__)
    caption = (
        f"Figure {number}. Chosen by {network.name}. Of the volunteers' five it has "
        f"{listed([f'{count} ({_text(lab, answer)})' for answer, count in shared.items()])}. Volunteers "
        f"give its five least to “{_text(lab, worst)}”, {decimal(votes[worst], 2)} on average: not every "
        "one shows what it is chosen for."
    )
    return Picture(f"figure-{number}", drawing, caption, dpi=IMAGE_DPI)


def _chosen(
    lab: Lab, galaxies: Galaxies, values: NDArray, others: NDArray
) -> dict[str, list[tuple[int | str, float, float, NDArray[np.uint8]]]]:
    """Return the highest galaxies of each answer: id, value, the other side's value, image."""
    found = {}
    for answer in paper.PROTOTYPES:
        column = lab.tree.column(answer)
        best = prototypes(values, galaxies.ids, column, EACH)
        pictures = cutouts(lab.sky, galaxies.rows[best])
        sides = values[best, column].tolist(), others[best, column].tolist()
        found[answer] = list(zip(galaxies.ids[best].tolist(), *sides, pictures, strict=True))
    return found


def mergers(lab: Lab) -> Section:
    """Return section 6.3, equation 4 and figure 18: the merger fraction of the test images."""
    title = "6.3 · The merger fraction: equation 4, figure 18"
    samples = _samples(lab)
    blocks: list[Block] = [lab.unlabelled] if isinstance(lab.unlabelled, Missing) else []
    if samples:
        blocks += [_equation(lab), _fractions(lab, samples), Paragraph(COVERED), Paragraph(UNDERCOUNT)]
        blocks += [_nine(lab), _thresholds(lab, samples)]
    return Section("section-6-3", title, blocks)


def _samples(lab: Lab) -> dict[str, NDArray]:
    """Return joint fractions by sample: the test images by each network, the judged part by both sides."""
    found: dict[str, NDArray] = {}
    if isinstance(lab.unlabelled, Unlabelled):
        for name, galaxies in lab.unlabelled.predicted.items():
            found[f"test images, {name}"] = galaxies.predicted
    networks = lab.there(*ALL)
    for name, network in networks.items():
        galaxies = network.judged[lab.judged_on]
        known = galaxies.chosen(~np.isnan(galaxies.volunteers[:, lab.tree.column(MERGER)]))
        if len(known.ids):
            found.setdefault(f"{lab.judged_on} part, volunteers", known.volunteers)
            found[f"{lab.judged_on} part, {name}"] = known.predicted
    return found


def _equation(lab: Lab) -> Block:
    low, high = binomial_interval(paper.MERGERS, paper.TEST_IMAGES)
    text = (
        f"(4)  report:  {paper.MERGERS:,} / {paper.TEST_IMAGES:,} ≈ {paper.MERGERS / paper.TEST_IMAGES:.4f}"
    )
    text += f"  (Wilson 95% interval {low:.4f} to {high:.4f})"
    if isinstance(lab.unlabelled, Unlabelled) and "lab-cnn" in lab.unlabelled.predicted:
        found = count_above(lab.tree, lab.unlabelled.predicted["lab-cnn"].predicted)
        text += f"\n     here:    {found.count:,} / {found.total:,} ≈ {found.value:.4f}"
        text += f"  (Wilson 95% interval {found.low:.4f} to {found.high:.4f})"
    return Listing(text)


def _fractions(lab: Lab, samples: Mapping[str, NDArray]) -> Table:
    found = {name: count_above(lab.tree, joint) for name, joint in samples.items()}
    rows = [
        [name, f"{one.count:,}", f"{one.total:,}", decimal(one.value), bounds((one.low, one.high))]
        for name, one in found.items()
    ]
    caption = (
        f"Galaxies whose joint fraction of “merger” is at least {THRESHOLD:g}, with {LEVEL:.0%} intervals. "
        + _undercount(lab, found)
    )
    numbers = {name: vars(one) for name, one in found.items()}
    return Table(
        "merger-fractions", ["sample", "mergers", "galaxies", "fraction", "interval"], rows, caption, numbers
    )


def _undercount(lab: Lab, found: Mapping[str, Count]) -> str:
    votes = found.get(f"{lab.judged_on} part, volunteers")
    networks = [
        one for name, one in found.items() if name.startswith(f"{lab.judged_on} part") and one is not votes
    ]
    if votes is None or not networks:
        return "No volunteers' count stands beside it."
    least, most = min(one.count for one in networks), max(one.count for one in networks)
    counts = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    return (
        f"On the {lab.judged_on} galaxies, where both are known, volunteers put {votes.count:,} of "
        f"{votes.total:,} there and the networks {counts}: the networks' fraction is not that of the sky."
    )


def _nine(lab: Lab) -> Block:
    if not isinstance(lab.unlabelled, Unlabelled) or not lab.unlabelled.predicted:
        return Missing("Figure 18 needs test images and a network.", "the same command with --test-images")
    name, galaxies = next(iter(lab.unlabelled.predicted.items()))
    column = lab.tree.column(MERGER)
    above = np.flatnonzero(galaxies.predicted[:, column] >= THRESHOLD)
    drawn = len(above) >= NINE
    if drawn:
        chosen = np.random.default_rng(paper.MERGERS).choice(above, NINE, replace=False)
    else:
        chosen = prototypes(galaxies.predicted, galaxies.ids, column, NINE)
    some = galaxies.chosen(chosen)
    try:
        pictures = unlabelled_cutouts(lab.unlabelled, lab.sky, some.ids.tolist())
    except ImageError as error:
        return Missing(f"Figure 18 cannot be shown: {error}", "the same command with --test-images")
    values = some.predicted[:, column]
    how = f"drawn at random of the {len(above):,}" if drawn else f"highest of all, as only {len(above)} are"
    caption = (
        f"Figure 18. {counted(len(some.ids), 'test image', 'test images')} {how} at or above {THRESHOLD:g} "
        f"for “merger” by {name}; below each its galaxy_id and fraction, {decimal(float(values.min()), 2)} "
        f"to {decimal(float(values.max()), 2)}. Galaxies close to each other on the sky need not be so in "
        "space: a picture alone does not prove a merger."
    )
    notes = [decimal(float(value), 2) for value in values]
    drawing = image_sheet(np.stack(pictures), some.ids.tolist(), notes=notes, columns=EACH)
    return Picture("figure-18", drawing, caption, dpi=IMAGE_DPI)


def _thresholds(lab: Lab, samples: Mapping[str, NDArray]) -> Block:
    wanted = ("test images, lab-cnn", f"{lab.judged_on} part, volunteers", f"{lab.judged_on} part, lab-cnn")
    shown = {name: samples[name] for name in wanted if name in samples} or dict(list(samples.items())[:3])
    drawing = fraction_against_threshold(lab.tree, shown)
    texts = [f"{_at_half(lab, joint)} ({name})" for name, joint in shown.items()]
    caption = (
        "Beyond the report: the fraction against the threshold. 0.3 is a choice, and the fraction follows "
        f"it: at 0.5 it is {listed(texts)}. Bands are {LEVEL:.0%} binomial intervals."
    )
    return Picture("merger-thresholds", drawing, caption)


def _at_half(lab: Lab, joint: NDArray) -> str:
    return decimal(count_above(lab.tree, joint, threshold=0.5).value, 4)


def _text(lab: Lab, answer: str) -> str:
    return lab.tree.answers[lab.tree.column(answer)].text
