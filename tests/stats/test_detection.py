"""Corrected counts against closed forms, an integral done another way, and simulations."""

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy import integrate, stats
from sklearn.preprocessing import QuantileTransformer

from hubblefork.data.folders import VIEWING
from hubblefork.data.judged import JudgedGalaxies
from hubblefork.errors import CatalogueError, RunError
from hubblefork.stats.detection import (
    THRESHOLDS,
    Confusion,
    Confusions,
    _grouped,
    bayesian,
    confusion,
    confusions_of,
    fitted_chance,
    isotonic,
    lang_reiczigel,
    lang_reiczigel_draws,
    mapped_threshold,
    posterior,
    quantile,
    rogan_gladen,
)
from hubblefork.stats.estimators import Estimate, Sums, Unavailable, counted
from hubblefork.stats.prevalence import fraction
from hubblefork.tables.catalogue import with_fractions

GOOD = Confusion(positives=60, true_positives=45, negatives=940, false_positives=19)
PERFECT = Confusion(positives=10**7, true_positives=10**7, negatives=10**7, false_positives=0)


def test_confusion_counts_the_four_kinds():
    counts = np.array([True, True, False, False, True])
    truth = np.array([True, False, True, False, True])
    found = confusion(counts, truth)
    assert found == Confusion(positives=3, true_positives=2, negatives=2, false_positives=1)
    assert (found.completeness, found.false_positive_rate) == (2 / 3, 0.5)
    with pytest.raises(CatalogueError):
        Confusion(positives=3, true_positives=4, negatives=2, false_positives=1)


def test_rogan_gladen_inverts_the_expected_count():
    for share in (0, 0.03, 0.5, 1):
        expected = share * GOOD.completeness + (1 - share) * GOOD.false_positive_rate
        assert rogan_gladen(1000 * expected, 1000, GOOD).value == pytest.approx(share, abs=1e-12)


def test_rogan_gladen_without_errors_is_the_count():
    found = rogan_gladen(30, 1000, PERFECT, level=0.95)
    assert found.value == pytest.approx(0.03)
    half = 1.959964 * np.sqrt(0.03 * 0.97 / 1000)
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half), abs=1e-6)


def test_the_variance_is_that_of_the_simulated_estimate():
    rng, fraction = np.random.default_rng(0), 0.2
    chance = fraction * 0.75 + (1 - fraction) * 0.02
    found = rng.binomial(600, 0.75, 4000) / 600
    mistaken = rng.binomial(2000, 0.02, 4000) / 2000
    share = rng.binomial(3000, chance, 4000) / 3000
    simulated = np.std((share - mistaken) / (found - mistaken))
    one = rogan_gladen(3000 * chance, 3000, Confusion(600, 450, 2000, 40), level=0.6826895)
    assert (one.high - one.low) / 2 == pytest.approx(simulated, rel=0.05)


def test_what_is_clipped_is_said():
    found = rogan_gladen(0, 1000, GOOD)
    assert (found.value, found.low) == (0, 0)
    assert "clipped from -0.0277 to 0" in found.note
    assert lang_reiczigel(0, 1000, GOOD).note == found.note
    assert rogan_gladen(50, 1000, GOOD).note == ""


def test_lang_reiczigel_without_errors_is_agresti_and_coull():
    """With both rates known exactly only the added galaxies of the sample are left."""
    z = stats.norm.ppf(0.975)
    size, share = 1000 + z**2, (30 + z**2 / 2) / (1000 + z**2)
    half = z * np.sqrt(share * (1 - share) / size)
    found = lang_reiczigel(30, 1000, PERFECT)
    assert (found.low, found.high) == pytest.approx((share - half, share + half), abs=1e-5)


