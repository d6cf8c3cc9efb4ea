"""Heads: joint fractions out of scores, one for each answer (37 of Galaxy Zoo 2).

Each maps scores of shape (galaxy, answer) to joint fractions of the same shape, in the order
of `tree.columns`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from hubblefork.errors import RecipeError
from hubblefork.zoo import DecisionTree


class SigmoidHead(nn.Module):
    """Independent sigmoids: nothing makes the fractions obey the tree (both seeds' default)."""

    def forward(self, scores: Tensor) -> Tensor:
        """Return sigmoids of the scores."""
        return torch.sigmoid(scores)


class LabHead(nn.Module):
    """The lab report's re-weighting (its section 5.4.2 and table 4), kept as published.

    Sigmoids, divided by their sum within each question, times the *normalised* value of the one
    answer that gates the question: one level, not the product down the path, so children do not
    sum to their parent's joint fraction. The division is done as a softmax of log-sigmoids, which
    is the same quotient and never 0/0.
    """

    def __init__(self, tree: DecisionTree) -> None:
        super().__init__()
        self.slices = tree.slices
        self.gates = [gate for gate, q in zip(tree.gates, tree.questions, strict=True) for _ in q.answers]

    def forward(self, scores: Tensor) -> Tensor:
        """Return the re-weighted fractions of the scores."""
        shares = _within_questions(logsigmoid(scores.float()), self.slices)
        ones = torch.ones_like(shares[:, 0])
        return shares * torch.stack([ones if gate is None else shares[:, gate] for gate in self.gates], dim=1)


class TreeHead(nn.Module):
    """Conditional fractions by a softmax within each question, multiplied down the whole path.

    A question's only answer has a sigmoid: a softmax against a "no" whose score is 0.

    The constraints of the tree hold by construction (the 2014 winner's output layer, Dieleman et
    al. 2015, section 4.4, generalised to any tree, with a softmax where that has a normalised ReLU).
    """

    def __init__(self, tree: DecisionTree) -> None:
        super().__init__()
        self.slices, self.parents, self.order = tree.slices, tree.parents, tree.asking_order

    def forward(self, scores: Tensor) -> Tensor:
        """Return the joint fractions of the scores."""
        return self.down(_within_questions(scores.float(), self.slices))

    def down(self, shares: Tensor) -> Tensor:
        """Return the joint fractions of conditional ones, both (galaxy, answer)."""
        joint: dict[int, Tensor] = {}
        for number in self.order:
            answers = range(*self.slices[number].indices(shares.shape[1]))
            asked = sum((joint[parent] for parent in self.parents[number]), start=torch.zeros(()))
            for answer in answers:
                joint[answer] = shares[:, answer] * asked if self.parents[number] else shares[:, answer]
        return torch.stack([joint[answer] for answer in range(shares.shape[1])], dim=1)


class DielemanHead(nn.Module):
    """The 2014 winner's own way: a ReLU, divided by its sum within each question, multiplied down the path.

    An answer can get exactly zero, which a softmax never gives (Dieleman et al. 2015, section 4.4). A
    question whose scores are all negative gets zeros, and no gradient; so that no question begins
    there, nothing is divided in the first 625 steps of training, as in the winner's program.
    """

    steps: Tensor

    def __init__(self, tree: DecisionTree, *, undivided: int = 625) -> None:
        super().__init__()
        self.tree_head, self.undivided = TreeHead(tree), undivided
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, scores: Tensor) -> Tensor:
        """Return the joint fractions of the scores."""
        positive = torch.relu(scores.float())
        shares = torch.cat(
            [part / (part.sum(dim=1, keepdim=True) + 1e-12) for part in self._questions(positive)], dim=1
        )
        joint = self.tree_head.down(torch.where(self.steps < self.undivided, positive, shares))
        if self.training:
            self.steps += 1
        return joint

    def _questions(self, scores: Tensor) -> list[Tensor]:
        return [scores[:, answers] for answers in self.tree_head.slices]


def build_head(name: str, tree: DecisionTree) -> nn.Module:
    """Return the head of that name: "sigmoid", "lab", "tree" or "dieleman".

    Raises RecipeError for "lab" and "dieleman" where a question has one answer: they divide it by itself.
    """
    alone = [question.name for question in tree.questions if len(question.answers) == 1]
    if alone and name in ("lab", "dieleman"):
        raise RecipeError(
            f'head = "{name}" divides answers by their sum, but {", ".join(alone)} of {tree.name} stand '
            "alone: --set head=sigmoid or head=tree"
        )
    heads = {
        "sigmoid": lambda tree: SigmoidHead(),
        "lab": LabHead,
        "tree": TreeHead,
        "dieleman": DielemanHead,
    }
    return heads[name](tree)


def _within_questions(scores: Tensor, slices: tuple[slice, ...]) -> Tensor:
    parts = [scores[:, answers] for answers in slices]
    return torch.cat(
        [torch.softmax(part, dim=1) if part.shape[1] > 1 else torch.sigmoid(part) for part in parts], dim=1
    )
