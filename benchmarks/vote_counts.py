"""What vote counts are worth: losses compared where galaxies have few votes, and where they have many.

python benchmarks/vote_counts.py KAGGLE OUT [--seeds 3] [--epochs 6]

The labels of training and validation galaxies are votes that are drawn from the published fractions, by 3 to
10 volunteers a galaxy or by 40, who walk the tree. The same network learns them by each loss. Judged is the
RMSE to the published fractions of the test galaxies. A run that is there is not trained again.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from hubblefork.data.ingest import ingest
from hubblefork.data.split import Split, write_split
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.prediction.runs import predict_part
from hubblefork.stats.metrics import rmse
from hubblefork.tables.catalogue import (
    fractions,
    galaxy_ids,
    matched,
    read_catalogue,
    with_fractions,
    with_votes,
    write_catalogue,
)
from hubblefork.zoo import load_tree, to_conditional
from hubblefork.zoo.tree import write_tree
from hubblefork.zoo.votes import answering, votes_of_volunteers

VOLUNTEERS = {"3-10": (3, 11), "40": (40, 41)}
LOSSES = {
    "rmse": ["head=tree", "loss=rmse"],
    "multinomial": ["head=tree", "loss=votes"],
    "dirichlet": ["head=dirichlet", "loss=votes"],
}

SETTINGS = ("stamp_size=96", "input_size=64", "patience=99", "fit_offsets=false")


def data_of(published: Path, volunteers: str, out: Path) -> Path:
    """Write a data folder whose labels are votes drawn from those published; return it."""
    if (out / "catalogue.parquet").exists():
        return out
    tree, table = load_tree(), read_catalogue(published / "catalogue.parquet")
    joint = fractions(table, tree)
    whole = ~np.isnan(joint).any(axis=1)
    table, joint = table.filter(whole), joint[whole]
    rng = np.random.default_rng(1)
    asked = rng.integers(*VOLUNTEERS[volunteers], (len(table), 1))
    shares = np.nan_to_num(to_conditional(tree, joint), nan=0.5)
    everyone = np.tile(asked, (1, len(tree.questions)))
    votes = votes_of_volunteers(tree, answering(tree, shares), everyone, rng)
    out.mkdir(parents=True, exist_ok=True)
    write_tree(tree, out)
    unselected = (published / "unselected_ids.txt").read_text().split()
    write_split(Split("kaggle-split-1", 30, 15, judge_on=frozenset(unselected)), out)
    table = with_votes(with_fractions(table, votes.joint(tree), tree), votes, tree)
    write_catalogue(table, out / "catalogue.parquet")
    return out


def main() -> None:
    """Train and judge what is not there; print the table and write `vote_counts.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kaggle", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    published, tree = asked.out / "published", load_tree()
    if not (published / "catalogue.parquet").exists():
        names = ("images_training_rev1.zip", "training_solutions_rev1.zip")
        ingest([asked.kaggle / name for name in names], published, tree=tree)
        (published / "unselected_ids.txt").write_text((asked.kaggle / "unselected_ids.txt").read_text())
    truth, found = read_catalogue(published / "catalogue.parquet"), dict[str, list[float]]()
    for volunteers in VOLUNTEERS:
        data = data_of(published, volunteers, asked.out / f"data-{volunteers}")
        for seed in range(asked.seeds):
            for loss, settings in LOSSES.items():
                run = asked.out / f"{volunteers}-{loss}-{seed}"
                recipe = load_recipe(
                    "fork",
                    [*SETTINGS, *settings, f"seed={seed}", f"epochs={asked.epochs}"],
                )
                train(data, recipe, run, device="cpu")
                predicted, votes = matched(read_catalogue(predict_part(run, "test", device="cpu")), truth)
                value = rmse(fractions(predicted, tree), fractions(votes, tree))
                found.setdefault(f"{volunteers} {loss}", []).append(value)
                print(volunteers, loss, seed, len(galaxy_ids(predicted)), f"{value:.4f}", flush=True)
                (asked.out / "vote_counts.json").write_text(json.dumps(found, indent=1))
    for name, values in found.items():
        print(f"{name:20s} {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")


if __name__ == "__main__":
    main()
