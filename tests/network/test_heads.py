"""Heads and the loss: fractions obey the tree; missing labels are ignored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributed

from hubblefork.errors import RecipeError
from hubblefork.network.heads import (
    build_head,
    masked_rmse,
    rmse_over_processes,
    squared_error,
    vote_loss,
)
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import VoteFractionsModule
from hubblefork.zoo import (
    Answer,
    DecisionTree,
    Number,
    Question,
    number_column,
    plain_columns,
    to_joint,
    violations,
)

LAB_SLICES = [
    (0, 3),
    (3, 5),
    (5, 7),
    (7, 9),
    (9, 13),
    (13, 15),
    (15, 18),
    (18, 25),
    (25, 28),
    (28, 31),
    (31, 37),
]
LAB_RESCALE = {
    (3, 5): 1,
    (5, 7): 4,
    (7, 9): 4,
    (9, 13): 4,
    (15, 18): 0,
    (18, 25): 13,
    (25, 28): 3,
    (28, 31): 7,
    (31, 37): 7,
}


def scores(rows=200, spread=3.0):
    return torch.randn(rows, 37, generator=torch.Generator().manual_seed(1)) * spread


def lab_as_published(outputs):
    """Table 4 of the lab report, in numpy, from sigmoid outputs."""
    shares = np.empty_like(outputs)
    for start, end in LAB_SLICES:
        shares[:, start:end] = outputs[:, start:end] / outputs[:, start:end].sum(axis=1, keepdims=True)
    weighted = shares.copy()
    for (start, end), parent in LAB_RESCALE.items():
        weighted[:, start:end] *= shares[:, [parent]]
    return weighted


def test_sigmoid_head_is_a_sigmoid(tree):
    given = scores()
    np.testing.assert_allclose(
        build_head("sigmoid", tree)(given), 1 / (1 + np.exp(-given.numpy())), rtol=1e-5
    )


def test_lab_head_is_the_lab_reports(tree):
    given = scores().double()
    expected = lab_as_published(torch.sigmoid(given).numpy())
    np.testing.assert_allclose(build_head("lab", tree)(given.float()).numpy(), expected, atol=1e-6)


def test_lab_head_breaks_the_tree_where_the_path_is_long(tree):
    broken = {v.constraint for v in violations(tree, build_head("lab", tree)(scores()).double().numpy())}
    assert "sum of bar = not_edge_on" in broken
    assert "sum of smooth_or_features = 1" not in broken


def test_lab_head_survives_outputs_that_vanish(tree):
    """All sigmoids of a question underflow to 0: the published division is 0/0, ours is not."""
    vanishing = torch.full((2, 37), -1000.0, requires_grad=True)
    assert torch.sigmoid(vanishing).sum() == 0
    joint = build_head("lab", tree)(vanishing)
    assert torch.isfinite(joint).all()
    joint.square().sum().backward()
    assert torch.isfinite(vanishing.grad).all()


@pytest.mark.parametrize("spread", [0.1, 3.0, 50.0])
def test_tree_head_obeys_every_constraint(tree, spread):
    assert violations(tree, build_head("tree", tree)(scores(spread=spread)).double().numpy(), 1e-5) == []


def test_tree_head_is_the_algebra_of_the_zoo(tree):
    given = scores().double().numpy()
    conditional = np.empty_like(given)
    for answers in tree.slices:
        powers = np.exp(given[:, answers])
        conditional[:, answers] = powers / powers.sum(axis=1, keepdims=True)
    joint = build_head("tree", tree)(torch.from_numpy(given))
    np.testing.assert_allclose(joint.numpy(), to_joint(tree, conditional), atol=1e-6)


def test_a_plain_column_has_a_sigmoid_also_below_another_answer(tree):
    ring = plain_columns(["polar_ring"]).questions[0]
    mixed = DecisionTree("mixed", (*tree.questions, ring))
    given = torch.cat([scores(), torch.linspace(-5, 5, len(scores())).unsqueeze(1)], dim=1)
    joint = build_head("tree", mixed)(given)
    assert torch.equal(joint[:, :37], build_head("tree", tree)(scores()))
    assert torch.equal(joint[:, 37:], torch.sigmoid(given[:, 37:]))
    hidden = DecisionTree("below", (replace(ring, answers=(replace(ring.answers[0], leads_to=("bar",)),)),
                                    replace(plain_columns(["bar"]).questions[0], root=False)))  # fmt: skip
    joint = build_head("tree", hidden)(given[:, :2])
    assert torch.allclose(joint[:, 1], torch.sigmoid(given[:, 0]) * torch.sigmoid(given[:, 1]))


@pytest.mark.parametrize("head", ["lab", "dieleman"])
def test_heads_that_divide_by_the_sum_take_no_plain_columns(head):
    with pytest.raises(RecipeError, match=r"ring of plain_columns stand alone: --set head=sigmoid"):
        build_head(head, plain_columns(["ring"]))


@pytest.mark.parametrize("head", ["sigmoid", "lab", "tree"])
def test_heads_give_single_precision_fractions_from_half_precision_scores(tree, head):
    joint = build_head(head, tree)(scores().bfloat16())
    assert (joint >= 0).all() and (joint <= 1).all()


def dieleman(tree, given, *, steps):
    head = build_head("dieleman", tree).eval()
    head.steps.fill_(steps)
    return head(given)


def test_dielemans_head_is_a_divided_relu_down_the_path(tree):
    given = scores().double().float()
    positive = np.maximum(given.numpy(), 0)
    conditional = np.concatenate(
        [positive[:, a:b] / (positive[:, a:b].sum(axis=1, keepdims=True) + 1e-12) for a, b in LAB_SLICES],
        axis=1,
    )
    alive = np.stack([positive[:, a:b].sum(axis=1) > 0 for a, b in LAB_SLICES], axis=1).all(axis=1)
    assert alive.sum() > 20
    found = dieleman(tree, given, steps=625).numpy()[alive]
    np.testing.assert_allclose(found, to_joint(tree, conditional[alive]), atol=1e-5)
    assert (found == 0).any()
    assert violations(tree, found.astype(float), 1e-5) == []


def test_dielemans_head_never_divides_by_zero(tree):
    found = dieleman(tree, -torch.ones(2, 37), steps=625)
    assert torch.equal(found, torch.zeros(2, 37))


def test_dielemans_head_divides_nothing_in_its_first_steps(tree):
    head, given = build_head("dieleman", tree), torch.full((1, 37), 0.5)
    first = [float(head(given)[0, 0]) for _ in range(625)]
    assert set(first) == {0.5}
    assert float(head(given)[0, 0]) == pytest.approx(1 / 3)
    assert int(head.eval().steps) == 626
    head(given)
    assert int(head.steps) == 626


def pair(rows=50):
    rng = np.random.default_rng(0)
    return rng.random((rows, 37), dtype=np.float32), rng.random((rows, 37), dtype=np.float32)


def test_without_missing_labels_it_is_the_root_mean_square():
    predicted, volunteers = pair()
    expected = np.sqrt(np.mean((predicted - volunteers) ** 2))
    assert masked_rmse(torch.from_numpy(predicted), torch.from_numpy(volunteers)).item() == pytest.approx(
        expected
    )


def test_missing_labels_count_neither_way():
    predicted, volunteers = pair()
    volunteers[:, 5:13] = np.nan
    expected = np.sqrt(np.nanmean((predicted - volunteers) ** 2))
    assert masked_rmse(torch.from_numpy(predicted), torch.from_numpy(volunteers)).item() == pytest.approx(
        expected
    )
    assert squared_error(torch.from_numpy(predicted), torch.from_numpy(volunteers))[1] == 50 * 29


def test_missing_labels_pull_no_gradient():
    predicted, volunteers = (torch.from_numpy(side) for side in pair())
    volunteers[:, :3] = torch.nan
    predicted.requires_grad_()
    masked_rmse(predicted, volunteers).backward()
    assert (predicted.grad[:, :3] == 0).all()
    assert (predicted.grad[:, 3:] != 0).all()


def test_a_perfect_prediction_has_a_finite_gradient():
    predicted = torch.rand(3, 37).requires_grad_()
    masked_rmse(predicted, predicted.detach().clone()).backward()
    assert torch.isfinite(predicted.grad).all()


def test_nothing_known_is_no_number():
    assert not torch.isfinite(masked_rmse(torch.rand(3, 37), torch.full((3, 37), torch.nan)))


@pytest.fixture
def alone():
    """A group of processes with one member."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_the_loss_over_processes_is_the_loss_and_so_is_its_gradient(alone):
    predicted = torch.rand(4, 37, generator=torch.Generator().manual_seed(3), requires_grad=True)
    volunteers = torch.rand(4, 37, generator=torch.Generator().manual_seed(4))
    volunteers[0, :5] = torch.nan
    (expected,) = torch.autograd.grad(masked_rmse(predicted, volunteers), predicted)
    found = rmse_over_processes(*squared_error(predicted, volunteers))
    assert float(found.detach()) == pytest.approx(float(masked_rmse(predicted, volunteers).detach()))
    torch.testing.assert_close(torch.autograd.grad(found, predicted)[0], expected)


