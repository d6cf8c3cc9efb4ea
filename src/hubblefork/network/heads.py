"""Heads turn scores into joint vote fractions; losses compare these with the volunteers'.

Scores and fractions have the shape (galaxy, answer), in the order of `tree.columns` (37 in Galaxy Zoo 2). A
missing label is NaN and is ignored. `DirichletHead` also gives a concentration of each question; they follow
the answers, (galaxy, answer + question), and so do the vote counts in labels (galaxy, fractions + counts of
answers + volunteers who answered each question).
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import logsigmoid

from hubblefork.errors import RecipeError, TreeError
from hubblefork.zoo import DecisionTree, Number

LEAST_SHARE, MOST_CONCENTRATED = 1e-6, 1000.0


def squared_error(predicted: Tensor, volunteers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of squared differences over the labels, and the number of labels."""
    labelled = ~torch.isnan(volunteers)
    difference = torch.where(labelled, predicted.float() - torch.nan_to_num(volunteers), 0.0)
    return difference.square().sum(), labelled.sum()


def masked_rmse(predicted: Tensor, volunteers: Tensor) -> Tensor:
    """Return the root mean squared error over the labels: Kaggle's measure, as a loss.

    The minimum under the root keeps the gradient finite where prediction and label are equal. Processes that
    share a batch all get the loss of the whole batch; the mean of their gradients is its gradient.
    """
    total, labels = squared_error(predicted, volunteers)
    if distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        return rmse_over_processes(total, labels)
    return (total / labels).clamp_min(1e-12).sqrt()


def rmse_over_processes(total: Tensor, labels: Tensor) -> Tensor:
    """Return the RMSE of a batch from the sum of squares and the number of labels of one process's part.

    The value is that of the whole batch. The gradient by a process's own sum is that of the whole batch times
    the number of processes, because their gradients are averaged afterwards.
    """
    whole = torch.stack([total.detach(), labels.to(total.dtype)])
    distributed.all_reduce(whole)
    rmse = (whole[0] / whole[1]).clamp_min(1e-12).sqrt()
    slope = distributed.get_world_size() / (2 * rmse * whole[1])
    return rmse + slope * (total - total.detach())


def vote_loss(shares: Tensor, concentration: Tensor | None, votes: Tensor, tree: DecisionTree) -> Tensor:
    """Return the negative logarithm of the probability of vote counts, the mean over galaxies.

    `shares` (galaxy, answer) are conditional fractions; `votes` (galaxy, answer + question) how often each
    answer was given and how many volunteers answered each question: none leave no trace. The counts of a
    question are Dirichlet-multinomial with parameters share × `concentration` (galaxy, question) (Walmsley et
    al. 2022, MNRAS 509, 3966, eq. 1), or multinomial without a concentration; each count of a question with
    several answers a volunteer is beta-binomial, or binomial.
    """
    given, asked = votes.float().split([len(tree.columns), len(tree.questions)], dim=1)
    total = torch.zeros(len(votes), device=votes.device)
    for number, (question, answers) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        k, p = given[:, answers], shares[:, answers].float().clamp(LEAST_SHARE, 1 - LEAST_SHARE)
        n = asked[:, number, None]
        if not question.exclusive:  # each answer beside "not this answer": pairs (answer, yes or no)
            k, p = torch.stack([k, n - k], dim=2), torch.stack([p, 1 - p], dim=2)
        each = (-1, *(1,) * (k.ndim - 1))
        n = n.reshape(each)
        possible = torch.lgamma(n + 1) - torch.lgamma(k + 1).sum(dim=-1, keepdim=True)
        if concentration is None:
            likely = (k * p.log()).sum(dim=-1, keepdim=True)
        else:
            whole = concentration[:, number].float().reshape(each)
            alpha = p * whole
            likely = torch.lgamma(whole) - torch.lgamma(n + whole)
            likely = likely + (torch.lgamma(k + alpha) - torch.lgamma(alpha)).sum(dim=-1, keepdim=True)
        total = total - (possible + likely).flatten(1).sum(dim=1)
    return total.mean()


class LabHead(nn.Module):
    """The lab report's re-weighting (its section 5.4.2 and table 4), kept as published.

    Sigmoids, divided by their sum within each question, times the *normalised* value of the one answer that
    leads to the question. This is one level, not the product down the path: the answers of a question do not
    sum to the joint fraction of their parent. A softmax of log-sigmoids is the same quotient and never 0/0.
    """

    def __init__(self, tree: DecisionTree) -> None:
        super().__init__()
        self.tree = tree
        self.gates = [gate for gate, q in zip(tree.gates, tree.questions, strict=True) for _ in q.answers]

    def forward(self, scores: Tensor) -> Tensor:
        """Return the re-weighted fractions of the scores."""
        shares = within_questions(logsigmoid(scores.float()), self.tree)
        ones = torch.ones_like(shares[:, 0])
        return shares * torch.stack([ones if gate is None else shares[:, gate] for gate in self.gates], dim=1)


