"""Labels that are vote counts: learned, predicted with concentrations, judged."""

import numpy as np
import pytest
from tests.network.conftest import QUICK, write_data_folder

from hubblefork.api.judging import evaluate
from hubblefork.api.predictions import predict
from hubblefork.errors import CatalogueError, RecipeError
from hubblefork.network.export import write_network
from hubblefork.network.recipe import load_recipe
from hubblefork.network.training import train
from hubblefork.stats.conformal import concentrations_of
from hubblefork.tables.catalogue import (
    fractions,
    read_catalogue,
    votes_of,
    with_fractions,
    with_votes,
    write_catalogue,
)
from hubblefork.zoo import to_conditional, violations
from hubblefork.zoo.votes import answering, votes_of_volunteers

VOTES = ["head=dirichlet", "loss=votes"]


@pytest.fixture(scope="module")
def counted(tree, tmp_path_factory):
    """The small data folder, as 5 to 30 volunteers see it."""
    data = write_data_folder(tmp_path_factory.mktemp("counts") / "data", tree)
    table = read_catalogue(data / "catalogue.parquet")
    shares = np.nan_to_num(to_conditional(tree, fractions(table, tree)), nan=0.5)
    rng = np.random.default_rng(8)
    volunteers = np.tile(rng.integers(5, 31, (len(table), 1)), (1, len(tree.questions)))
    votes = votes_of_volunteers(tree, answering(tree, shares), volunteers, rng)
    table = with_votes(with_fractions(table, votes.joint(tree), tree), votes, tree)
    write_catalogue(table, data / "catalogue.parquet")
    return data


@pytest.fixture(scope="module")
def run(counted, tmp_path_factory):
    recipe = load_recipe("lab-cnn", [*QUICK, *VOTES, "epochs=20", "batch_size=8", "learning_rate=0.002"])
    return train(counted, recipe, tmp_path_factory.mktemp("counts") / "run", device="cpu")


def test_counts_are_kept_beside_the_fractions_they_give(counted, tree):
    table = read_catalogue(counted / "catalogue.parquet")
    votes = votes_of(table, tree)
    np.testing.assert_allclose(fractions(table, tree), votes.joint(tree))
    assert (table["smooth_count"].to_numpy() == votes.given[:, 0]).all()
    assert (table["odd_total_votes"].to_numpy() == votes.asked[:, 5]).all()
    assert votes_of(table.select(["galaxy_id", *tree.columns]), tree) is None
    with pytest.raises(CatalogueError, match="1 of the columns of vote counts are missing: smooth_count"):
        votes_of(table.drop_columns(["smooth_count"]), tree)


def test_a_network_of_counts_learns_fractions_and_how_sure_it_is(run, counted, tree):
    judged = evaluate(run, device="cpu")
    assert judged["rmse"]["value"] < judged["baselines"]["mean_vote"]["rmse"]["value"]
    smooth = fractions(read_catalogue(counted / "catalogue.parquet"), tree)[:, 0]
    assert judged["answers"]["smooth"]["rmse"]["value"] < 0.7 * np.nanstd(smooth)
    assert judged["well_voted"]["labels"] > 50
    assert 0 < judged["well_voted"]["rmse"]["value"] < 0.3
    stated = {coverage["stated"]: coverage["found"]["value"] for coverage in judged["posterior"]["coverages"]}
    assert stated[0.9] == pytest.approx(0.9, abs=0.08)
    assert stated[0.68] < stated[0.9] < stated[0.95]
    predicted = read_catalogue(run / "predictions" / "test.parquet")
    concentration = concentrations_of(predicted, tree)
    assert ((concentration >= 1) & (concentration <= 1000)).all()
    assert violations(tree, fractions(predicted, tree)) == []


def test_its_catalogue_has_concentrations_and_credible_intervals_without_pytorch(
    run, counted, tree, tmp_path
):
    write_network(run)
    images = [counted / "images.zip"]
    table = predict(run, images, views=2, interval=0.8, out=tmp_path / "out.parquet", runtime="onnxruntime")
    by_torch = predict(run, images, views=2, runtime="torch")
    for name in ("smooth", "bar_concentration"):
        np.testing.assert_allclose(table[name], by_torch[name], rtol=5e-3)
    assert (table["smooth_low"] < table["smooth"]).all()
    assert (table["smooth"] < table["smooth_high"]).all()
    assert table.meta["intervals"].startswith("credible: of the fraction itself")


def test_fractions_alone_have_no_votes_to_learn_from(data, tmp_path):
    recipe = load_recipe("lab-cnn", [*QUICK, *VOTES])
    with pytest.raises(CatalogueError, match="the catalogue has fractions only: ingest a table with counts"):
        train(data, recipe, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["loss=votes"], "loss = votes, but head = sigmoid; tree and dirichlet give vote probabilities"),
        (["head=dirichlet"], "head = dirichlet, but loss = rmse teaches no concentrations"),
    ],
)
def test_a_loss_and_a_head_that_do_not_go_together_are_refused(settings, said):
    with pytest.raises(RecipeError, match=said):
        load_recipe("lab-cnn", settings)