# Vote counts

SHAPE = Question(
    "shape", "?", (Answer("disk", "", "0", ("arms", "extras")), Answer("smooth", "", "1")), root=True
)
ARMS = Question("arms", "?", (Answer("none", "", "2"), Answer("two", "", "3"), Answer("many", "", "4")))
EXTRAS = Question("extras", "?", (Answer("ring", "", "5"), Answer("dust", "", "6")), multiple=True)
BOXES = DecisionTree("sketch", (SHAPE, ARMS, EXTRAS))
GIVEN = np.array([[7, 3, 2, 4, 1, 6, 0], [0, 5, 0, 0, 0, 0, 0], [40, 2, 0, 38, 2, 40, 11]])
ASKED = np.array([[10, 7, 7], [5, 0, 0], [42, 40, 40]])
VOTES = torch.from_numpy(np.hstack([GIVEN, ASKED]))


def box_scores(dtype=torch.float64):
    return torch.randn(3, 10, generator=torch.Generator().manual_seed(2), dtype=dtype)


def by_scipy(shares, concentration):
    """The same sum, one question of one galaxy at a time."""
    total = 0.0
    for row in range(3):
        for number, answers in enumerate(BOXES.slices[:2]):
            n, k, p = ASKED[row, number], GIVEN[row, answers], shares[row, answers]
            if concentration is None:
                total -= stats.multinomial(n, p).logpmf(k)
            else:
                total -= stats.dirichlet_multinomial(p * concentration[row, number], n).logpmf(k)
        for k, p in zip(GIVEN[row, 5:], shares[row, 5:], strict=True):
            n = ASKED[row, 2]
            if concentration is None:
                total -= stats.binom(n, p).logpmf(k)
            else:
                kappa = concentration[row, 2]
                total -= stats.betabinom(n, p * kappa, (1 - p) * kappa).logpmf(k)
    return total / 3


