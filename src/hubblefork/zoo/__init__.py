"""What volunteers were asked: the decision tree and the algebra of its vote fractions."""

from hubblefork.zoo.tree import Answer, DecisionTree, Question, load_tree, tree_names
from hubblefork.zoo.votes import Violation, reach, to_conditional, to_joint, violations

__all__ = [
    "Answer",
    "DecisionTree",
    "Question",
    "Violation",
    "load_tree",
    "reach",
    "to_conditional",
    "to_joint",
    "tree_names",
    "violations",
]