@pytest.mark.parametrize(("count", "level"), [(52, 0.95), (200, 0.68), (20, 0.99)])
def test_lang_reiczigel_is_the_papers_in_sensitivity_and_specificity(count, level):
    """Written as in the paper: sensitivity, specificity and apparent prevalence, each adjusted."""
    z = stats.norm.ppf((1 + level) / 2)
    n, n_se, n_sp = 1000 + z**2, GOOD.positives + 2, GOOD.negatives + 2
    apparent = (count + z**2 / 2) / n
    se, sp = (GOOD.true_positives + 1) / n_se, (GOOD.negatives - GOOD.false_positives + 1) / n_sp
    youden = se + sp - 1
    prevalence = (apparent + sp - 1) / youden
    error = np.sqrt(
        apparent * (1 - apparent) / n
        + se * (1 - se) / n_se * prevalence**2
        + sp * (1 - sp) / n_sp * (1 - prevalence) ** 2
    )
    shift = 2 * z**2 * (prevalence * se * (1 - se) / n_se - (1 - prevalence) * sp * (1 - sp) / n_sp)
    expected = prevalence + shift + z * np.array([-1, 1]) * error / youden
    found = lang_reiczigel(count, 1000, GOOD, level=level)
    np.testing.assert_allclose((found.low, found.high), np.clip(expected, 0, 1), rtol=1e-12)


def test_draws_have_the_intervals_as_quantiles():
    drawn = lang_reiczigel_draws(200, 1000, GOOD, 40_000, rng=np.random.default_rng(5))
    for level in (0.68, 0.95):
        found = lang_reiczigel(200, 1000, GOOD, level=level)
        expected = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        np.testing.assert_allclose((found.low, found.high), expected, atol=0.003)


def test_the_posterior_without_errors_is_that_of_jeffreys():
    grid, below = posterior(30, 1000, PERFECT)
    expected = stats.beta.ppf([0.025, 0.5, 0.975], 30.5, 970.5)
    np.testing.assert_allclose(np.interp([0.025, 0.5, 0.975], below, grid), expected, rtol=3e-3)


def test_the_posterior_is_the_integral_done_another_way():
    """A Monte Carlo integral over completeness and false-positive rate, quadrature over the fraction."""
    count, total = 52, 1000
    rng = np.random.default_rng(1)
    complete = rng.beta(45.5, 15.5, 1500)
    false = rng.beta(19.5, 921.5, 1500)
    grid = np.linspace(1e-6, 0.2, 1001)
    chance = grid[:, None] * complete + (1 - grid[:, None]) * false
    density = stats.binom.pmf(count, total, chance).mean(axis=1) * stats.beta.pdf(grid, 0.5, 0.5)
    below = integrate.cumulative_trapezoid(density, grid, initial=0)
    expected = np.interp([0.025, 0.5, 0.975], below / below[-1], grid)
    fractions, chances = posterior(count, total, GOOD)
    found = np.interp([0.025, 0.5, 0.975], chances, fractions)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=2e-4)


def test_bayesian_is_the_posteriors_median_and_tails():
    found, (grid, below) = bayesian(52, 1000, GOOD, level=0.9), posterior(52, 1000, GOOD)
    expected = np.interp([0.05, 0.5, 0.95], below, grid)
    assert (found.low, found.value, found.high) == pytest.approx(expected)
    drawn = np.interp(np.random.default_rng(2).random(20000), below, grid)
    assert np.mean(drawn < found.low) == pytest.approx(0.05, abs=0.01)