@pytest.mark.parametrize("name", ["tree", "dirichlet"])
def test_the_vote_loss_is_scipys_probability(name):
    head, given = build_head(name, BOXES), box_scores()
    shares = head.shares(given).double()
    concentration = head.concentration(given).double() if name == "dirichlet" else None
    expected = by_scipy(shares.numpy(), None if concentration is None else concentration.numpy())
    assert vote_loss(shares, concentration, VOTES, BOXES).item() == pytest.approx(expected, rel=1e-6)


def test_the_gradient_of_the_vote_loss_is_that_of_finite_differences():
    head, given = build_head("dirichlet", BOXES), box_scores(torch.float32).requires_grad_()

    def loss(values):
        return vote_loss(head.shares(values), head.concentration(values), VOTES, BOXES)

    loss(given).backward()
    for row, column in ((0, 0), (0, 3), (1, 1), (2, 6), (0, 7), (2, 9)):
        step = torch.zeros_like(given)
        step[row, column] = 0.03
        with torch.no_grad():
            slope = (loss(given + step) - loss(given - step)) / 0.06
        assert given.grad[row, column].item() == pytest.approx(slope.item(), rel=0.02, abs=2e-4)


def test_a_question_that_nobody_answered_has_no_gradient():
    head, given = build_head("dirichlet", BOXES), box_scores(torch.float32).requires_grad_()
    vote_loss(head.shares(given), head.concentration(given), VOTES, BOXES).backward()
    assert (given.grad[1, [2, 3, 4, 5, 6, 8, 9]] == 0).all()
    assert (given.grad[1, [0, 1, 7]] != 0).all()


def test_the_dirichlet_head_gives_fractions_that_obey_the_tree_and_concentrations(tree):
    given = torch.randn(50, 48, generator=torch.Generator().manual_seed(1)) * 3
    values = build_head("dirichlet", tree)(given)
    assert values.shape == (50, 48)
    assert violations(tree, values[:, :37].numpy()) == []
    assert torch.equal(values[:, :37], build_head("tree", tree)(given[:, :37]))
    assert ((values[:, 37:] >= 1) & (values[:, 37:] <= 1000)).all()


def test_the_lab_head_refuses_a_question_with_independent_ways_in():
    later = DecisionTree("ways", (
        replace(SHAPE, answers=(Answer("disk", "", "0", ("arms", "merging")),
                                Answer("smooth", "", "1", ("round",)))),
        ARMS, Question("round", "", (Answer("yes", "", "7", ("merging",)), Answer("no", "", "8"))),
        Question("merging", "", (Answer("merger", "", "9"), Answer("alone", "", "10")))))  # fmt: skip
    with pytest.raises(RecipeError, match="several independent ways in: disk, yes: --set head=sigmoid"):
        build_head("lab", later)


def test_a_number_is_scaled_and_its_loss_is_not():
    tree = number_column("mass", Number(500.0, 20.0))
    head = build_head("tree", tree)
    assert head(torch.tensor([[0.0], [-2.0]])).tolist() == [[500.0], [460.0]]
    module = VoteFractionsModule(load_recipe("lab-cnn"), tree, steps=1).eval()
    views, labels = torch.rand(4, 3, 64, 64), torch.tensor([[480.0], [torch.nan], [510.0], [530.0]])
    with torch.no_grad():
        predicted = module.network(views)
        loss = module.training_step((views, labels), 0)
    known = [0, 2, 3]
    assert loss == pytest.approx(float((predicted - labels)[known].square().mean().sqrt()) / 20)