class TreeHead(nn.Module):
    """Conditional fractions by a softmax within each question, multiplied down the whole path.

    The constraints of the tree hold by construction (Dieleman et al. 2015, section 4.4, for any tree, with a
    softmax instead of a normalised ReLU). Answers that are not exclusive have a sigmoid each.
    """

    def __init__(self, tree: DecisionTree) -> None:
        super().__init__()
        self.tree = tree

    def forward(self, scores: Tensor) -> Tensor:
        """Return the joint fractions of the scores."""
        return self.down(self.shares(scores))

    def shares(self, scores: Tensor) -> Tensor:
        """Return the conditional fractions of the scores, (galaxy, answer)."""
        return within_questions(scores.float(), self.tree)

    def down(self, shares: Tensor) -> Tensor:
        """Return the joint fractions of conditional ones, both (galaxy, answer)."""
        joint: dict[int, Tensor] = {}
        for number in self.tree.asking_order:
            answers = range(*self.tree.slices[number].indices(shares.shape[1]))
            parents = self.tree.parents[number]
            asked = sum((joint[parent] for parent in parents), start=torch.zeros(()))
            for answer in answers:
                joint[answer] = shares[:, answer] * asked if parents else shares[:, answer]
        return torch.stack([joint[answer] for answer in range(shares.shape[1])], dim=1)


class DirichletHead(TreeHead):
    """The same, and how sure the network is of each question: the concentration of a Dirichlet distribution.

    Scores and results have the shape (galaxy, answer + question). A conditional fraction is the mean of the
    posterior; share × concentration are its parameters. Concentrations lie between 1 and 1,000.
    """

    def forward(self, scores: Tensor) -> Tensor:
        """Return the joint fractions of the scores, and the concentrations."""
        return torch.cat([self.down(self.shares(scores)), self.concentration(scores)], dim=1)

    def concentration(self, scores: Tensor) -> Tensor:
        """Return the concentration of each question, (galaxy, question)."""
        return MOST_CONCENTRATED ** torch.sigmoid(scores[:, len(self.tree.columns) :].float())


class DielemanHead(nn.Module):
    """ReLUs, divided by their sum within each question, multiplied down the path (Dieleman et al. 2015, 4.4).

    An answer can get exactly zero. A question whose scores are all negative gets zeros and no gradient; to
    prevent this nothing is divided in the first 625 training steps, as in the 2014 winner's program.
    """

    steps: Tensor

    def __init__(self, tree: DecisionTree, *, undivided: int = 625) -> None:
        super().__init__()
        self.tree_head, self.undivided = TreeHead(tree), undivided
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, scores: Tensor) -> Tensor:
        """Return the joint fractions of the scores."""
        positive = torch.relu(scores.float())
        parts = [positive[:, answers] for answers in self.tree_head.tree.slices]
        shares = torch.cat([part / (part.sum(dim=1, keepdim=True) + 1e-12) for part in parts], dim=1)
        joint = self.tree_head.down(torch.where(self.steps < self.undivided, positive, shares))
        if self.training:
            self.steps += 1
        return joint


class NumberHead(nn.Module):
    """The score as a number in its unit: mean + width × score."""

    def __init__(self, number: Number) -> None:
        super().__init__()
        self.mean, self.width = number.mean, number.width

    def forward(self, scores: Tensor) -> Tensor:
        """Return the numbers of the scores, both (galaxy, 1)."""
        return self.mean + self.width * scores.float()


def build_head(name: str, tree: DecisionTree) -> nn.Module:
    """Return the head "sigmoid", "lab", "tree", "dirichlet" or "dieleman" for a tree; a number has its own.

    Fractions by independent sigmoids do not obey the tree. Raises RecipeError for "lab" and "dieleman" if a
    question has one answer or several may be given: they divide answers by their sum; for "lab" if a question
    has several independent ways in; for "dirichlet" and a number.
    """
    if tree.number and name == "dirichlet":
        raise RecipeError(f'head = "dirichlet" is for votes, but {tree.columns[0]} is a number: leave it out')
    if tree.number:
        return NumberHead(tree.number)
    alone = [question.name for question in tree.questions if not question.exclusive]
    if alone and name in ("lab", "dieleman"):
        raise RecipeError(
            f'head = "{name}" divides answers by their sum, but {", ".join(alone)} of {tree.name} stand '
            "alone: --set head=sigmoid or head=tree"
        )
    if name == "lab":
        try:
            return LabHead(tree)
        except TreeError as error:
            raise RecipeError(f'head = "lab": {error}: --set head=sigmoid or head=tree') from error
    if name == "sigmoid":
        return nn.Sigmoid()
    return {"tree": TreeHead, "dirichlet": DirichletHead, "dieleman": DielemanHead}[name](tree)


def within_questions(scores: Tensor, tree: DecisionTree) -> Tensor:
    """Return conditional fractions: a softmax of exclusive answers, sigmoids of others; (galaxy, answer)."""
    parts = [
        torch.softmax(scores[:, answers], dim=1) if question.exclusive else torch.sigmoid(scores[:, answers])
        for question, answers in zip(tree.questions, tree.slices, strict=True)
    ]
    return torch.cat(parts, dim=1)
