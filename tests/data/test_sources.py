"""Known surveys are data that fits the tree; Galaxy Zoo 2's table becomes labels of images."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from hubblefork.data.catalogue import fractions, metadata_of, read_catalogue
from hubblefork.data.surveys import LabelCount, gz2_labels, load_survey, survey_names
from hubblefork.errors import CatalogueError, DownloadError
from hubblefork.zoo import DecisionTree, load_tree, to_conditional, violations

FIRST = 587722981736120347  # SDSS ids are 18 digits: no float holds them
STEMS = load_survey("gz2").columns


class Hart:
    """A small table in the layout of Hart et al. 2016, with those of its 231 columns that matter."""

    def __init__(self, galaxies: int, kind: str = "debiased") -> None:
        self.kind = kind
        self.rows = [
            {"dr7objid": str(FIRST + row), "ra": f"{10.5 + row}", "dec": "-1.25", "gz2_class": "Er"}
            | {f"{stem}_{kind}": "0" for stem in STEMS.values()}
            for row in range(galaxies)
        ]

    def vote(self, row: int, **given: float | str) -> None:
        for answer, value in given.items():
            self.rows[row][f"{STEMS[answer]}_{self.kind}"] = str(value)

    def write(self, folder: Path, *, without: str = "") -> Path:
        names = [name for name in self.rows[0] if name != without]
        lines = [",".join(names), *(",".join(row[name] for name in names) for row in self.rows)]
        path = folder / "gz2_hart16.csv.gz"
        path.write_bytes(gzip.compress("\n".join(lines).encode()))
        return path


def mapping(folder: Path, *rows: tuple[int, str, int]) -> Path:
    path = folder / "gz2_filename_mapping.csv"
    lines = [f"{FIRST + galaxy},{sample},{asset}" for galaxy, sample, asset in rows]
    path.write_text("\n".join(["objid,sample,asset_id", *lines]))
    return path


def featured(**more: float | str) -> dict[str, float | str]:
    """Answers to every question of a featured, face-on, two-armed spiral without anything odd."""
    given = {
        "smooth": 0.2, "features_or_disk": 0.8, "star_or_artifact": 0.0, "completely_round": 1.0,
        "edge_on_disk": 0.0, "not_edge_on": 1.0, "barred": 0.25, "no_bar": 0.75, "spiral": 1.0,
        "no_spiral": 0.0, "arms_tight": 1.0, "two_arms": 1.0, "bulge_obvious": 1.0,
        "something_odd": 0.0, "nothing_odd": 1.0,
    }  # fmt: skip
    return {**given, **more}


@pytest.mark.parametrize("name", ["gz2", "kaggle"])
def test_known_surveys_say_where_from_on_what_terms_and_whom_to_cite(name: str) -> None:
    survey = load_survey(name)
    assert survey.name == name
    assert survey.title and survey.terms
    assert survey.home.startswith("https://")
    assert all(re.search(r"doi:10\.\d{4,}/", citation) for citation in survey.citations)
    assert load_tree(survey.tree).name == survey.tree
    for file in survey.files:
        assert file.holds
        assert (
            file.url.startswith("https://") and file.url.split("?")[0].endswith(file.name)
        ) or survey.competition
        assert re.fullmatch(r"md5:[0-9a-f]{32}|", file.checksum)


def test_the_known_surveys_are_listed_and_unknown_ones_answered() -> None:
    assert survey_names() == ("gz2", "kaggle")
    with pytest.raises(
        DownloadError, match=r'no survey "gz" \(did you mean "gz2"\?\); known are gz2, kaggle'
    ):
        load_survey("gz")


def test_every_answer_has_its_column_of_the_gz2_tables(tree: DecisionTree) -> None:
    assert tuple(STEMS) == tree.columns
    numbers = [int(re.search(r"_a(\d\d)_", stem)[1]) for stem in STEMS.values()]
    assert sorted(numbers) == [*range(1, 35), 36, 37, 38]
    for question, answers in zip(tree.questions, tree.slices, strict=True):
        stems = list(STEMS.values())[answers]
        assert {stem[:3].upper() for stem in stems} == {question.task}


def test_a_featured_galaxy_gets_joint_fractions(tmp_path: Path, tree: DecisionTree) -> None:
    hart = Hart(1)
    hart.vote(0, **featured())
    made = gz2_labels(hart.write(tmp_path), mapping(tmp_path, (0, "original", 16)), tmp_path / "a.parquet")
    assert made == LabelCount(labelled=1, without_image=0, scaled=0)
    labels = read_catalogue(tmp_path / "a.parquet")
    joint = dict(zip(tree.columns, fractions(labels, tree)[0], strict=True))
    assert joint["smooth"] == joint["completely_round"] == pytest.approx(0.2)
    assert joint["barred"] == pytest.approx(0.8 * 0.25)
    assert joint["two_arms"] == joint["bulge_obvious"] == joint["spiral"] == pytest.approx(0.8)
    assert joint["nothing_odd"] == 1
    assert joint["merger"] == 0
    assert joint["bulge_boxy"] == 0
    assert violations(tree, fractions(labels, tree)) == []


def test_labels_are_known_by_the_image_and_keep_the_sdss_id_and_place(
    tmp_path: Path, tree: DecisionTree
) -> None:
    hart = Hart(3)
    for row in range(3):
        hart.vote(row, **featured())
    images = mapping(tmp_path, (2, "original", 5), (0, "stripe82", 9), (1, "extra", 7))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    labels = read_catalogue(tmp_path / "a.parquet")
    assert labels.column_names == ["galaxy_id", "dr7objid", "ra", "dec", *tree.columns]
    assert labels["galaxy_id"].to_pylist() == [5, 7, 9]
    assert labels["dr7objid"].to_pylist() == [FIRST + 2, FIRST + 1, FIRST]
    assert labels["ra"].to_pylist() == [12.5, 11.5, 10.5]
    notes = metadata_of(labels)
    assert (notes["tree"], notes["quantity"], notes["kind"]) == ("galaxy_zoo_2", "joint_fraction", "debiased")
    assert "Hart et al. 2016" in notes["source"]


def test_coadded_images_and_galaxies_without_image_are_left_out(tmp_path: Path) -> None:
    hart = Hart(3)
    images = mapping(
        tmp_path,
        (0, "original", 1),
        (0, "stripe82_coadd_1", 2),
        (1, "stripe82_coadd_2", 3),
        (8, "original", 4),
    )
    made = gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    assert (made.labelled, made.without_image) == (1, 2)
    assert read_catalogue(tmp_path / "a.parquet")["galaxy_id"].to_pylist() == [1]


def test_a_question_asked_of_nobody_is_missing_and_so_is_all_below(
    tmp_path: Path, tree: DecisionTree
) -> None:
    hart = Hart(2)
    hart.vote(0, **featured(edge_on_disk=0, not_edge_on=0))
    hart.vote(1, **featured(edge_on_disk="", not_edge_on="NaN"))
    images = mapping(tmp_path, (0, "original", 1), (1, "original", 2))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    labels = read_catalogue(tmp_path / "a.parquet")
    for name in (
        "edge_on_disk",
        "not_edge_on",
        "barred",
        "spiral",
        "two_arms",
        "bulge_obvious",
        "bulge_boxy",
    ):
        assert labels[name].null_count == 2, name
    for name in ("smooth", "in_between", "nothing_odd", "merger"):
        assert labels[name].null_count == 0, name
    assert violations(tree, fractions(labels, tree)) == []


def test_fractions_that_do_not_sum_to_one_are_scaled_and_counted(tmp_path: Path, tree: DecisionTree) -> None:
    hart = Hart(3)
    hart.vote(0, **featured(barred=0.3, no_bar=0.9))
    hart.vote(1, **featured(barred=0.25, no_bar=0.745))
    hart.vote(2, **featured())
    images = mapping(tmp_path, *((row, "original", row) for row in range(3)))
    made = gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    assert made.scaled == 1
    conditional = to_conditional(tree, fractions(read_catalogue(tmp_path / "a.parquet"), tree))
    assert_allclose(conditional[:, tree.column("barred")], [0.25, 0.25 / 0.995, 0.25])


@pytest.mark.parametrize(
    "wrong",
    [
        {"barred": -0.2, "no_bar": 0.2},
        {"barred": 0.4, "no_bar": 1.6},
        {"barred": -5e-5, "no_bar": 0.6},
        {"barred": ""},
    ],
)
def test_impossible_fractions_are_left_for_ingest_to_refuse(tmp_path, tree, wrong: dict) -> None:
    hart = Hart(2)
    hart.vote(0, **featured())
    hart.vote(1, **featured(**wrong))
    images = mapping(tmp_path, (0, "original", 1), (1, "original", 2))
    made = gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    assert made.labelled == 2
    broken = violations(tree, fractions(read_catalogue(tmp_path / "a.parquet"), tree))
    assert {violation.row for violation in broken} == {1}
    assert any("bar" in violation.constraint for violation in broken)


def test_random_votes_always_make_labels_that_obey_the_tree(tmp_path: Path, tree: DecisionTree) -> None:
    rng = np.random.default_rng(7)
    hart = Hart(300)
    for row in range(300):
        values = rng.dirichlet(np.full(4, 0.3), size=37)[:, 0].round(3) * (rng.random(37) > 0.2)
        hart.vote(row, **dict(zip(tree.columns, values.tolist(), strict=True)))
    images = mapping(tmp_path, *((row, "original", row) for row in range(300)))
    gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")
    joint = fractions(read_catalogue(tmp_path / "a.parquet"), tree)
    assert violations(tree, joint, tolerance=1e-9) == []
    assert np.isnan(joint).any()


@pytest.mark.parametrize("kind", ["weighted_fraction", "fraction"])
def test_other_kinds_of_fractions_can_be_taken(tmp_path: Path, kind: str) -> None:
    hart = Hart(1, kind)
    hart.vote(0, **featured())
    gz2_labels(hart.write(tmp_path), mapping(tmp_path, (0, "original", 1)), tmp_path / "a.parquet", kind=kind)
    labels = read_catalogue(tmp_path / "a.parquet")
    assert metadata_of(labels)["kind"] == kind
    assert labels["smooth"].to_pylist() == [0.2]


def test_an_unknown_kind_and_a_missing_column_are_named(tmp_path: Path) -> None:
    hart, images = Hart(1), mapping(tmp_path, (0, "original", 1))
    with pytest.raises(CatalogueError, match=r'no kind "debiassed" \(did you mean "debiased"\?\)'):
        gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet", kind="debiassed")
    with pytest.raises(CatalogueError, match=r"1 columns are missing: t08_odd_feature_a24_merger_debiased"):
        gz2_labels(
            hart.write(tmp_path, without="t08_odd_feature_a24_merger_debiased"),
            images,
            tmp_path / "a.parquet",
        )


def test_ids_through_a_float_and_text_among_fractions_are_refused(tmp_path: Path) -> None:
    images = mapping(tmp_path, (0, "original", 1))
    for name, value in (("dr7objid", "5.87722981736120e17"), ("t03_bar_a06_bar_debiased", "many")):
        hart = Hart(1)
        hart.rows[0][name] = value
        with pytest.raises(CatalogueError, match=rf"gz2_hart16\.csv\.gz: not a readable table: .*{value}"):
            gz2_labels(hart.write(tmp_path), images, tmp_path / "a.parquet")


def test_a_truncated_table_is_refused(tmp_path: Path) -> None:
    path = Hart(50).write(tmp_path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CatalogueError, match=r"not a readable table.*fetch it anew"):
        gz2_labels(path, mapping(tmp_path, (0, "original", 1)), tmp_path / "a.parquet")
    assert not (tmp_path / "a.parquet").exists()


def test_tables_of_different_surveys_and_repeated_rows_are_refused(tmp_path: Path) -> None:
    table = Hart(1).write(tmp_path)
    with pytest.raises(CatalogueError, match="have no galaxy in common"):
        gz2_labels(table, mapping(tmp_path, (5, "original", 1)), tmp_path / "a.parquet")
    for rows in (((0, "original", 1), (0, "extra", 2)), ((0, "original", 1), (1, "original", 1))):
        with pytest.raises(
            CatalogueError, match=r"1 rows repeat a (dr7objid|asset_id) of the images of normal"
        ):
            gz2_labels(table, mapping(tmp_path, *rows), tmp_path / "a.parquet")