def test_the_corrected_interval_covers_and_that_of_the_count_does_not():
    """200 surveys of 2,000 galaxies, a fifth of them true; each with calibration galaxies of its own."""
    rng, fraction, surveys = np.random.default_rng(3), 0.2, 200
    inside = {"bayesian": 0, "rogan_gladen": 0, "count": 0}
    for _ in range(surveys):
        measured = Confusion(80, int(rng.binomial(80, 0.77)), 1300, int(rng.binomial(1300, 0.003)))
        count = int(rng.binomial(2000, fraction * 0.77 + (1 - fraction) * 0.003))
        plain = counted(Sums.of(np.arange(2000) < count), level=0.68)
        for name, one in (
            ("bayesian", bayesian(count, 2000, measured, level=0.68)),
            ("rogan_gladen", rogan_gladen(count, 2000, measured, level=0.68)),
            ("count", plain),
        ):
            inside[name] += one.low <= fraction <= one.high
    error = np.sqrt(0.68 * 0.32 / surveys)
    assert abs(inside["bayesian"] / surveys - 0.68) < 3 * error
    assert abs(inside["rogan_gladen"] / surveys - 0.68) < 3 * error
    assert inside["count"] / surveys < 0.1


@pytest.mark.parametrize("method", [rogan_gladen, lang_reiczigel, bayesian])
def test_what_cannot_be_corrected(method):
    for blind in (Confusion(0, 0, 900, 3), Confusion(10, 0, 900, 3), Confusion(10, 1, 0, 0)):
        with pytest.raises(CatalogueError, match="cannot be corrected"):
            method(5, 100, blind)
    with pytest.raises(CatalogueError, match="not more count"):
        method(101, 100, GOOD)


THRESHOLD = 0.3


def summed_up(score, known, weights=None):
    return Sums.of(score >= THRESHOLD, score, weights, known)


def shrunken(galaxies, rng):
    """Votes, and predictions that are their means given what a network sees: less extreme."""
    seen = rng.beta(0.3, 6, galaxies)
    votes = np.clip(seen + rng.normal(0, 0.12, galaxies), 0, 1)
    return seen, votes


def test_the_isotonic_value_is_scikit_learns():
    rng = np.random.default_rng(0)
    (score, _), (known, votes) = shrunken(800, rng), shrunken(500, rng)
    known[:20] = known[20:40]  # ties with other truths
    truth = votes >= THRESHOLD
    expected = fitted_chance(known, truth).predict(score).mean()
    found = isotonic(summed_up(score, known), known, truth, rng=rng, resamples=20)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert found.low <= found.value <= found.high


def test_quantile_mapping_is_scikit_learns_transformers():
    rng = np.random.default_rng(1)
    (score, _), (known, votes) = shrunken(4000, rng), shrunken(4000, rng)
    ranks = QuantileTransformer(n_quantiles=4000).fit(known[:, None]).transform(score[:, None])
    mapped = QuantileTransformer(n_quantiles=4000).fit(votes[:, None]).inverse_transform(ranks)
    found = quantile(summed_up(score, known), known, votes >= THRESHOLD, rng=rng, resamples=10)
    assert found.value == pytest.approx(np.mean(mapped >= THRESHOLD), abs=2 / 4000)


def test_as_many_calibration_galaxies_reach_the_mapped_threshold_as_are_true():
    rng = np.random.default_rng(2)
    score, truth = rng.random(300), rng.random(300) < 0.1
    assert np.count_nonzero(score >= mapped_threshold(score, truth)) == truth.sum()


def test_recalibrated_counts_are_unbiased_where_the_count_is_not():
    """120 pairs of calibration and sample; the uncorrected count must fail the same test."""
    rng = np.random.default_rng(3)
    expected = np.mean(shrunken(400_000, rng)[1] >= THRESHOLD)
    found = {"isotonic": [], "quantile": [], "count": []}
    for _ in range(120):
        (score, _), (known, votes) = shrunken(1000, rng), shrunken(1000, rng)
        for name, method in (("isotonic", isotonic), ("quantile", quantile)):
            one = method(summed_up(score, known), known, votes >= THRESHOLD, rng=rng, resamples=1)
            found[name].append(one.value)
        found["count"].append(counted(Sums.of(score >= THRESHOLD)).value)
    for name, values in found.items():
        away = abs(np.mean(values) - expected) / (np.std(values) / np.sqrt(len(values)))
        assert (away > 5) == (name == "count"), name


