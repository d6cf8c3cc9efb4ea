"""Estimators side by side, the measurement of a catalogue, and where calibration galaxies come from."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import tomli_w

from hubblefork.data.folders import VIEWING, RunFolder, check_viewing, named_run
from hubblefork.data.judged import judged_in_catalogue, views_of
from hubblefork.data.split import Split, write_split
from hubblefork.errors import CatalogueError, RunError
from hubblefork.stats.detection import Calibration
from hubblefork.stats.estimators import Estimate, Sums, Unavailable
from hubblefork.stats.prevalence import estimate_all, fraction, quoted, sweep
from hubblefork.stats.query import Bins, parse_bins
from hubblefork.tables.catalogue import (
    Pieces,
    fractions,
    ids_among,
    with_fractions,
    with_metadata,
    write_catalogue,
)
from hubblefork.tables.shards import CatalogueFolder, shard_table
from hubblefork.zoo import to_joint

GALAXIES = 900
NO_CALIBRATION = Unavailable("no calibration galaxies: none were given", "give some")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def sky(tree, tmp_path_factory):
    """A data folder and a run over it whose predictions are votes, shrunken: folder, votes, predictions."""
    folder, rng = tmp_path_factory.mktemp("sky"), np.random.default_rng(1)
    votes = rng.random((GALAXIES, len(tree.columns)))
    votes[:, tree.column("merger")] = np.where(rng.random(GALAXIES) < 0.2, 0.6, 0.05)
    predicted = np.clip(0.6 * votes + rng.normal(0, 0.03, votes.shape), 0, 1)
    ids = np.arange(1000, 1000 + GALAXIES)
    table = pa.table({"galaxy_id": ids, "z": rng.uniform(0, 0.1, GALAXIES)})
    labels = votes.copy()
    labels[::10] = np.nan
    write_catalogue(with_fractions(table, labels, tree), folder / "data" / "catalogue.parquet")
    split, run = Split("sky", test=30, validation=30), folder / "run"
    write_split(split, run)
    (run / "run.toml").write_text(tomli_w.dumps({"data": str(folder / "data")}))
    parts = split.assign(ids.tolist())
    guesses = with_metadata(with_fractions(table, predicted, tree), {"run": str(run)})
    for part in ("validation", "test"):
        write_catalogue(guesses.filter(parts == part), run / "predictions" / f"{part}.parquet")
    return folder, guesses, labels, parts


def test_everything_is_there_or_said_to_be_missing(rng):
    truth = rng.random(500) < 0.2
    score = np.where(truth, 0.4, 0.1) + rng.normal(0, 0.08, 500)
    known = Calibration(score >= 0.3, truth, score)
    whole = estimate_all(Sums.of(score >= 0.3, score, known=score), known, rng=rng, resamples=10)
    assert all(isinstance(one, Estimate) for one in whole.values())
    assert quoted(whole) == "corrected"
    bare = estimate_all(Sums.of(score >= 0.3), NO_CALIBRATION, rng=rng)
    assert quoted(bare) == "count"
    assert set(bare) == set(whole)
    for name in ("corrected", "bayesian", "rogan_gladen", "isotonic", "quantile"):
        assert bare[name] == NO_CALIBRATION
    assert "no single predicted fraction" in bare["sum"].reason


def test_calibration_galaxies_that_tell_nothing(rng):
    none, some = np.zeros(40, bool), np.arange(40) < 4
    blind = Calibration(none, some, np.linspace(0, 0.2, 40))
    sums = Sums.of(np.ones(3, bool), np.ones(3), known=blind.score)
    found = estimate_all(sums, blind, rng=rng, resamples=5)
    assert "of 4 true calibration galaxies 0 are counted" in found["corrected"].reason
    assert isinstance(found["isotonic"], Estimate)
    ones = np.ones(40)
    found = estimate_all(Sums.of(some, ones, known=ones), Calibration(some, none, ones), rng=rng)
    assert "none of the 40 calibration galaxies" in found["isotonic"].reason
    with pytest.raises(CatalogueError, match="no galaxies are left"):
        estimate_all(Sums.of(np.zeros(0, bool)), NO_CALIBRATION, rng=rng)
    with pytest.raises(CatalogueError, match="differ in length"):
        Sums.of(some, np.ones(3))


def test_a_run_hands_over_its_labelled_galaxies_off_training(tree, sky):
    folder, guesses, labels, parts = sky
    held = RunFolder(folder / "run").judged(tree=tree)
    expected = (parts != "train") & ~np.isnan(labels).all(axis=1)
    assert sorted(held.ids.tolist()) == guesses.column("galaxy_id").to_numpy()[expected].tolist()
    order = np.argsort(held.ids)
    np.testing.assert_allclose(held.volunteers[order], labels[expected])
    assert "z" in held.columns.column_names
    assert named_run(guesses) == folder / "run"
    trained = (parts == "train") & ~np.isnan(labels).all(axis=1)
    assert RunFolder(folder / "run").trained_on(guesses, tree) == trained.sum() > 0
    assert RunFolder(folder / "run").trained_on(guesses.filter(~trained), tree) == 0


def test_training_galaxies_never_calibrate_even_where_they_were_predicted(tree, sky, tmp_path):
    folder, guesses, _, parts = sky
    shutil.copytree(folder / "run", tmp_path / "run")
    write_catalogue(guesses.filter(parts != "test"), tmp_path / "run/predictions/validation.parquet")
    again, before = (RunFolder(run).judged(tree=tree) for run in (tmp_path / "run", folder / "run"))
    assert sorted(again.ids.tolist()) == sorted(before.ids.tolist())


def test_a_catalogue_with_labels_is_as_good(tree, sky, tmp_path):
    folder, guesses, labels, _ = sky
    write_catalogue(guesses, tmp_path / "all.parquet")
    held = judged_in_catalogue(
        tmp_path / "all.parquet", tree, folder / "data" / "catalogue.parquet", like=guesses
    )
    assert len(held.ids) == np.count_nonzero(~np.isnan(labels).all(axis=1))
    rng = np.random.default_rng(2)
    votes = to_joint(tree, np.hstack([rng.dirichlet(np.ones(len(q.answers)), 8) for q in tree.questions]))
    table = with_fractions(pa.table({"galaxy_id": np.arange(1895, 1903)}), votes, tree)
    write_catalogue(table, tmp_path / "few.csv")
    few = judged_in_catalogue(tmp_path / "all.parquet", tree, tmp_path / "few.csv", like=guesses)
    assert few.ids.tolist() == list(range(1895, 1900))
    np.testing.assert_allclose(few.volunteers, votes[:5])
    with pytest.raises(CatalogueError, match="labels of none of the galaxies of"):
        write_catalogue(table.slice(5), tmp_path / "others.csv")
        judged_in_catalogue(tmp_path / "all.parquet", tree, tmp_path / "others.csv", like=guesses)


def test_a_mean_over_views_is_calibrated_by_means_over_as_many(tree, sky, tmp_path):
    folder, guesses, labels, parts = sky
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    with pytest.raises(RunError, match="not predicted yet from 16 views"):
        RunFolder(run).judged(tree=tree, views=16)
    rows = np.flatnonzero(parts == "test")
    surer = with_fractions(guesses.take(rows), fractions(guesses, tree)[rows] ** 2, tree)
    write_catalogue(surer, run / "predictions" / "test-16-views.parquet")
    held = RunFolder(run).judged(tree=tree, views=16)
    kept = ~np.isnan(labels[rows]).all(axis=1)
    np.testing.assert_allclose(held.predicted, fractions(surer, tree)[kept])
    assert "test-16-views galaxies" in held.origin


def test_predictions_of_galaxies_seen_otherwise_are_not_taken(tree, sky, tmp_path):
    folder, guesses, _, parts = sky
    run = tmp_path / "run"
    shutil.copytree(folder / "run", run)
    own = run / "predictions" / "test.parquet"
    earlier = with_metadata(guesses.take(np.flatnonzero(parts == "test")), {"views": "1", "viewing": "1"})
    write_catalogue(earlier, own)
    with pytest.raises(CatalogueError, match=r"test\.parquet: .* in another way: hubblefork evaluate "):
        RunFolder(run).judged(tree=tree)
    write_catalogue(with_metadata(earlier, {"viewing": VIEWING}), own)
    assert len(RunFolder(run).judged(tree=tree).ids)
    with pytest.raises(CatalogueError, match=r"the catalogue: .* in another way: predict anew"):
        check_viewing(earlier, "the catalogue", "predict anew")


@pytest.mark.parametrize(("said", "views"), [(None, 1), ("16", 16), ("many", 0), ("0", 0)])
def test_a_catalogue_says_of_how_many_views_it_is(said, views):
    known = {} if said is None else {"views": said, "viewing": VIEWING}
    table = with_metadata(pa.table({"galaxy_id": [1]}), known)
    if views:
        assert views_of(table) == views
    else:
        with pytest.raises(CatalogueError, match="at least 1"):
            views_of(table)


def test_what_a_run_lacks_is_said(tree, sky, tmp_path):
    with pytest.raises(RunError, match="not the folder of a run"):
        RunFolder(tmp_path).judged(tree=tree)
    (tmp_path / "run.toml").write_text('data = "nowhere"')
    with pytest.raises(RunError, match="not predicted yet"):
        RunFolder(tmp_path).judged(tree=tree)
    with pytest.raises(CatalogueError, match="names no run"):
        named_run(pa.table({"galaxy_id": [1]}))


def test_the_correction_finds_the_votes_fraction_the_count_does_not(tree, sky, rng):
    folder, guesses, _, parts = sky
    held = RunFolder(folder / "run").judged(tree=tree)
    training = guesses.filter(parts == "train")
    found = fraction(training, "merger >= 0.35", held, rng=rng)
    one = found.estimate
    assert (found.value, found.low, found.high) == (one.value, one.low, one.high)
    truth = np.mean(training.column("merger").to_numpy() > 0.2)
    assert found.estimator == "corrected" and one.low <= truth <= one.high
    assert found.estimates["count"].high < truth
    told = json.loads(json.dumps(found.as_json()))
    assert told["default"] == {
        "estimator": "corrected",
        "value": one.value,
        "interval": [one.low, one.high],
        "level": 0.95,
    }
    assert set(told["estimators"]) == set(found.estimates)
    assert all(set(entry) >= {"value", "interval", "level"} for entry in told["estimators"].values())
    drawn = found.draws(4000, rng=rng)
    assert np.quantile(drawn, 0.025) == pytest.approx(one.low, abs=0.01)
    assert np.quantile(drawn, 0.975) == pytest.approx(one.high, abs=0.01)


def test_galaxies_of_the_catalogue_do_not_calibrate_it(tree, sky, rng):
    folder, guesses, _, parts = sky
    held = RunFolder(folder / "run").judged(tree=tree)
    test = guesses.filter(parts == "test")
    found = fraction(test, judged=held, rng=rng)
    labelled_validation = np.count_nonzero(~ids_among(test, held.ids))
    assert len(found.calibration.truth) == labelled_validation < len(held.ids)
    assert len(fraction(guesses, judged=held, rng=rng).calibration.truth) == len(held.ids)


def test_debiased_columns_are_used_and_said(tree, sky, rng):
    _, guesses, _, _ = sky
    debiased = guesses.append_column("merger_debiased", pa.array(np.full(GALAXIES, 0.9)))
    found = fraction(debiased, rng=rng)
    assert found.estimates["count"].value == 1
    assert "merger_debiased" in found.notes[0]


def test_clean_weights_and_expressions(tree, sky, rng):
    _, guesses, _, _ = sky
    found = fraction(guesses, "spiral > 0.2", tree=tree, clean=True, rng=rng)
    assert 0 < found.galaxies < GALAXIES and found.left_out == GALAXIES - found.galaxies
    weighted = fraction(guesses, weights="z", rng=rng).estimates["count"]
    z, counts = guesses.column("z").to_numpy(), guesses.column("merger").to_numpy() >= 0.3
    assert weighted.value == pytest.approx(np.average(counts, weights=z))
    assert f"{z.sum() ** 2 / (z**2).sum():.1f}" in weighted.note


def test_bins_count_every_galaxy_once(tree, sky, rng):
    folder, guesses, _, _ = sky
    held = RunFolder(folder / "run").judged(tree=tree)
    whole = fraction(guesses, judged=held, bins="redshift", column="z", resamples=5, rng=rng)
    found = list(whole.bins.values())
    assert sum(one.galaxies for one in found) == GALAXIES
    assert len({len(one.calibration.truth) for one in found}) > 1  # calibrated bin by bin
    assert whole.as_json()["bins"][1]["galaxies"] == found[1].galaxies
    empty = fraction(guesses, judged=held, bins=Bins("z", "z", (0.5, 0.6)), resamples=5, rng=rng)
    assert empty.bins == {(0.5, 0.6): None}


@pytest.mark.parametrize("weights", ["", "z"])
def test_a_folder_of_shards_gives_what_its_table_gives(tree, sky, tmp_path, weights):
    """Also for galaxies without a fraction, and for those outside the bins."""
    folder, guesses, labels, _ = sky
    gone = np.arange(GALAXIES) % 50 == 3
    merger = pa.array(guesses["merger"].to_numpy(), pa.float32(), mask=gone)
    guesses = guesses.set_column(guesses.column_names.index("merger"), "merger", merger)
    shards = CatalogueFolder(tmp_path / "catalogue")
    for number, start in enumerate(range(0, GALAXIES, 180)):
        shards.write_shard(f"{number}", shard_table(guesses.slice(start, 180), tree))
    shards.finish()
    how = {"bins": "z:0.01,0.05,0.08", "weights": weights, "tree": tree, "resamples": 5}
    held = judged_in_catalogue(shards.path, tree, folder / "data" / "catalogue.parquet", like=guesses)
    assert len(held.ids) == np.count_nonzero(~np.isnan(labels).all(axis=1))
    held = RunFolder(folder / "run").judged(tree=tree)
    streamed, whole = (fraction(one, judged=held, **how) for one in (Pieces(shards.path), guesses))
    for part, other in [(streamed, whole), *zip(streamed.bins.values(), whole.bins.values(), strict=True)]:
        assert (part.galaxies, part.left_out) == (other.galaxies, other.left_out)
        for name, estimate in other.estimates.items():
            assert part.estimates[name].value == pytest.approx(estimate.value, abs=1e-6), name
    assert streamed.left_out == gone.sum() and len(streamed.bins) == 2
    assert streamed.warnings() == whole.warnings() != []


def test_edges_are_half_open_but_for_the_last():
    place = Bins("z", "z", (0.0, 1.0, 2.0)).place(np.array([-1, 0, 0.5, 1, 2, 2.1, np.nan]))
    assert place.tolist() == [-1, 0, 0, 1, 1, -1, -1]
    table = pa.table({"galaxy_id": [1, 2], "redshift": [0.1, 0.2]})
    assert parse_bins("redshift:0.1,0.15,0.3", table).edges == (0.1, 0.15, 0.3)
    for text, said in (
        ("redshft:0,1", 'did you mean "redshift"'),
        ("redshift:0.1,x", "write bins as"),
        ("redshift:1,0", "each above the one before"),
    ):
        with pytest.raises(CatalogueError, match=said):
            parse_bins(text, table)


def test_a_sweep_has_a_measurement_at_every_threshold(tree, sky, rng):
    _, guesses, _, _ = sky
    swept = sweep(guesses, tree, "merger", NO_CALIBRATION, rng=rng, thresholds=(0.1, 0.5))
    assert [one.truth.threshold for one in swept] == [0.1, 0.5]
    counts = [one.estimates["count"].value for one in swept]
    assert counts == [np.mean(guesses.column("merger").to_numpy() >= t) for t in (0.1, 0.5)]


def test_a_fraction_is_a_few_lines_of_text(tree, sky):
    _, guesses, _, _ = sky
    bare, run = fraction(guesses), RunFolder(sky[0] / "run")
    first, second, *warnings = str(bare).splitlines()
    assert first == f"merger ≥ 0.3: {bare.value:.3f} (95% interval {bare.low:.3f}–{bare.high:.3f})"
    assert second == "count, Wilson, not corrected, of 900 galaxies"
    assert warnings == [f"warning: {warning}" for warning in bare.warnings()] != []
    assert repr(bare) == str(bare) and "<pre>merger ≥ 0.3" in bare._repr_html_()
    corrected = fraction(guesses, "merger >= 0.3", run.judged(tree=tree), bins="z:0,0.05,0.1")
    assert "\ncorrected count, of 900 galaxies" in repr(corrected) and len(repr(corrected)) < 1000
    few = fraction(guesses, "merger >= 0.3", clean=True)
    assert f"of {few.galaxies} galaxies ({900 - few.galaxies} left out)" in str(few)


def test_a_fraction_shows_its_table_and_gives_the_same_rate_again(sky):
    _, guesses, _, _ = sky
    bare = fraction(guesses)
    rows = {row["estimator"]: row for row in bare.table}
    assert bare.table.meta["quoted"] == "count" and rows["count"]["value"] == bare.value
    assert np.isnan(rows["corrected"]["value"]) and "no calibration" in rows["corrected"]["reason"]
    rate = bare.rate("0.2-0.4")
    assert rate == bare.rate("0.2-0.4") and rate.low < rate.value < rate.high
    assert bare.rate(0.3, "1e-2 Mpc-3").value.unit == bare.rates(0.3, "1e-2 Mpc-3")["per_volume"].value.unit
