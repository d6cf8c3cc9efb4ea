"""What volunteers were asked: the decision tree and the algebra of its vote fractions."""

from hubblefork.zoo.tree import (
    Answer,
    DecisionTree,
    Number,
    Question,
    classes,
    load_tree,
    number_column,
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
    "Number",
    "Question",
    "Violation",
    "VoteCounts",
    "classes",
    "excesses",
    "load_tree",
    "number_column",
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
