"""Sections on what was trained on what, and how the training went."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

from hubblefork.data.split import TRAIN, VALIDATION, Split
from hubblefork.io import duration
from hubblefork.report.blocks import (
    Block,
    Facts,
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
from hubblefork.report.figures.curves import learning_curves
from hubblefork.report.figures.sheets import image_sheet
from hubblefork.report.inputs import Inputs
from hubblefork.report.results import training_rows
from hubblefork.stats.baselines import mean_vote
from hubblefork.stats.metrics import rmse

SHOWN = 12


def trained_on(inputs: Inputs) -> Section:
    """Return the data, the split, the rejects, the recipe in full, and where and how long it ran."""
    blocks: list[Block] = [Facts({**_data_facts(inputs), **_run_facts(inputs.notes, inputs.metrics)})]
    blocks += [lost for lost in (inputs.sky, inputs.split) if isinstance(lost, Missing)]
    blocks += [_rejects(inputs), _sheet(inputs)]
    if isinstance(inputs.recipe, Missing):
        blocks.append(inputs.recipe)
    else:
        blocks.append(Paragraph("The recipe in full, as recipe.toml in the run folder holds it:"))
        blocks.append(Listing(tomli_w.dumps(inputs.recipe).strip()))
    return Section("training", "What was trained on what", blocks)


def _data_facts(inputs: Inputs) -> dict[str, str]:
    facts = {"Data": str(inputs.notes.get("data", "–"))}
    if not isinstance(inputs.sky, Missing):
        sources = Counter(inputs.sky.table.column("source").to_pylist())
        facts["Images"] = listed([f"{number:,} from {source}" for source, number in sources.items()])
        labelled = int(inputs.sky.labelled.sum())
        facts["Labels"] = f"{labelled:,} of {counted(len(inputs.sky.ids), 'galaxy', 'galaxies')} have some"
    if not isinstance(inputs.split, Missing):
        facts["Split"] = _split_text(inputs.split)
    parts = inputs.notes.get("galaxies", {})
    if parts:
        facts["Labelled galaxies"] = ", ".join(f"{part} {number:,}" for part, number in parts.items())
    return facts


def _split_text(split: Split) -> str:
    rest = 100 - split.test - split.validation
    text = (
        f"{split.test}% test, {split.validation}% validation, {rest}% train, "
        f'by sha256("{split.salt}:galaxy_id") modulo 100'
    )
    if split.fold is not None:
        text += (
            f"; of these, fold {split.fold.number} of {split.fold.folds} (sha256, salt "
            f'"{split.fold.salt}") is test instead, and what was test is left out'
        )
    if split.judge_on is None:
        return text
    return (
        f"{text}; only the {len(split.judge_on):,} galaxies of judge_on.txt are judged on, all others train"
    )


def _run_facts(notes: dict[str, Any], rows: list[dict[str, float]] | Missing) -> dict[str, str]:
    device, parameters = notes.get("device", {}), notes.get("parameters", {})
    facts = {"Recipe": f"{notes.get('recipe', '–')}, seed {notes.get('seed', '–')}"}
    if start := notes.get("start"):
        facts["Started from"] = start
    if parameters:
        facts["Parameters"] = (
            f"{parameters['learned']:,} are learned; {parameters['keras']:,} in Keras's way of counting, "
            "which adds the running statistics of batch normalisation"
        )
    if device:
        threads = counted(device["threads"], "thread")
        facts["Device"] = f"{device['kind']}, precision {device['precision']}, {threads}"
    if not isinstance(rows, Missing):
        speed = np.median([row["galaxies_per_second"] for row in rows])
        facts["Time"] = (
            f"{duration(sum(row['seconds'] for row in rows))} for {counted(len(rows), 'epoch')}; "
            f"{speed:,.0f} galaxies a second (median of the epochs)"
        )
    versions = notes.get("versions", {})
    return facts | {"Versions": ", ".join(f"{name} {version}" for name, version in versions.items()) or "–"}


def _rejects(inputs: Inputs) -> Block:
    if isinstance(inputs.rejects, Missing):
        return inputs.rejects
    if not inputs.rejects:
        return Paragraph("Nothing was refused when the data were ingested: rejects.csv has no rows.")
    reasons = Counter(reject.reason for reject in inputs.rejects).most_common()
    caption = (
        f"{counted(len(inputs.rejects), 'image or label row', 'images and label rows')} were refused "
        f"when the data were ingested, most of them ({reasons[0][1]:,}) for: {reasons[0][0]}. "
        "rejects.csv names each."
    )
    rows = [[reason, f"{number:,}"] for reason, number in reasons]
    return Table("rejects", ["reason", "refused"], rows, caption, dict(reasons))


def _sheet(inputs: Inputs) -> Block:
    if isinstance(inputs.stamps, Missing):
        return inputs.stamps
    if isinstance(inputs.sky, Missing) or isinstance(inputs.split, Missing):
        return Missing("No galaxies are shown: the catalogue or the split is missing.", "see above")
    rows = training_rows(inputs.sky, inputs.split)[:SHOWN]
    if not len(rows):
        return Missing("No galaxies are shown: none of the training part has labels.", "hubblefork ingest …")
    size = inputs.stamps.shape[1]
    caption = (
        f"The first {counted(len(rows), 'training galaxy', 'training galaxies')} of the catalogue as "
        f"stamps of {size} × {size} pixels, before any augmentation, each with its galaxy_id."
    )
    drawing = image_sheet(np.asarray(inputs.stamps[rows]), inputs.sky.ids[rows].tolist())
    return Picture("training-galaxies", drawing, caption)


def curves(inputs: Inputs) -> Section:
    """Return the learning curves."""
    title = "How the training went"
    rows = inputs.metrics
    if isinstance(rows, Missing):
        return Section("curves", title, [rows])
    baseline = _mean_vote_of_validation(inputs)
    best = inputs.notes.get("best_epoch", _best_epoch(rows, inputs.recipe))
    drawing = learning_curves(rows, best_epoch=best, mean_vote=baseline)
    blocks: list[Block] = [
        Picture("learning-curves", drawing, _curves_caption(rows, drawing[1], best, baseline))
    ]
    if centred_on := inputs.notes.get("centred_on"):
        after = inputs.notes.get("centred_rmse")
        then = f", the validation RMSE after it is {decimal(after)}" if after else ""
        blocks.append(
            Paragraph(
                "After the last epoch the offsets of the last layer were fitted once more, to the "
                f"{counted(centred_on, 'training galaxy', 'training galaxies')} that judge_on.txt lists, "
                f"since others may have been selected by their votes. The curves are from before{then}."
            )
        )
    return Section("curves", title, blocks)


def _best_epoch(rows: list[dict[str, float]], recipe: dict[str, Any] | Missing) -> int:
    watch = (
        "validation_rmse"
        if isinstance(recipe, Missing)
        else recipe.get("monitor", recipe.get("watch", "validation_rmse"))
    )
    sign = -1 if watch.endswith("agreement") else 1
    return int(min(rows, key=lambda row: sign * row[watch])["epoch"])


def _mean_vote_of_validation(inputs: Inputs) -> float | None:
    if isinstance(inputs.sky, Missing) or isinstance(inputs.split, Missing):
        return None
    parts = inputs.split.assign(inputs.sky.ids.tolist())
    train, judged = (inputs.sky.votes[inputs.sky.labelled & (parts == part)] for part in (TRAIN, VALIDATION))
    if not len(train) or not len(judged):
        return None
    guess = mean_vote(train, len(judged))
    return None if _has_gaps(guess, judged) else rmse(guess, judged)


def _has_gaps(guess: NDArray, votes: NDArray) -> bool:
    return bool(np.isnan(guess[~np.isnan(votes)]).any())


def _curves_caption(
    rows: list[dict[str, float]], numbers: dict[str, Any], best: int, baseline: float | None
) -> str:
    chosen = next((row for row in rows if row["epoch"] == best), rows[-1])
    first = rows[0]["epoch"]
    texts = [
        f"The weights kept are those of epoch {best} of {counted(len(rows), 'epoch')} (counted from "
        f"{first:.0f}): validation RMSE {decimal(chosen['validation_rmse'])}, training RMSE "
        f"{decimal(chosen['train_rmse'])}."
    ]
    if baseline is not None:
        beaten = [row["epoch"] for row in rows if row["validation_rmse"] < baseline]
        when = f"was beaten first in epoch {beaten[0]:.0f}" if beaten else "was never beaten"
        texts.append(f"The mean vote has {decimal(baseline)} on the validation galaxies and {when}.")
    drops = numbers["learning_rate_drops"]
    if drops and not numbers["drops_are_marked"]:
        texts.append(f"The learning rate changed in {len(drops)} of the epochs, as its schedule has it.")
    elif drops:
        texts.append(
            f"The learning rate was lowered {counted(len(drops), 'time')}, at the grey lines, which carry "
            "the new rate."
        )
    else:
        texts.append("The learning rate was never lowered.")
    texts.append("Training values are taken on the batches as they are learned, with dropout on.")
    return " ".join(texts)