def test_the_bootstrap_covers():
    rng = np.random.default_rng(4)
    expected = np.mean(shrunken(400_000, rng)[1] >= THRESHOLD)
    inside = 0
    for _ in range(100):
        (score, _), (known, votes) = shrunken(400, rng), shrunken(400, rng)
        one = isotonic(summed_up(score, known), known, votes >= THRESHOLD, rng=rng, level=0.68, resamples=40)
        inside += one.low <= expected <= one.high
    assert abs(inside / 100 - 0.68) < 3 * np.sqrt(0.68 * 0.32 / 100)


@pytest.mark.parametrize("weighted", [False, True])
def test_groups_are_drawn_as_their_galaxies_would_be(weighted):
    """The sum over each group, many times: galaxies taken one by one have the same mean and scatter."""
    rng = np.random.default_rng(6)
    score, known = rng.random(300), rng.random(4)
    weights = rng.choice([0.0, 0.5, 2.0], 300) if weighted else None
    groups = _grouped(summed_up(score, known, weights), known)
    drawn = np.array([groups.drawn(rng) for _ in range(4000)])
    each = np.ones(300) if weights is None else weights
    place = np.searchsorted(np.sort(known), score, side="right")
    for number in range(5):
        taken = each[place == number] * rng.standard_exponential((4000, np.count_nonzero(place == number)))
        assert groups.mean[number] == pytest.approx(
            np.average(score[place == number], weights=each[place == number])
        )
        assert drawn[:, number].mean() == pytest.approx(taken.sum(axis=1).mean(), rel=0.02)
        assert drawn[:, number].std() == pytest.approx(taken.sum(axis=1).std(), rel=0.05)


def test_a_score_on_a_calibration_galaxys_own_reaches_the_mapped_threshold():
    known = np.array([0.1, 0.2, 0.3, 0.4])
    sums = summed_up(np.array([0.3, 0.3, 0.29, 0.9]), known)
    found = quantile(sums, known, known >= 0.3, rng=np.random.default_rng(0), resamples=1)
    assert found.value == 0.75


@pytest.mark.parametrize("method", [isotonic, quantile])
def test_weights_count_galaxies_several_times(method):
    rng = np.random.default_rng(5)
    (score, _), (known, votes) = shrunken(50, rng), shrunken(400, rng)
    weights = rng.integers(0, 4, 50).astype(float)
    truth = votes >= THRESHOLD
    weighted = method(summed_up(score, known, weights), known, truth, rng=rng, resamples=5)
    each = summed_up(np.repeat(score, weights.astype(int)), known)
    repeated = method(each, known, truth, rng=rng, resamples=5)
    assert weighted.value == pytest.approx(repeated.value)


@pytest.mark.parametrize("method", [isotonic, quantile])
def test_nothing_to_calibrate_on(method):
    with pytest.raises(CatalogueError, match="0 true ones among 5"):
        known = np.linspace(0, 1, 5)
        method(summed_up(np.ones(3), known), known, np.zeros(5, bool), rng=np.random.default_rng(0))


def test_a_sample_summed_up_at_other_galaxies_is_refused():
    with pytest.raises(CatalogueError, match="scores of other calibration galaxies"):
        quantile(Sums.of(np.ones(3), np.ones(3)), np.ones(2), np.ones(2, bool), rng=np.random.default_rng(0))


@pytest.fixture
def held_out(tree):
    rng = np.random.default_rng(0)
    votes = rng.beta(0.4, 1.5, (600, len(tree.columns)))
    predicted = np.clip(votes + rng.normal(0, 0.1, votes.shape), 0, 1)
    votes[:20, tree.column("merger")] = np.nan
    ids = np.arange(600)
    return JudgedGalaxies(
        ids, predicted, votes, pa.table({"galaxy_id": ids}), "validation and test galaxies of it", ids
    )


