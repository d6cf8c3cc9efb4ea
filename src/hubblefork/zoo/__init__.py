"""What volunteers were asked: the decision tree and the algebra of its vote fractions."""

from hubblefork.zoo.tree import (
    Answer,
    DecisionTree,
    Question,
    load_tree,
    parse_tree,
    plain_columns,
    read_tree,
    tree_names,
    tree_text,
    write_tree,
)
from hubblefork.zoo.votes import Violation, VoteCounts, excesses, reach, to_conditional, to_joint, violations

__all__ = [
    "Answer",
    "DecisionTree",
    "Question",
    "Violation",
    "VoteCounts",
    "excesses",
    "load_tree",
    "parse_tree",
    "plain_columns",
    "reach",
    "read_tree",
    "to_conditional",
    "to_joint",
    "tree_names",
    "tree_text",
    "violations",
    "write_tree",
]
