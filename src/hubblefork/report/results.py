"""Sections on how well the run predicts: headline, per answer, per question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hubblefork.data.folders import evaluate_command
from hubblefork.data.split import TRAIN, VALIDATION, Split
from hubblefork.report.blocks import (
    Block,
    Missing,
    Paragraph,
    Picture,
    Section,
    Table,
    bounds,
    counted,
    decimal,
    share,
)
from hubblefork.report.figures.answers import predicted_against_volunteers, rmse_per_answer
from hubblefork.report.inputs import Galaxies, Inputs, Sky
from hubblefork.stats.baselines import centre_colours, kaggle_central_pixel, mean_vote
from hubblefork.stats.metrics import rmse_per_answer as errors_per_answer
from hubblefork.zoo import DecisionTree

BASELINES = {
    "mean_vote": "mean vote",
    "central_pixel": "central pixel (k-means)",
    "kaggle_central_pixel": "central pixel (Kaggle)",
    "all_zeros": "all zeros",
    "all_ones": "all ones",
}
FLATTERS = (
    "These are validation galaxies: the epoch and the learning rate were chosen by them, so every number "
    "here flatters. "
)


def headline(inputs: Inputs) -> Section:
    """Return the numbers that one reads first: RMSE and agreement against every baseline."""
    found = inputs.evaluation
    blocks: list[Block] = []
    if not inputs.notes.get("finished"):
        blocks.append(
            Paragraph("This run has not finished: its numbers are those of the moment.", warning=True)
        )
    if isinstance(found, Missing):
        blocks.append(found)
    else:
        blocks += [Paragraph(_verdict(found)), *_warnings(inputs, found), _baseline_table(found)]
    return Section("headline", "What came out", blocks)


def _verdict(found: Mapping[str, Any]) -> str:
    rmse, agreement, part = found["rmse"], found["agreement"], found["part"]
    text = (
        f"On {counted(found['galaxies'], f'{part} galaxy', f'{part} galaxies')} the RMSE of "
        f"the {counted(len(found['answers']), 'joint fraction')}{_of_views(found)} is "
        f"{decimal(rmse['value'])} (95% interval {bounds(rmse['interval_95'])})"
    )
    if agreement:
        text += (
            ", and the network's highest answer is the volunteers' highest for "
            f"{share(agreement['value'])} of the {counted(agreement['galaxies'], 'galaxy', 'galaxies')} "
            "with all labels"
        )
    return f"{text}. {_against(found)}"


def _of_views(found: Mapping[str, Any]) -> str:
    views = found.get("views", 1)
    return f", means over {views} views of each galaxy," if views > 1 else ""


def _against(found: Mapping[str, Any]) -> str:
    if not found["baselines"]:
        return "No baseline could be fitted."
    name = min(found["baselines"], key=lambda known: found["baselines"][known]["rmse"]["value"])
    best, rmse = found["baselines"][name], found["rmse"]["value"]
    other, difference = best["rmse"]["value"], best["behind"]["interval_95"]
    relation = "below" if rmse < other else "above"
    sure = "includes" if difference[0] <= 0 <= difference[1] else "excludes"
    return (
        f"That is {share(abs(1 - rmse / other))} {relation} the best baseline "
        f"({BASELINES.get(name, name)}, {decimal(other)}); the 95% interval of the difference {sure} "
        "zero."
    )


def _warnings(inputs: Inputs, found: Mapping[str, Any]) -> list[Block]:
    texts = []
    if found["part"] == VALIDATION:
        tested = not isinstance(inputs.split, Missing) and inputs.split.test
        texts.append(
            FLATTERS
            + (
                f"The test part says more: {evaluate_command(inputs.run)} --part test."
                if tested
                else "A split with a test part would say more: hubblefork split DATA --test 20."
            )
        )
    if found["not_predicted"]:
        number = counted(found["not_predicted"], "labelled galaxy", "labelled galaxies")
        texts.append(f"Not judged, since they have no prediction: {number} of this part.")
    return [Paragraph(text, warning=True) for text in texts]


def _baseline_table(found: Mapping[str, Any]) -> Table:
    rows = [["network", *_measured(found), "", ""]]
    for name, baseline in sorted(found["baselines"].items(), key=lambda item: item[1]["rmse"]["value"]):
        behind = baseline["behind"]
        difference = [decimal(behind["difference"]), bounds(behind["interval_95"])]
        rows.append([BASELINES.get(name, name), *_measured(baseline), *difference])
    caption = (
        "RMSE over all joint fractions (smaller is better) and agreement on the highest answer, with "
        f"95% intervals of {found['resamples']:,} bootstrap samples of the galaxies. “Behind” is how "
        "much larger a baseline's RMSE is than the network's on the same draws. Baselines are fitted "
        "to the "
        f"{counted(found['training_galaxies'], 'labelled training galaxy', 'labelled training galaxies')}."
    )
    header = ["", "RMSE", "95% interval", "agreement", "95% interval", "behind", "95% interval"]
    kept = ("part", "galaxies", "rmse", "agreement", "baselines", "constraint_violation")
    return Table("baselines", header, rows, caption, {key: found[key] for key in kept})


def _measured(found: Mapping[str, Any]) -> list[str]:
    rmse, agreement = found["rmse"], found["agreement"]
    cells = [decimal(rmse["value"]), bounds(rmse["interval_95"])]
    if not agreement:
        return [*cells, "–", "–"]
    low, high = agreement["interval_95"]
    return [*cells, share(agreement["value"]), f"{share(low)} to {share(high)}"]


def scatter(inputs: Inputs) -> Section:
    """Return the 37 panels of predicted against volunteers' fractions."""
    title = "Predicted against volunteers' fractions"
    judged = inputs.judged
    if isinstance(judged, Missing):
        return Section("scatter", title, [judged])
    drawing = predicted_against_volunteers(inputs.tree, judged.predicted, judged.volunteers)
    caption = _scatter_caption(inputs, judged, drawing[1]["answers"])
    return Section("scatter", title, [Picture("predicted-against-volunteers", drawing, caption)])