@pytest.fixture
def known(held_out, tree):
    return confusions_of(held_out, tree, weights="abc", views=16, origin="validation and test galaxies")


@pytest.fixture
def catalogue(tree):
    predicted = np.random.default_rng(1).beta(0.3, 2, (300, len(tree.columns)))
    return with_fractions(pa.table({"galaxy_id": 1000 + np.arange(300)}), predicted, tree)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7])
def test_numbers_correct_as_the_galaxies_do(held_out, known, catalogue, threshold):
    query = f"merger >= {threshold}"
    by_galaxies, by_numbers = (fraction(catalogue, query, one, resamples=5) for one in (held_out, known))
    for name in ("corrected", "bayesian", "rogan_gladen"):
        assert isinstance(by_numbers.estimates[name], Estimate)
        assert by_numbers.estimates[name] == by_galaxies.estimates[name]
    assert len(by_numbers.calibration.truth) == 580
    assert by_numbers.estimates["isotonic"].reason == "needs the calibration galaxies themselves"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"query": "merger >= 0.35"}, "in tenths"),
        ({"query": "merger > 0.3"}, "in tenths"),
        ({"query": "merger >= 0.3 & something_odd > 0.5"}, "not of merger"),
        (
            {"query": "merger >= 0.2", "truth": "merger >= 0.3"},
            "alike for predictions and votes, not of merger ≥ 0.2 for merger ≥ 0.3",
        ),
        ({"clean": True}, "not of those that were well asked"),
    ],
)
def test_other_criteria_have_no_numbers(known, catalogue, asked, reason):
    lost = fraction(catalogue, judged=known, **asked).estimates["corrected"]
    assert isinstance(lost, Unavailable) and reason in lost.reason and "--calibrate-on" in lost.remedy


@pytest.mark.parametrize("query", ["merger > 0.3", "0.3 < merger"])
def test_more_than_a_threshold_is_not_corrected_and_says_that_at_least_would_be(known, catalogue, query):
    strict = fraction(catalogue, query, known)
    assert strict.estimator == "count" and '"merger >= 0.3", which is corrected' in str(strict)
    assert any('"merger >= 0.3", which is corrected' in warning for warning in strict.warnings())
    assert fraction(catalogue, "merger >= 0.3", known).estimator == "corrected"
    assert "which is corrected" not in str(fraction(catalogue, "merger > 0.35", known))


def test_a_threshold_may_stand_before_its_answer(known, catalogue):
    turned = fraction(catalogue, "0.3 <= merger", known)
    assert (turned.estimator, turned.criterion.text) == ("corrected", "merger ≥ 0.3")


def test_they_come_back_as_they_were_written(known, tmp_path):
    known.write(tmp_path / "completeness.json")
    back = Confusions.read(tmp_path / "completeness.json")
    assert back == known
    assert (back.weights, back.views, back.viewing) == ("abc", 16, VIEWING)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda told: told["answers"]["merger"].pop(), "merger has 8 thresholds, not 9"),
        (lambda told: told["answers"]["merger"].__setitem__(0, [1, 2, 3, 0]), "more galaxies are counted"),
        (lambda told: told["answers"]["merger"].__setitem__(0, [1, 2]), "missing"),
        (lambda told: told.pop("views"), "views"),
    ],
)
def test_a_spoilt_file_is_refused(known, tmp_path, spoil, complaint):
    path = tmp_path / "completeness.json"
    known.write(path)
    told = json.loads(path.read_text())
    spoil(told)
    path.write_text(json.dumps(told))
    with pytest.raises(RunError, match=f"{complaint}.*`hubblefork evaluate") as refused:
        Confusions.read(path)
    assert str(path) in str(refused.value)


def test_every_threshold_is_needed():
    with pytest.raises(CatalogueError, match="1 thresholds, not 9"):
        Confusions({"merger": (Confusion(1, 1, 1, 0),)}, views=1)
    assert THRESHOLDS[2] == 0.3
