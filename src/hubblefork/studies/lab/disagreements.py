"""Where the report is at odds with itself, its data or arithmetic, and what is done about it here."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from hubblefork.network.heads import LabHead
from hubblefork.report.blocks import Block, Paragraph, Section, Table, decimal
from hubblefork.stats.metrics import constraint_terms
from hubblefork.studies.lab import paper
from hubblefork.studies.lab.inputs import Lab
from hubblefork.studies.lab.training import at
from hubblefork.studies.lab.trainings import NETWORKS
from hubblefork.zoo import DecisionTree

EPSILON = 1e-12
VANISHED = -120.0
WORDS = (
    "Table 1. It words answers otherwise than Willett et al. (2013, table 2): “lose” arms are loose arms, "
    "question 1 asks whether the galaxy is simply smooth and rounded. Table 4 runs “disturbed irregular” "
    "and “merger dust lane” together, five names for seven answers, and calls the winding of the arms their "
    "spacing. Here the words are Willett's; the columns are the same."
)
SCALE = (
    "“42.4 arcseconds per pixel”. A Galaxy Zoo 2 image has 424 pixels of 0.02 × petroR90 each, the radius "
    "that holds 90% of a galaxy's light (Willett et al. 2013): the scale follows the galaxy. An image spans "
    "8.48 petroR90; at 42.4 arcseconds per pixel it would span five degrees, ten times the full moon."
)
SMALLER = (
    "Smaller ones. Only the first convolution has 896 parameters, the second has 18,496, as table 2 says. "
    "Batch normalisation gives zero mean and unit variance, not values between −1 and 1. ResNet-50 has "
    f"{paper.parameters('lab-resnet50') / paper.parameters('lab-cnn'):.0f} times the parameters of the "
    "custom CNN, not 20. Galaxy Zoo 2 reaches a redshift of 0.25 (Willett et al. 2013), not 0. Training is "
    "watched by the validation RMSE here, by the validation accuracy in the report: --set "
    "monitor=validation_agreement is its way."
)


def disagreements(lab: Lab) -> Section:
    """Return the points, one paragraph or table each."""
    blocks: list[Block] = [
        _losses(),
        Paragraph(_best(lab)),
        Paragraph(WORDS),
        Paragraph(SCALE),
        Paragraph(_sums(lab)),
        Paragraph(_division(lab.tree)),
        Paragraph(SMALLER),
    ]
    return Section("at-odds", "Where the report is at odds with itself or the data", blocks)


def _losses() -> Table:
    rows, numbers = [], {}
    for name, row in paper.TABLE_6.items():
        stated = paper.ABSTRACT_LOSSES[name]
        which = "validation" if stated == row.validation_loss else "training"
        if stated == row.validation_loss == row.training_loss:
            which = "both"
        rows.append(
            [paper.NAMES[name], f"{stated:g}", f"{row.training_loss:g}", f"{row.validation_loss:g}", which]
        )
        numbers[name] = {"abstract": stated, **vars(row)}
    caption = (
        "The abstract's validation losses. For the two ResNets they are table 6's training losses; their "
        f"validation losses are RMSEs of {math.sqrt(0.011):.3f} and {math.sqrt(0.013):.3f}, not 0.082 and "
        "0.096, and the conclusion's “0.08 to 0.1” rests on the same slip."
    )
    header = ["", "abstract", "table 6, training", "table 6, validation", "the abstract's is"]
    return Table("abstract-losses", header, rows, caption, numbers)


def _best(lab: Lab) -> str:
    text = (
        "Which network is best? Section 5.5 calls the custom CNN the best of the three, then ResNet50 "
        "better by 8%; section 6.3 takes the custom CNN for its “lowest validation loss”. By table 6 "
        "ResNet50 has the lowest (0.011), the custom CNN 0.012, the optimised ResNet50 0.013."
    )
    networks = lab.there(*NETWORKS)
    if len(networks) < 2:
        return text
    ours = {
        name: math.sqrt(at(network, network.best_epoch).validation_loss) for name, network in networks.items()
    }
    order = sorted(ours, key=ours.__getitem__)
    return (
        f"{text} Here the order by validation RMSE is "
        + ", ".join(f"{name} ({decimal(ours[name])})" for name in order)
        + "."
    )


def _sums(lab: Lab) -> str:
    full = lab.sky.votes[~np.isnan(lab.sky.votes).any(axis=1)]
    labels = constraint_terms(lab.tree, full).numerator.max() if len(full) else math.nan
    text = (
        "The re-weighting of section 5.4.2. Kaggle's labels are products along the whole path, so that the "
        f"answers of a question sum to its reach: in the {len(full):,} fully labelled galaxies to within "
        f"{labels:.6f}. The report multiplies once, by the parent's normalised output, not by its joint "
        "fraction: from the third question of a path on, children sum to more than their parent."
    )
    example = _example(lab.tree)
    return (
        f"{text} With even odds on every question the spiral arms' number would sum to "
        f"{decimal(example['lab'], 3)}, while “spiral” itself has {decimal(example['tree'], 3)}. The head "
        "“tree” multiplies down the path; “lab” is the report's, kept by that name. The next chapter "
        "compares them."
    )


def _example(tree: DecisionTree) -> dict[str, float]:
    """Return what the answers of the last question sum to under the `lab` head, and what they should."""
    scores = torch.zeros(1, len(tree.columns))
    joint = LabHead(tree)(scores)[0].numpy()
    last = tree.slices[-1]
    return {"lab": float(joint[last].sum()), "tree": _reach_at_even_odds(tree, len(tree.questions) - 1)}


def _reach_at_even_odds(tree: DecisionTree, question: int) -> float:
    parents = tree.parents[question]
    if not parents:
        return 1.0
    shares = [
        _reach_at_even_odds(tree, tree.question_of[p]) / len(tree.questions[tree.question_of[p]].answers)
        for p in parents
    ]
    return float(sum(shares))


def _division(tree: DecisionTree) -> str:
    scores = np.zeros((1, len(tree.columns)), np.float32)
    scores[:, tree.slices[0]] = VANISHED
    published = np.count_nonzero(np.isnan(published_reweighting(tree, scores)))
    ours = np.count_nonzero(~np.isfinite(LabHead(tree)(torch.from_numpy(scores)).numpy()))
    return (
        "Its division by zero. The factor of the questions asked of everybody is written as an output "
        "divided by itself; when the sigmoids of question 1 underflow it is 0/0. With its three scores at "
        f"{decimal(VANISHED, 0)} the published formula, in single precision, gives {published} values of "
        f"{len(tree.columns)} that are no numbers; from about {decimal(math.log(EPSILON), 0)} on its ε = "
        "10⁻¹² keeps them from summing to 1. The head “lab” takes the same quotient as a softmax of "
        f"log-sigmoids, and gives {ours or 'none'}."
    )


def published_reweighting(tree: DecisionTree, scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the report's re-weighting as it is printed, in single precision; shapes (galaxy, answer).

    Only for showing where it fails: a network's head is `network.heads.LabHead`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = (1 / (1 + np.exp(-scores.astype(np.float32)))).astype(np.float32)
        sums = np.stack([outputs[:, answers].sum(axis=1) for answers in tree.slices], axis=1)
        shares = outputs / (sums[:, list(tree.question_of)] + np.float32(EPSILON))
        one = shares[:, 1] / shares[:, 1]
    gates = [tree.gates[question] for question in tree.question_of]
    factors = np.stack([one if gate is None else shares[:, gate] for gate in gates], axis=1)
    return (shares * factors).astype(np.float32)