def _scatter_caption(inputs: Inputs, judged: Galaxies, answers: Mapping[str, Any]) -> str:
    r = {name: found["r"] for name, found in answers.items() if found["r"] is not None}
    text = (
        f"{counted(len(judged.ids), 'galaxy', 'galaxies')} of the {inputs.part} part, answer by answer; "
        "on the grey diagonal both agree, and darker cells hold more galaxies. "
    )
    if not r:
        return text + "No correlation could be computed."
    best, worst = max(r, key=r.__getitem__), min(r, key=r.__getitem__)
    return text + (
        f"Pearson's r is highest for “{said(inputs.tree, best)}” ({decimal(r[best], 2)}) and lowest for "
        f"“{said(inputs.tree, worst)}” ({decimal(r[worst], 2)}); its median over the answers is "
        f"{decimal(float(np.median(list(r.values()))), 2)}."
    )


def errors(inputs: Inputs) -> Section:
    """Return the RMSE of every answer as bars with the baselines."""
    title = "Error by answer"
    if isinstance(inputs.evaluation, Missing):
        return Section("errors", title, [inputs.evaluation])
    found = [entry["rmse"] for entry in inputs.evaluation["answers"].values()]
    values = _values(found, lambda entry: entry["value"])
    low, high = (_values(found, lambda entry, side=side: entry["interval_95"][side]) for side in (0, 1))
    baselines = _errors_of_baselines(inputs)
    drawing = rmse_per_answer(inputs.tree, values, baselines=baselines, low=low, high=high)
    caption = _errors_caption(inputs.tree, values, baselines)
    return Section("errors", title, [Picture("rmse-per-answer", drawing, caption)])


def _values(found: Sequence[Mapping[str, Any] | None], value: Any) -> NDArray[np.float64]:
    return np.array([np.nan if entry is None else value(entry) for entry in found])


