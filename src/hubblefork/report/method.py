"""Sections on the question asked of volunteers, how to make the run again, and whose work it rests on."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from hubblefork.report.blocks import Block, Listing, Missing, Paragraph, Picture, Section, share
from hubblefork.report.figures.trees import decision_tree
from hubblefork.report.inputs import Galaxies, Inputs

SOURCES = (
    "Willett et al. 2013, “Galaxy Zoo 2: detailed morphological classifications for 304 122 galaxies "
    "from the Sloan Digital Sky Survey”, MNRAS 435, 2835, doi:10.1093/mnras/stt1458: the decision tree "
    "and the votes.",
    "Lintott et al. 2008, “Galaxy Zoo: morphologies derived from visual inspection of galaxies from "
    "the Sloan Digital Sky Survey”, MNRAS 389, 1179, doi:10.1111/j.1365-2966.2008.13689.x: the project.",
    "Dieleman, Willett & Dambre 2015, “Rotation-invariant convolutional neural networks for galaxy "
    "morphology prediction”, MNRAS 450, 1441, doi:10.1093/mnras/stv632: the network that won the "
    "challenge.",
    "Kaggle 2014, “Galaxy Zoo – The Galaxy Challenge”: the joint fractions, their files and the RMSE.",
)


def asked(inputs: Inputs) -> Section:
    """Return the decision tree as a diagram."""
    judged = inputs.judged
    shares = None if isinstance(judged, Missing) else _means(judged)
    drawing = decision_tree(inputs.tree, shares=shares)
    count = f"{len(inputs.tree.questions)} questions with {len(inputs.tree.columns)} answers"
    caption = (
        f"The decision tree {inputs.tree.name}: {count}, from top to bottom. An answer without a line "
        "ends the classification; dark frames mark questions counted for every galaxy."
    )
    if shares is not None:
        highest = int(np.nanargmax(shares))
        caption += (
            f" Below each answer stands its mean joint fraction by the volunteers in the {inputs.part} "
            f"part; the highest is “{inputs.tree.answers[highest].text}” with "
            f"{share(float(shares[highest]))}."
        )
    return Section("tree", "What volunteers were asked", [Picture("decision-tree", drawing, caption)])


def _means(galaxies: Galaxies) -> NDArray:
    known = ~np.isnan(galaxies.volunteers)
    sums, counts = np.where(known, galaxies.volunteers, 0).sum(axis=0), known.sum(axis=0)
    return np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)


def again(inputs: Inputs) -> Section:
    """Return the commands that make the run and this page again."""
    blocks: list[Block] = [
        Paragraph("With the versions above; the recipe of this run, seed included, lies in its folder."),
        Listing("\n".join(_commands(inputs))),
    ]
    return Section("again", "How to make it again", blocks)


def _commands(inputs: Inputs) -> list[str]:
    data, run, split = inputs.notes.get("data", "data"), str(inputs.run), inputs.split
    new, recipe = f"{run}-again", str(inputs.run / "recipe.toml")
    sources = [] if isinstance(inputs.sky, Missing) else _once(inputs.sky.table.column("source").to_pylist())
    commands = [["hubblefork", "ingest", *(sources or ["IMAGES"]), "--labels", "LABELS", "--out", data]]
    if not isinstance(split, Missing):
        parts = ["--salt", split.salt, "--test", str(split.test), "--validation", str(split.validation)]
        listed = [] if split.judge_on is None else ["--judge-on", str(inputs.run / "judge_on.txt")]
        commands.append(["hubblefork", "split", data, *parts, *listed])
    commands.append(["hubblefork", "train", data, "--recipe", recipe, "--out", new])
    views = _views(inputs.judged)
    given = views if inputs.extra is None else _views(inputs.extra)
    each = [views] if given == views else [given, views]  # the last one evaluated is the one reported
    commands += [["hubblefork", "evaluate", new, "--part", inputs.part, *one] for one in each]
    if inputs.extra is not None:
        commands.append(["hubblefork", "predict", new, "IMAGES", "--out", "predictions.parquet", *given])
    extra = [] if inputs.extra is None else ["--predictions", "predictions.parquet"]
    commands.append(["hubblefork", "report", new, *extra])
    return [shlex.join(command) for command in commands]


def _views(galaxies: Galaxies | Missing) -> list[str]:
    if isinstance(galaxies, Missing) or galaxies.views == 1:
        return []
    return ["--views", str(galaxies.views)]


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def sources(inputs: Inputs) -> Section:
    """Return the works that data, tree and measure come from."""
    return Section("sources", "Sources", [Paragraph(text) for text in SOURCES])
