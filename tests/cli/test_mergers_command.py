"""`hubblefork mergers`: its table, its JSON, its rates and figures; on the catalogues a user has."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import tomli_w
from typer.testing import CliRunner

import hubblefork as hf
from hubblefork.cli import app
from hubblefork.data.folders import VIEWING
from hubblefork.data.split import Split, write_split
from hubblefork.errors import CatalogueError, HubbleforkError, RunError, UnknownAnswer
from hubblefork.tables.catalogue import read_catalogue, with_fractions, with_metadata, write_catalogue
from hubblefork.tables.formats import astropy_table
from hubblefork.tables.layouts import bases
from hubblefork.tables.published import spelled_as
from hubblefork.zoo import load_tree, to_conditional, to_joint

GALAXIES, SURVEY = 800, 600


def votes_of(tree, galaxies, rng):
    joint = to_joint(
        tree, np.hstack([rng.dirichlet(np.ones(len(q.answers)), galaxies) for q in tree.questions])
    )
    joint[:, tree.column("merger")] = np.where(rng.random(galaxies) < 0.15, 0.5, 0.02)
    return joint


def guesses_of(votes, rng):
    return np.clip(0.7 * votes + rng.normal(0, 0.04, votes.shape), 0, 1)


@pytest.fixture(scope="module")
def place(tree, tmp_path_factory):
    """A run with labelled data, and predictions of a survey that is not part of them."""
    folder, rng = tmp_path_factory.mktemp("mergers"), np.random.default_rng(0)
    votes, ids = votes_of(tree, GALAXIES, rng), np.arange(GALAXIES)
    write_catalogue(
        with_fractions(pa.table({"galaxy_id": ids}), votes, tree), folder / "data/catalogue.parquet"
    )
    split, run = Split("mergers", test=30, validation=30), folder / "run"
    write_split(split, run)
    (run / "run.toml").write_text(tomli_w.dumps({"data": str(folder / "data")}))
    table = with_fractions(pa.table({"galaxy_id": ids}), guesses_of(votes, rng), tree)
    for part in ("validation", "test"):
        write_catalogue(
            table.filter(split.assign(ids.tolist()) == part), run / "predictions" / f"{part}.parquet"
        )
    survey = votes_of(tree, SURVEY, rng)
    columns = {"galaxy_id": 10_000 + np.arange(SURVEY), "z": rng.uniform(0, 0.1, SURVEY)}
    found = with_fractions(pa.table(columns), guesses_of(survey, rng), tree)
    write_catalogue(with_metadata(found, {"run": str(run)}), folder / "predictions.parquet")
    write_catalogue(found, folder / "bare.parquet")
    truth = float(np.mean(survey[:, tree.column("merger")] >= 0.36))
    return folder, truth


def mergers(*words):
    done = CliRunner().invoke(app, ["mergers", *(str(word) for word in words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_json_has_exactly_what_was_agreed(place):
    folder, truth = place
    told = json.loads(mergers(folder / "predictions.parquet", "--threshold", 0.36, "--json").stdout)
    assert set(told) == {"default", "estimators"}
    assert set(told["default"]) == {"estimator", "value", "interval", "level"}
    assert told["default"]["estimator"] == "corrected" and told["default"]["level"] == 0.95
    low, high = told["default"]["interval"]
    assert low <= truth <= high
    assert told["estimators"]["count"]["interval"][1] < truth
    assert {"count", "count_jeffreys", "sum", "corrected", "bayesian", "rogan_gladen", "isotonic"} < set(
        told["estimators"]
    )


def test_columns_that_are_not_counted_are_not_looked_at(place):
    folder, _ = place
    table = read_catalogue(folder / "predictions.parquet")
    texts = pa.array(["unknown"] * len(table))
    spoilt = table.set_column(table.column_names.index("smooth"), "smooth", texts)
    write_catalogue(spoilt, folder / "spoilt.parquet")
    expected = mergers(folder / "predictions.parquet", "--bins", "z", "--json").stdout
    assert mergers(folder / "spoilt.parquet", "--bins", "z", "--json").stdout == expected
    with pytest.raises(CatalogueError, match="smooth is 'unknown', which is no number"):
        mergers(folder / "spoilt.parquet", "--clean")
    with pytest.raises(CatalogueError, match='no column "zz" \\(did you mean "z"'):
        mergers(folder / "spoilt.parquet", "--bins", "zz")


def test_a_published_catalogue_is_counted_as_it_comes(tmp_path):
    tree, rng = load_tree("gz_decals_5"), np.random.default_rng(1)
    shares = np.hstack([rng.dirichlet(np.ones(len(q.answers)), SURVEY) for q in tree.questions])
    ids = pa.table({"galaxy_id": np.arange(SURVEY), "z": rng.uniform(0, 0.1, SURVEY)})
    joint = with_fractions(ids, to_joint(tree, shares), tree)
    asked = joint.filter(pa.array(joint["disk_edge_on_no"].to_numpy() >= 0.5))
    wanted = ("--where", "bar_strong > 0.1", "--json")
    count, left = (float(np.mean(table["bar_strong"].to_numpy() > 0.1)) for table in (joint, asked))
    suffixed = [f"{c.replace('_', '-dr8_')}" for c in tree.source_columns]
    tables = {
        "joint": joint.rename_columns(["galaxy_id", "z", *suffixed]),
        "advanced": spelled_as(joint, tree, "advanced").rename_columns(
            ["dr8_id", *spelled_as(joint, tree, "advanced").column_names[1:]]
        ),
        "friendly": spelled_as(joint, tree, "friendly"),
    }
    for k, name in enumerate(tree.source_columns):
        tables["advanced"] = tables["advanced"].append_column(f"{name}_debiased", pa.array(0 * shares[:, k]))
    for name, table in tables.items():
        write_catalogue(table, tmp_path / f"{name}.csv")
        told = json.loads(mergers(tmp_path / f"{name}.csv", *wanted).stdout)
        assert told["default"]["value"] == pytest.approx(left if name == "friendly" else count)
    said = " ".join(mergers(tmp_path / "advanced.csv", *wanted[:2]).stdout.split())
    assert "read as fractions of gz_decals_5 (smooth-or-featured_smooth_fraction …)" in said
    assert "there are also debiased: --layout chooses" in said


def test_votes_of_a_published_catalogue_are_counted_without_those_that_the_tree_lacks(tmp_path):
    header = "id_str,ring_yes,ring_no,ring_unsure,ring_total-votes\n"
    (tmp_path / "rings.csv").write_text(header + "J1,3,4,3,10\nJ2,1,8,0,9\n")
    words = (tmp_path / "rings.csv", "--tree", "gz_rings", "--answer", "ring_yes", "--threshold", 0.4)
    assert json.loads(mergers(*words, "--json").stdout)["default"]["value"] == 0.5
    said = " ".join(mergers(*words).stdout.split())
    assert "ring_unsure is no answer of gz_rings: these votes are left out" in said


def test_labels_may_be_published_and_have_several_layouts(place, tree):
    folder, _ = place
    run, votes = folder / "run", read_catalogue(folder / "data/catalogue.parquet")
    shares = to_conditional(tree, np.stack([votes[name].to_numpy() for name in tree.columns], axis=1))
    columns = {"dr7objid": votes["galaxy_id"]}
    for kind, by in (("debiased", 0), ("fraction", 1)):
        columns |= {f"{bases(tree)[name]}_{kind}": by * shares[:, k] for k, name in enumerate(tree.columns)}
    write_catalogue(pa.table(columns), folder / "published.csv")
    words = (folder / "predictions.parquet", "--calibrate-on", run, "--json")
    expected = json.loads(mergers(*words).stdout)
    given = json.loads(mergers(*words, "--labels", folder / "published.csv", "--layout", "fractions").stdout)
    assert given["default"]["value"] == pytest.approx(expected["default"]["value"], abs=1e-9)
    said = " ".join(
        mergers(*words[:3], "--labels", folder / "published.csv", "--layout", "fractions").stdout.split()
    )
    assert "(fractions of galaxy_zoo_2" in said


def test_without_calibration_galaxies_it_says_so_and_what_to_do(place):
    folder, _ = place
    told = json.loads(mergers(folder / "bare.parquet", "--json").stdout)
    assert told["default"]["estimator"] == "count"
    lost = told["estimators"]["corrected"]
    assert lost["value"] is None and "names no run" in lost["reason"] and "--calibrate-on" in lost["remedy"]
    said = " ".join(mergers(folder / "bare.parquet").stdout.split())
    assert "not available" in said and "remedy: hubblefork evaluate RUN" in said
    assert "the default is the count, not corrected" in said


def test_the_weights_that_come_along_bring_the_numbers_that_correct_a_count(place):
    folder, _ = place
    bare = read_catalogue(folder / "bare.parquet")
    for views, known in (("1", "43/61"), ("16", "42/61")):
        table = with_metadata(bare, {"run": "fork", "views": views, "viewing": VIEWING})
        write_catalogue(table, folder / "fork.parquet")
        said = " ".join(mergers(folder / "fork.parquet").stdout.split())
        assert "calibrated on 1405 validation and test galaxies of fork, by the numbers beside" in said
        assert f"completeness {known} = " in said and "corrected count ←" in said
    write_catalogue(
        with_metadata(bare, {"run": "fork", "views": "4", "viewing": VIEWING}), folder / "4.parquet"
    )
    lost = json.loads(mergers(folder / "4.parquet", "--json").stdout)["estimators"]["corrected"]
    assert "come along are calibrated for --views 1 and --views 16" in lost["reason"]


@pytest.fixture
def signed(place, tmp_path):
    """A copy of the run and the catalogue of `place`, whose predictions say by which weights they are."""
    folder, _ = place
    shutil.copytree(folder / "run", tmp_path / "run")

    def sign(of_catalogue, of_part):
        for path in (tmp_path / "run" / "predictions").iterdir():
            write_catalogue(with_metadata(read_catalogue(path), {"weights": of_part}), path)
        table = read_catalogue(folder / "bare.parquet")
        metadata = {"run": str(tmp_path / "run"), "weights": of_catalogue}
        write_catalogue(with_metadata(table, metadata), tmp_path / "p.parquet")
        return tmp_path / "p.parquet", tmp_path / "run"

    return sign


@pytest.mark.parametrize(
    ("of_catalogue", "of_part", "said"),
    [
        (
            "a" * 64,
            "b" * 64,
            "has other weights (bbbbbbbbbbbb…) than those that predicted the catalogue (aaaa",
        ),
        ("a" * 64, "", "does not say which weights predicted its galaxies: `hubblefork evaluate "),
    ],
)
def test_galaxies_judged_by_other_weights_correct_nothing(signed, of_catalogue, of_part, said):
    path, run = signed(of_catalogue, of_part)
    shown = mergers(path).stdout
    assert "calibrated on" not in shown
    assert said in " ".join(shown.split())
    with pytest.raises(RunError, match="weights"):
        mergers(path, "--calibrate-on", run)


def test_the_same_weights_correct_and_unsigned_ones_are_taken_on_trust(signed):
    path, _ = signed("a" * 64, "a" * 64)
    shown = mergers(path).stdout
    assert "calibrated on" in shown and "is not checked" not in shown
    path, _ = signed("", "a" * 64)
    shown = " ".join(mergers(path).stdout.split())
    assert "calibrated on" in shown and "does not say which weights predicted it" in shown


def test_parts_judged_by_different_weights_correct_nothing(signed):
    path, run = signed("", "a" * 64)
    part = run / "predictions" / "test.parquet"
    write_catalogue(with_metadata(read_catalogue(part), {"weights": "b" * 64}), part)
    assert "were predicted by different weights" in " ".join(mergers(path).stdout.split())


@pytest.mark.parametrize("other", [{"weights": "b" * 64}, {"views": "16", "viewing": VIEWING}])
def test_a_catalogue_of_other_weights_or_views_calibrates_nothing(place, signed, other):
    folder, _ = place
    path, run = signed("a" * 64, "a" * 64)
    table = with_metadata(read_catalogue(path), {"views": "1", "viewing": VIEWING})
    write_catalogue(table, path)
    near = with_metadata(read_catalogue(run / "predictions" / "test.parquet"), {"views": "1"} | other)
    write_catalogue(near, run / "near.parquet")
    with pytest.raises(HubbleforkError, match=r"other weights|--views 16"):
        mergers(path, "--calibrate-on", run / "near.parquet", "--labels", folder / "data/catalogue.parquet")


def test_predictions_of_one_view_do_not_calibrate_a_mean_over_sixteen(place):
    folder, _ = place
    table = with_metadata(read_catalogue(folder / "predictions.parquet"), {"views": "16", "viewing": VIEWING})
    write_catalogue(table, folder / "sixteen.parquet")
    lost = json.loads(mergers(folder / "sixteen.parquet", "--json").stdout)["estimators"]["corrected"]
    assert lost["value"] is None and "from 16 views" in lost["reason"]
    assert "evaluate RUN --views 16" in lost["remedy"]


def test_a_catalogue_of_galaxies_seen_otherwise_is_counted_but_not_corrected(place):
    folder, _ = place
    table = with_metadata(read_catalogue(folder / "predictions.parquet"), {"views": "1", "viewing": "1"})
    write_catalogue(table, folder / "earlier.parquet")
    found = json.loads(mergers(folder / "earlier.parquet", "--json").stdout)
    assert "in another way: predict anew" in found["estimators"]["corrected"]["reason"]
    assert found["default"]["estimator"] == "count"
    with pytest.raises(CatalogueError, match="in another way"):
        mergers(folder / "earlier.parquet", "--calibrate-on", folder / "run")


def test_calibration_galaxies_can_be_named(place):
    folder, _ = place
    by_run = mergers(folder / "bare.parquet", "--calibrate-on", folder / "run", "--json")
    named = mergers(folder / "predictions.parquet", "--json")
    assert json.loads(by_run.stdout) == json.loads(named.stdout)
    parts = (
        "--calibrate-on",
        folder / "run/predictions/test.parquet",
        "--labels",
        folder / "data/catalogue.parquet",
    )
    told = json.loads(mergers(folder / "bare.parquet", *parts, "--json").stdout)
    assert told["default"]["estimator"] == "corrected"
    with pytest.raises(CatalogueError, match="needs the labels"):
        mergers(folder / "bare.parquet", *parts[:2])


def test_the_table_says_what_true_means_and_where_corrections_come_from(place):
    folder, _ = place
    said = " ".join(mergers(folder / "predictions.parquet").stdout.split())
    assert "true: the volunteers' joint fractions have merger ≥ 0.3" in said
    assert re.search(r"calibrated on \d+ validation and test galaxies of", said)
    assert re.search(r"completeness \d+/\d+ = 0\.\d+, false-positive rate \d+/\d+ = 0\.\d+", said)


def test_expressions_bins_weights_and_clean(place):
    folder, _ = place
    path = folder / "predictions.parquet"
    told = json.loads(mergers(path, "--where", "spiral > 0.1 & barred > 0.1", "--json").stdout)
    assert told["estimators"]["isotonic"]["value"] is None
    told = json.loads(mergers(path, "--bins", "redshift:0,0.05,0.1", "--column", "z", "--json").stdout)
    assert [(entry["low"], entry["high"]) for entry in told["bins"]] == [(0, 0.05), (0.05, 0.1)]
    assert sum(entry["galaxies"] for entry in told["bins"]) == SURVEY
    assert "default" in told["bins"][0]
    assert "redshift" in mergers(path, "--bins", "redshift:0,0.05,0.1", "--column", "z").stdout
    told = json.loads(mergers(path, "--weight-column", "z", "--json").stdout)
    assert "effective number" in told["estimators"]["count"]["note"]
    assert "well asked" in mergers(path, "--answer", "spiral", "--clean").stdout


def test_rates_have_units_and_a_warning(place):
    folder, _ = place
    path = folder / "predictions.parquet"
    told = json.loads(mergers(path, "--time", "0.3", "--density", "0.01 Mpc-3", "--json").stdout)
    value = told["default"]["value"]
    assert told["rates"]["per_galaxy"]["value"] == pytest.approx(value / 0.3, rel=0.1)
    assert told["rates"]["per_galaxy"]["unit"] == "1 / Gyr"
    assert told["rates"]["per_volume"]["value"] == pytest.approx(0.01 * value / 0.3, rel=0.1)
    said = " ".join(mergers(path, "--time", "lotz-gm20").stdout.split())
    assert "Lotz et al. 2010" in said and "calibrated for volunteers' votes" in said


def test_options_that_do_not_go_together(place):
    folder, _ = place
    path = folder / "predictions.parquet"
    with pytest.raises(CatalogueError, match="a threshold for predictions goes with one answer"):
        mergers(path, "--where", "spiral > 0.5", "--predicted-threshold", 0.2)
    assert mergers(path, "--density", "0.01 Mpc-3").exit_code == 2
    with pytest.raises(CatalogueError, match="a level of 95"):
        mergers(path, "--level", 95)


def test_a_lower_threshold_on_predictions_leaves_the_truth_as_it_is(place):
    folder, _ = place
    path = folder / "predictions.parquet"
    at, below = (
        json.loads(mergers(path, "--threshold", 0.36, *more, "--json").stdout)
        for more in ((), ("--predicted-threshold", 0.25))
    )
    assert below["estimators"]["count"]["value"] > at["estimators"]["count"]["value"]
    assert below["estimators"]["isotonic"]["value"] == pytest.approx(at["estimators"]["isotonic"]["value"])


def test_figures_are_written(place, tmp_path):
    folder, _ = place
    done = mergers(folder / "predictions.parquet", "--bins", "z", "--figures", tmp_path / "figures", "--json")
    assert done.exit_code == 0
    names = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert names == {"estimators", "thresholds", "published", "bins"}


def test_mistakes_name_what_is_near(place):
    folder, _ = place
    with pytest.raises(UnknownAnswer, match='did you mean "spiral"'):
        mergers(folder / "predictions.parquet", "--where", "spirl > 0.5")
    with pytest.raises(CatalogueError, match='no column "redshift"'):
        mergers(folder / "predictions.parquet", "--bins", "redshift")


def test_debiased_values_that_are_no_fractions_are_refused(place):
    folder, _ = place
    table = read_catalogue(folder / "bare.parquet")
    debiased = pa.array([-99.0, *([0.5] * (len(table) - 1))])
    write_catalogue(table.append_column("merger_debiased", debiased), folder / "debiased.parquet")
    with pytest.raises(CatalogueError, match=r"merger_debiased is -99; .* --missing -99"):
        mergers(folder / "debiased.parquet")


def test_a_table_in_memory_gives_what_its_file_gives(place):
    folder, _ = place
    arrow = read_catalogue(folder / "predictions.parquet")
    expected = hf.fraction(folder / "predictions.parquet")
    assert hf.fraction(arrow).table["value"].tolist() == expected.table["value"].tolist()
    frame, bare = arrow.to_pandas(), hf.fraction(folder / "bare.parquet")
    frame["kind"] = frame["z"].gt(0.05).map({True: "far", False: None}).astype("category")
    by_id = frame.set_index("galaxy_id")
    for given in (frame, by_id, frame[::-1], frame.convert_dtypes(), astropy_table(arrow)):
        found = hf.fraction(given)
        assert (found.value, found.galaxies) == (bare.value, SURVEY) and found.estimator == "count"
        again = hf.fraction(given, calibrate_on=folder / "run", bins="z:0,0.05,0.1")
        assert again.value == expected.value and len(again.bins) == 2
    frame.loc[0, "merger"] = np.nan
    assert hf.fraction(frame).left_out == 1
    frame.loc[1, "merger"] = -99
    assert hf.fraction(frame, missing=[-99]).left_out == 2


def test_what_is_no_table_is_said(place):
    frame = read_catalogue(place[0] / "bare.parquet").to_pandas()
    with pytest.raises(
        CatalogueError, match="a catalogue is list: give a path, or a table of astropy, pandas"
    ):
        hf.fraction([1, 2])
    frame.loc[1, "galaxy_id"] = frame.loc[0, "galaxy_id"]
    with pytest.raises(CatalogueError, match="stands more than once, in row 1, row 2"):
        hf.fraction(frame)


WITHOUT_PANDAS = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *more: None if name == "pandas" else find(name, *more)

import hubblefork as hf
from hubblefork.tables.catalogue import read_catalogue

for given in (sys.argv[1], read_catalogue(Path(sys.argv[1]))):
    print(hf.fraction(given).galaxies)
"""


def test_it_works_without_pandas(place):
    command = [sys.executable, "-c", WITHOUT_PANDAS, str(place[0] / "bare.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(SURVEY)] * 2
