"""A network that learns from galaxies without votes: labelled by another, moved to what is known of them.

python benchmarks/self_training.py KAGGLE OUT [--teacher fork] [--recipe fork] [--weights FILE] [--set k=v]

One or more teachers, with 16 views and averaged, label the images of `images_unlabelled.zip` and the answers
that `solutions_partial.csv` leaves open. `weak_labels.csv` holds inequalities that the true fractions
obey. The labels are moved to where these, the tree's sums and the known answers hold, by projections one
after the other. Then a recipe is trained on all of them, from the weights it begins with or from a file.
Validation and test galaxies have their volunteers' votes, as always.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

import hubblefork as hf
from hubblefork.data.labels import read_labels
from hubblefork.data.split import Split
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.tables.catalogue import fractions, galaxy_ids, read_catalogue, rows_of
from hubblefork.zoo import DecisionTree, load_tree, to_conditional, to_joint

ROUNDS = 400
LARGEST = ("1.1", "1.2", "1.3", "6.1", "6.2")
CLASSES = {
    "7.1": {"7.1": 0.5},
    "7.2": {"7.2": 0.5},
    "7.3": {"7.3": 0.5},
    "2.1": {"2.1": 0.602},
    "4.1": {"4.1": 0.619, "2.2": 0.715, "1.2": 0.43},
}
FIRST = {"1.2>=0.9": ("1.2", 0.9), "1.1>=0.8": ("1.1", 0.8)}

Halfspace = tuple[NDArray[np.bool_], NDArray[np.float64], float]
"""Of which galaxies a · x ≤ c holds: those galaxies, a (answer,), and c."""


def halfspaces(tree: DecisionTree, known: pa.Table) -> list[Halfspace]:
    """Return the inequalities of weak labels (galaxy,), one for each kind."""
    column = {name.removeprefix("Class"): n for n, name in enumerate(tree.source_columns)}
    largest, clean, first = (
        np.array(known.column(name).to_pylist(), object)
        for name in ("largest_of_five", "clean_class", "first_question")
    )

    def half(which: NDArray[np.bool_], factors: dict[str, float], bound: float = 0.0) -> Halfspace:
        normal = np.zeros(len(tree.columns))
        for answer, factor in factors.items():
            normal[column[answer]] = factor
        return which, normal, bound

    above = [(clean == name, answer, least) for name, of in CLASSES.items() for answer, least in of.items()]
    above += [(first == name, answer, least) for name, (answer, least) in FIRST.items()]
    below = [(clean != name, name, of[name]) for name, of in CLASSES.items() if len(of) == 1]
    return [
        *(half(largest == most, {other: 1, most: -1}) for most, other in permutations(LARGEST, 2)),
        *(half(which, {answer: -1}, -least) for which, answer, least in above),
        *(half(which, {answer: 1}, most) for which, answer, most in below),
    ]


def projected(
    tree: DecisionTree, joint: NDArray, halves: list[Halfspace], known: NDArray
) -> NDArray[np.float64]:
    """Return joint fractions near those given that obey the inequalities and the tree; known ones stay."""
    sums, right = np.zeros((len(tree.questions), len(tree.columns))), np.zeros(len(tree.questions))
    for number, (answers, parents) in enumerate(zip(tree.slices, tree.parents, strict=True)):
        sums[number, answers] = 1
        sums[number, list(parents)] -= 1
        right[number] = not parents
    back, values = np.linalg.pinv(sums), joint.copy()
    for _ in range(ROUNDS):
        for which, normal, bound in halves:
            excess = np.where(which, np.maximum(values @ normal - bound, 0), 0) / (normal @ normal)
            values -= excess[:, None] * normal
        values -= (values @ sums.T - right) @ back.T
        values = np.maximum(values, 0)
        values = np.where(np.isnan(known), values, known)
    broken = np.mean([np.max(np.where(w, values @ n - c, 0), initial=0) for w, n, c in halves])
    print(f"{len(values)} galaxies; the inequalities are kept to {broken:.1e} on average")
    return to_joint(tree, to_conditional(tree, np.clip(values, 0, 1)))


def pseudo_labels(
    kaggle: Path, images: str, votes: str, out: Path, tree: DecisionTree, teachers: Sequence[str]
) -> Path:
    """Write labels of an archive's galaxies: `votes`, where there are some, else predicted and projected."""
    path = out / f"{Path(images).stem}.csv"
    if path.exists():
        return path
    made = [out / f"{Path(images).stem}-{number}.parquet" for number in range(len(teachers))]
    for teacher, predicted in zip(teachers, made, strict=True):
        hf.predict(teacher, kaggle / images, views=16, out=predicted)
    tables = [read_catalogue(predicted) for predicted in made]
    wanted = galaxy_ids(tables[0])
    rows = [rows_of(wanted, galaxy_ids(table)) for table in tables]
    joint = np.mean([fractions(t.take(r), tree) for t, r in zip(tables, rows, strict=True)], axis=0)
    ids = wanted.tolist()
    known = np.full(joint.shape, np.nan)
    if votes:
        labels = read_labels([kaggle / votes], tree)
        known = labels.joint[[labels.row_of[str(galaxy_id)] for galaxy_id in ids]]
        conditional = to_conditional(tree, known)
        filled = np.where(np.isnan(conditional), to_conditional(tree, joint), conditional)
        joint = np.where(np.isnan(known), to_joint(tree, np.nan_to_num(filled)), known)
    texts = dict.fromkeys(("largest_of_five", "clean_class", "first_question"), pa.string())
    options = pa.csv.ConvertOptions(column_types=texts)
    weak = pa.csv.read_csv(kaggle / "weak_labels.csv", convert_options=options)
    place = {galaxy_id: row for row, galaxy_id in enumerate(weak.column("GalaxyID").to_pylist())}
    rows = weak.take([place[galaxy_id] for galaxy_id in ids])
    values = projected(tree, joint, halfspaces(tree, rows), known)
    columns = dict(zip(tree.source_columns, values.T, strict=True))
    pa.csv.write_csv(pa.table({"GalaxyID": ids, **columns}), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kaggle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--teacher", action="append", help="a network, as `predict` takes it: fork")
    parser.add_argument("--recipe", default="fork")
    parser.add_argument("--weights", type=Path, help="a file of weights to begin with")
    parser.add_argument("--set", action="append", default=[], help="a setting of the recipe: key=value")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    tree, kaggle, data = load_tree(), asked.kaggle, asked.out / "data"
    teachers = asked.teacher or ["fork"]
    if not (data / "catalogue.parquet").exists():
        labels = [kaggle / "training_solutions_rev1.zip"]
        for images, votes in (("images_partial.zip", "solutions_partial.zip"), ("images_unlabelled.zip", "")):
            labels.append(pseudo_labels(kaggle, images, votes, asked.out, tree, teachers))
        unselected = frozenset((kaggle / "unselected_ids.txt").read_text().split())
        archives = ("images_training_rev1.zip", "images_partial.zip", "images_unlabelled.zip")
        split = Split("kaggle-split-1", 30, 15, judge_on=unselected)
        hf.ingest([kaggle / name for name in archives], data, labels=labels, split=split)
    recipe = load_recipe(asked.recipe, asked.set)
    train(data, recipe, asked.out / f"{recipe.name}-{recipe.seed}", weights=asked.weights, device="cpu")


if __name__ == "__main__":
    main()