def _errors_of_baselines(inputs: Inputs) -> dict[str, NDArray]:
    judged, sky, split = inputs.judged, inputs.sky, inputs.split
    if isinstance(judged, Missing) or isinstance(sky, Missing) or isinstance(split, Missing):
        return {}
    votes, known = judged.volunteers, ~np.isnan(judged.volunteers)
    return {
        BASELINES[name]: errors_per_answer(values, votes)
        for name, values in _fitted(sky, training_rows(sky, split), judged).items()
        if not np.isnan(values[known]).any()
    }


def _fitted(sky: Sky, train: NDArray, judged: Galaxies) -> dict[str, NDArray]:
    """Return the predictions of the baselines that the training galaxies allow."""
    if not len(train):
        return {}
    found = {"mean_vote": mean_vote(sky.votes[train], len(judged.ids))}
    colours = centre_colours(sky.table)
    if colours is not None:
        sides = colours[train], sky.votes[train], colours[judged.rows]
        found["kaggle_central_pixel"] = kaggle_central_pixel(*sides)
    return found


def training_rows(sky: Sky, split: Split) -> NDArray[np.intp]:
    """Return the rows of the labelled training galaxies."""
    return np.flatnonzero(sky.labelled & (split.assign(sky.ids.tolist()) == TRAIN))


def _errors_caption(tree: DecisionTree, values: NDArray, baselines: Mapping[str, NDArray]) -> str:
    known = np.flatnonzero(~np.isnan(values))
    largest, smallest = known[np.argmax(values[known])], known[np.argmin(values[known])]
    texts = [
        "Bars are the network's RMSE, with 95% bootstrap intervals: largest for "
        f"“{tree.answers[largest].text}” ({decimal(values[largest], 3)}), smallest for "
        f"“{tree.answers[smallest].text}” ({decimal(values[smallest], 3)}); rare answers have small "
        "errors because their fractions are small."
    ]
    for name, other in baselines.items():
        better = int(np.count_nonzero(values[known] < other[known]))
        texts.append(f"The network is below the {name} for {better} of {counted(len(known), 'answer')}.")
    return " ".join(texts)


def questions(inputs: Inputs) -> Section:
    """Return the table of RMSE and agreement within each question."""
    found = inputs.evaluation
    if isinstance(found, Missing):
        return Section("questions", "Question by question", [found])
    rows = [
        [f"{question.task} {question.text}".strip(), *_question_cells(found["questions"][question.name])]
        for question in inputs.tree.questions
    ]
    header = ["", "RMSE", "95% interval", "agreement", "95% interval", "galaxies"]
    table = Table("questions", header, rows, _questions_caption(inputs.tree, found), found["questions"])
    return Section("questions", "Question by question", [table])


def _question_cells(entry: Mapping[str, Any]) -> list[str]:
    rmse, agreement = entry["rmse"], entry["agreement"]
    cells = [decimal(rmse["value"]), bounds(rmse["interval_95"])] if rmse else ["–", "–"]
    if not agreement:
        return [*cells, "–", "–", "0"]
    low, high = agreement["interval_95"]
    return [*cells, share(agreement["value"]), f"{share(low)} to {share(high)}", f"{agreement['galaxies']:,}"]


def _questions_caption(tree: DecisionTree, found: Mapping[str, Any]) -> str:
    shares = {
        question.text: found["questions"][question.name]["agreement"]["value"]
        for question in tree.questions
        if found["questions"][question.name]["agreement"]
    }
    text = (
        "RMSE of a question's joint fractions, and agreement on its highest answer among the galaxies "
        f"that reach it with a probability of at least {found['asked_at_least']:g} by the volunteers. "
    )
    if not shares:
        return text
    best, worst = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return text + (
        f"Agreement is highest ({share(shares[best])}) on “{best}” and lowest ({share(shares[worst])}) "
        f"on “{worst}”."
    )


def said(tree: DecisionTree, answer: str) -> str:
    """Return an answer as volunteers read it."""
    return tree.answers[tree.column(answer)].text
