"""Fine-tuning: a run and a few labels of one's own make a run of these, better than from chance."""

import csv
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import fits
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression, Ridge
from typer.testing import CliRunner

from hubblefork.api.fractions import fraction
from hubblefork.api.galaxy import galaxies_of
from hubblefork.api.judging import evaluate
from hubblefork.cli import app
from hubblefork.data.folders import RunFolder
from hubblefork.data.labels import tree_of_classes, tree_of_number
from hubblefork.data.split import Split
from hubblefork.data.trained import PACKAGED
from hubblefork.errors import BusyError, CatalogueError, DownloadError, ImageError, RecipeError, RunError
from hubblefork.io import alone_in, read_json
from hubblefork.network import finetuning
from hubblefork.network.finetuning import PENALTY, features_of, finetune, fit_last_layer, recipe_for
from hubblefork.network.model import VoteFractions
from hubblefork.network.recipe import override
from hubblefork.network.training import train
from hubblefork.network.weights import load_weights, read_recipe, save_weights
from hubblefork.pages.run import write_report
from hubblefork.prediction.output import predict
from hubblefork.tables.catalogue import fractions, galaxy_ids, read_catalogue, write_catalogue
from hubblefork.zoo import Number, number_column, parse_tree, plain_columns, read_tree, violations

from .conftest import blob

SPLIT = Split("mine", test=30, validation=20)
QUICK = ["epochs=6", "patience=6"]
GALAXIES = 200
SHAPES = """
name = "shapes"
[[questions]]
name = "shape"
text = "Is it round?"
root = true
answers = [
    { name = "round", text = "round", column = "round" },
    { name = "long", text = "long", column = "long", leads_to = "thin" },
]
[[questions]]
name = "thin"
text = "Is it thin?"
answers = [
    { name = "thin", text = "thin", column = "thin" },
    { name = "thick", text = "thick", column = "thick" },
]
"""


@pytest.fixture(scope="session")
def sky(tmp_path_factory):
    """Blobs in a zip, some of them labelled: long or not, and how bright, which the run was never asked."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(11)
    roundness = rng.permutation(np.linspace(0, 1, GALAXIES))
    with zipfile.ZipFile(folder / "cutouts.zip", "w") as archive:
        for number, value in enumerate(roundness):
            archive.writestr(f"{5000 + number}.jpg", blob(value))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["galaxy_id", "long", "roundish"])
        for number, value in enumerate(roundness[:-20]):
            shown = "" if number % 7 == 0 else f"{value:.3f}"
            writer.writerow([5000 + number, int(value + rng.normal(0, 0.05) < 0.4), shown])
    with (folder / "shapes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["galaxy_id", "round", "long", "thin", "thick"])
        for number, value in enumerate(np.round(roundness, 3)):
            writer.writerow([5000 + number, value, 1 - value, (1 - value) ** 2, (1 - value) * value])
    with (folder / "others.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["galaxy_id", "kind", "size"])
        for number, value in enumerate(roundness):
            kind = ["long", "oval", "round"][int(3 * value - 1e-9)]
            size = "" if number % 9 == 0 else f"{1000 + 50 * value:.2f}"
            writer.writerow([5000 + number, "" if number % 8 == 0 else kind, size])
    (folder / "kaggle").mkdir()
    (folder / "kaggle" / "training_solutions_rev1.csv").write_text("GalaxyID,Class1.1\n5000,0.5\n")
    shutil.copy(folder / "cutouts.zip", folder / "kaggle" / "images_training_rev1.zip")
    return folder


def tuned(run, sky, out, **kwargs):
    kwargs = {"columns": ["long"], "settings": QUICK, "split": SPLIT, **kwargs}
    return finetune(run, sky / "cutouts.zip", sky / "labels.csv", out, **kwargs)


@pytest.fixture(scope="session")
def own(trained, sky, tmp_path_factory):
    return tuned(trained, sky, tmp_path_factory.mktemp("own") / "run", columns=[])


def rows_of(run):
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "galaxies_per_second")}
        for row in RunFolder(run).metrics()
    ]


def test_it_is_a_run_of_the_labelled_galaxies_alone(own, trained):
    weights, before = load_weights(own), load_weights(trained).recipe
    assert weights.tree == read_tree(own) == read_tree(own / "data") == plain_columns(["long", "roundish"])
    ids = galaxy_ids(read_catalogue(own / "data" / "catalogue.parquet"))
    assert sum(RunFolder(own).notes()["galaxies"].values()) == len(ids) > GALAXIES - 30
    assert ids.max() < 5000 + GALAXIES - 20
    recipe = weights.recipe
    assert recipe.stamps == before.stamps and recipe.architecture == before.architecture
    assert (recipe.name, recipe.head, recipe.epochs) == ("lab-cnn-finetuned", "sigmoid", 6)
    assert (recipe.rotation, recipe.flip) == (180, 0.5)
    assert RunFolder(own).notes()["start"].startswith("start.safetensors (SHA-256")
    assert np.isnan(rows_of(own)[0]["validation_agreement"])


def test_a_few_labels_do_better_after_a_tree_than_from_chance(own, trained, tmp_path):
    found = evaluate(own, device="cpu")
    chance = train(
        own / "data", replace(read_recipe(own), learning_rate=1e-3), tmp_path / "chance", device="cpu"
    )
    other = evaluate(chance, device="cpu")
    assert found["rmse"]["value"] < 0.6 * other["rmse"]["value"]
    assert found["answers"]["long"]["binary"]["auc"]["value"] > 0.97
    assert found["agreement"] is None and found["mergers"] is None
    assert "binary" not in found["answers"]["roundish"]
    assert found["baselines"]["mean_vote"]["behind"]["p_value"] < 0.01


def test_the_verbs_after_it_know_its_columns(own, sky, tmp_path):
    out = tmp_path / "predictions.parquet"
    assert predict(own, sky / "cutouts.zip", out, device="cpu").galaxies == GALAXIES  # twins and all
    table = read_catalogue(out)
    assert table.column_names == ["galaxy_id", "long", "roundish"]
    said = CliRunner().invoke(app, ["evaluate", str(own), "--device", "cpu"])
    assert "AUC" in said.output and "mergers" not in said.output, said.output
    counted = CliRunner().invoke(app, ["mergers", str(out), "--answer", "long", "--threshold", "0.5"])
    assert counted.exit_code == 0, counted.output
    with pytest.raises(Exception, match='"merger" is not an answer of plain_columns'):
        CliRunner().invoke(app, ["mergers", str(out)], catch_exceptions=False)
    page = write_report(own).read_text()
    assert "roundish" in page and "erger" not in page.partition("Sources")[0]


def test_questions_of_ones_own_are_obeyed(trained, sky, tmp_path):
    tree = parse_tree(SHAPES, "here")
    run = finetune(
        trained,
        sky / "kaggle",
        sky / "shapes.csv",
        tmp_path / "run",
        tree=tree,
        settings=QUICK,
        split=SPLIT,
    )
    assert load_weights(run).tree == tree and read_recipe(run).head == "tree"
    found = evaluate(run, device="cpu")
    assert found["rmse"]["value"] < 0.5 * found["baselines"]["mean_vote"]["rmse"]["value"]
    assert found["questions"]["thin"]["agreement"]["value"] > 0.7
    predicted = fractions(read_catalogue(run / "predictions" / "test.parquet"), tree)
    assert violations(tree, predicted, 1e-5) == []


def test_a_number_is_learned_predicted_and_judged_in_its_unit(trained, sky, tmp_path):
    tree, out = tree_of_number(sky / "others.csv", "size", "kpc"), tmp_path / "run"
    finetune(trained, sky / "cutouts.zip", sky / "others.csv", out, tree=tree, settings=QUICK, split=SPLIT)
    weights = load_weights(out)
    assert weights.tree == read_tree(out) == tree and 1020 < tree.number.mean < 1030
    found = evaluate(out, device="cpu")
    assert (found["unit"], found["agreement"], found["constraint_violation"]) == ("kpc", None, 0)
    assert found["rmse"]["value"] < 0.5 * tree.number.width
    assert found["rmse"]["value"] == pytest.approx(found["answers"]["size"]["rmse"]["value"])
    assert set(found["baselines"]) == {"mean_vote", "central_pixel", "kaggle_central_pixel"}
    assert found["baselines"]["mean_vote"]["rmse"]["value"] == pytest.approx(tree.number.width, rel=0.2)
    assert min(row["validation_rmse"] for row in RunFolder(out).metrics()) < 0.5 * tree.number.width
    assert read_json(RunFolder(out).confusions(1), RunError, "")["answers"] == {}
    predict(out, sky / "cutouts.zip", tmp_path / "sizes.fits", device="cpu")
    table = read_catalogue(tmp_path / "sizes.fits")
    sizes = table.column("size").to_numpy()
    assert 1000 < sizes.mean() < 1050 and sizes.std() > 10
    with fits.open(tmp_path / "sizes.fits") as file:
        assert (file[1].header["TUNIT2"], file[1].header["QUANTITY"]) == ("kpc", "number")
    with pytest.raises(CatalogueError, match="size is a number: what is counted"):
        fraction(tmp_path / "sizes.fits", "size >= 0.5")
    said = next(galaxies_of(table, tree, 0.9))
    assert str(said).splitlines()[::2] == ["5000: predicted", f"{'  size':<38} {sizes[0]:.4g} kpc"]
    page = " ".join(write_report(out).read_text().split())
    assert "RMSE of the number in kpc is" in page


def test_classes_are_fractions_that_sum_to_one_and_are_judged_by_class(trained, sky, tmp_path):
    tree, out = tree_of_classes(sky / "others.csv", "kind"), tmp_path / "run"
    finetune(trained, sky / "cutouts.zip", sky / "others.csv", out, tree=tree, settings=QUICK, split=SPLIT)
    found = evaluate(out, device="cpu")
    judged = found["questions"]["kind"]
    assert judged["agreement"]["value"] > 0.75 and judged["log_loss"]["value"] < 0.6 * np.log(3)
    assert list(judged["classes"]) == ["long", "oval", "round"]
    predict(out, sky / "cutouts.zip", tmp_path / "kinds.parquet", device="cpu")
    shares = fractions(read_catalogue(tmp_path / "kinds.parquet"), tree)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    said = CliRunner().invoke(app, ["evaluate", str(out), "--device", "cpu"])
    assert "log-loss" in said.output and "AUC" not in said.output, said.output
    assert "log-loss" in write_report(out, sections=["questions"]).read_text()


SMALL = ["crop=64", "stamp_size=48", "input_size=32", "epochs=1"]


def test_a_published_encoder_is_a_start(sky, tmp_path):
    """EfficientNet-Lite2's weights of photographs are part of the package."""
    name, out = "encoder:tf_efficientnet_lite2.in1k", tmp_path / "run"
    settings = [*SMALL, "unfreeze=head", "learning_rate=1e-9"]
    recipe = read_recipe(tuned(name, sky, out, columns=["roundish"], settings=settings))
    assert (recipe.architecture, recipe.pretrained, recipe.hidden_layers) == (name, "", 0)
    published = load_file(PACKAGED / "tf_efficientnet_lite2.in1k.safetensors")
    own = load_weights(out).network.features[0].network
    assert torch.equal(own.conv_stem.weight, published["conv_stem.weight"].float())
    assert torch.equal(own.bn2.running_mean, published["bn2.running_mean"].float())
    found = evaluate(out, device="cpu")
    assert found["rmse"]["value"] < 0.7 * found["baselines"]["mean_vote"]["rmse"]["value"]


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        (
            "hf_hub:mwalmsley/zoobot-encoder-convnext_nano",
            r"config\.json .*mwalmsley/zoobot-encoder-convnext_nano",
        ),
        ("resnet10t", r"model\.safetensors of timm/resnet10t\.c3_in1k is not on this computer"),
    ],
)
def test_offline_it_is_said_which_file_is_missing(sky, tmp_path, monkeypatch, name, missing):
    def refuse(*_, **__):
        raise OSError("the network is refused")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DownloadError, match=missing):
        tuned(f"encoder:{name}", sky, tmp_path / "run", settings=SMALL)
    assert not (tmp_path / "run").exists()


def tuned_to(labels, trained, data, tree, out):
    """Fine-tune to fractions of the run's own tree with a rate of nothing: what training begins with."""
    write_catalogue(labels.select(["galaxy_id", *tree.columns]), out.with_suffix(".parquet"))
    return finetune(
        trained, data / "images.zip", out.with_suffix(".parquet"), out,
        tree=tree, settings=["epochs=1", "learning_rate=1e-12", "fit_offsets=false"], split=SPLIT,
    )  # fmt: skip


def last_layer_and_others(run):
    tensors = load_weights(run).network.features.state_dict()
    last = f"{len(load_weights(run).network.features) - 1}."
    return (
        {name: t for name, t in tensors.items() if name.startswith(last) == is_last} for is_last in (1, 0)
    )


def test_a_last_layer_that_is_better_than_the_fitted_one_is_kept(trained, data, tree, tmp_path, monkeypatch):
    monkeypatch.setattr(finetuning, "fit_last_layer", spoilt)
    run = tuned_to(read_catalogue(data / "catalogue.parquet"), trained, data, tree, tmp_path / "run")
    before, after = (load_weights(place).network.state_dict() for place in (trained, run))
    for name, tensor in before.items():
        if "tracked" not in name:
            assert torch.allclose(after[name], tensor, atol=1e-6), name
    assert read_recipe(run).head == read_recipe(trained).head


def spoilt(network, *_, from_zero):
    torch.nn.init.normal_(network.features[-1].weight, std=10.0)


def test_a_last_layer_that_errs_is_fitted_anew(trained, data, tree, tmp_path, monkeypatch):
    labels = read_catalogue(data / "catalogue.parquet")
    run = tuned_to(labels, trained, data, tree, tmp_path / "run")
    (last, others), (new, same) = map(last_layer_and_others, (trained, run))
    assert not torch.allclose(*(next(iter(layer.values())) for layer in (last, new)), atol=1e-3)
    assert all(torch.allclose(same[name], others[name]) for name in others if "tracked" not in name)
    monkeypatch.setattr(finetuning, "fit_last_layer", lambda *network, from_zero: None)
    kept = tuned_to(labels, trained, data, tree, tmp_path / "kept")
    errors = [RunFolder(place).metrics()[0]["validation_rmse"] for place in (run, kept)]
    assert errors[0] < errors[1] - 0.001


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("test", "validation", "part"), [(30, 0, "validation"), (50, 50, "train")])
def test_without_galaxies_of_a_part_the_error_says_so(trained, data, tree, tmp_path, test, validation, part):
    labels = read_catalogue(data / "catalogue.parquet").select(["galaxy_id", *tree.columns]).slice(0, 30)
    write_catalogue(labels, tmp_path / "labels.parquet")
    with pytest.raises(CatalogueError, match=f"in the {part} part of .*; give that part more per cent"):
        finetune(
            trained, data / "images.zip", tmp_path / "labels.parquet", tmp_path / "run",
            tree=tree, settings=["epochs=1"], split=Split("a", test=test, validation=validation),
        )  # fmt: skip


def test_features_that_hardly_vary_do_not_decide(quick):
    """An encoder's dead features, alive in two galaxies, had weights of hundreds: others were saturated."""
    torch.manual_seed(0)
    network = VoteFractions(override(quick, ["head=sigmoid"]), plain_columns(["yes"]))
    features = torch.randn(90, network.features[-1].in_features)
    features[:, 1::3] = 0.0
    features[:2, 1::3] = 1e-3
    labels = (features[:, :1] + 0.3 * torch.randn(90, 1) > 0).float()
    labels[:2] = 1.0
    fit_last_layer(network, features, labels)
    assert network.features[-1](torch.ones_like(features)).abs().max() < 20


@pytest.mark.filterwarnings("error")
def test_one_galaxy_gives_a_last_layer_of_numbers(quick):
    """Its features have no spread, so that only the constants are fitted."""
    network = VoteFractions(override(quick, ["head=sigmoid"]), plain_columns(["yes"]))
    feature = torch.randn(1, network.features[-1].in_features)
    fit_last_layer(network, feature, torch.tensor([[0.8]]))
    layer = network.features[-1]
    assert torch.equal(layer.weight, torch.zeros_like(layer.weight)) and torch.isfinite(layer.bias).all()
    assert float(network.head(layer(feature))[0, 0].detach()) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("out", [".", "run"])
def test_a_run_is_not_written_among_the_images(tmp_path, out):
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(blob(0.5))
    labels = "".join(f"{number},{number % 2}\n" for number in range(12))
    (tmp_path / "labels.csv").write_text(f"galaxy_id,ring\n{labels}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImageError, match=r"the folder of the images, .*choose a folder elsewhere \(--out\)"):
        finetune("fork", tmp_path, tmp_path / "labels.csv", tmp_path / out, split=SPLIT)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_statistics_of_batch_normalisation_stay(own, trained):
    for name, tensor in load_weights(trained).network.state_dict().items():
        if "running" in name:
            assert torch.equal(load_weights(own).network.state_dict()[name], tensor), name


class Stop(Exception):
    pass


def test_interrupted_it_goes_on_to_the_same_end(own, trained, sky, tmp_path, monkeypatch):
    write = RunFolder.write_metrics

    def killed(run, rows):
        write(run, rows)
        if len(rows) == 4:
            raise Stop

    out = tmp_path / "run"
    monkeypatch.setattr(RunFolder, "write_metrics", killed)
    with pytest.raises(Stop):
        tuned(trained, sky, out, columns=[])
    monkeypatch.setattr(RunFolder, "write_metrics", write)
    assert not RunFolder(out).is_finished()
    before = (out / "data" / "catalogue.parquet").stat().st_mtime_ns
    tuned(trained, sky, out, columns=[])
    for one, other in zip(rows_of(out), rows_of(own), strict=True):
        assert one["learning_rate"] == other["learning_rate"]
        assert one["validation_rmse"] == pytest.approx(other["validation_rmse"], abs=0.02)
    assert (out / "data" / "catalogue.parquet").stat().st_mtime_ns == before


def test_a_folder_of_other_labels_or_of_another_run_is_left_alone(own, trained, sky, data, tmp_path):
    with pytest.raises(RunError, match="columns differ"):
        tuned(trained, sky, own)
    with pytest.raises(RunError, match="labels, columns differ"):
        finetune(trained, sky / "cutouts.zip", sky / "shapes.csv", own, columns=["round"], split=SPLIT)
    with pytest.raises(RunError, match="start differ"):
        other = tmp_path / "weights.safetensors"
        weights = load_weights(trained)
        save_weights(other, weights.network.state_dict(), weights.recipe, weights.tree, epoch=99)
        tuned(other, sky, own, columns=[])
    with pytest.raises(RunError, match="holds a run that is no fine-tuning"):
        tuned(trained, sky, trained)


def test_a_second_fine_tuning_of_a_folder_is_refused_until_the_first_ends(trained, sky, tmp_path):
    with (
        alone_in(tmp_path / "run", "at work"),
        pytest.raises(BusyError, match="run: another process is fine-tuning or training here"),
    ):
        tuned(trained, sky, tmp_path / "run")
    assert not any((tmp_path / "run").iterdir())


def test_moved_cutouts_of_the_same_names_are_the_same(own, trained, sky, tmp_path):
    shutil.copy(sky / "cutouts.zip", tmp_path / "cutouts.zip")
    shutil.copy(sky / "labels.csv", tmp_path / "labels.csv")
    before = (own / "weights.safetensors").read_bytes()
    assert tuned(trained, tmp_path, own, columns=[]) == own
    assert (own / "weights.safetensors").read_bytes() == before


def test_bad_labels_leave_nothing_behind(trained, sky, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(CatalogueError, match='there is no column "lang" \\(did you mean "long"'):
        tuned(trained, sky, out, columns=["lang"])
    with pytest.raises(CatalogueError, match="3 of the 4 columns of shapes are missing"):
        tree = parse_tree(SHAPES, "here")
        tuned(trained, sky, out, columns=[], tree=tree)
    with pytest.raises(RecipeError, match='no field "epoch"'):
        tuned(trained, sky, out, settings=["epoch=3"])
    with pytest.raises(RecipeError, match="long of plain_columns stand alone"):
        tuned(trained, sky, out, settings=["head=lab"])
    with pytest.raises(RecipeError, match="no highest answer to agree on"):
        tuned(trained, sky, out, settings=["monitor=validation_agreement"])
    assert not out.exists()


def test_a_run_with_adapters_is_to_be_merged_first(trained, sky, tmp_path, monkeypatch):
    weights = load_weights(trained)
    adapted = replace(
        weights, recipe=replace(weights.recipe, architecture="encoder:resnet10t", adapter_rank=2)
    )
    monkeypatch.setattr(finetuning, "load_weights", lambda place: adapted)
    with pytest.raises(RunError, match="merge them first: hubblefork export"):
        tuned(trained, sky, tmp_path / "run")


def standardised(features):
    spread = features.std(axis=0, ddof=1)
    return (features - features.mean(axis=0)) / np.maximum(spread, np.median(spread[spread > 1e-6]) / 2)


def test_the_last_layer_is_a_logistic_regression(quick, tree):
    torch.manual_seed(0)
    own = plain_columns(["yes", "other"])
    network = VoteFractions(override(quick, ["head=sigmoid"]), own)
    views = torch.rand(90, 3, 32, 32) * torch.linspace(0.2, 1, 90).view(-1, 1, 1, 1)
    labels = torch.stack([(torch.arange(90) + 20 * torch.randn(90) > 45).float(), torch.rand(90)], dim=1)
    labels[::3, 1] = torch.nan
    fit_last_layer(network, features_of(network, [views]), labels)
    with torch.no_grad():
        features = network.eval().features[:-1](views).numpy().astype(float)
        fitted = network(views)[:, 0].numpy()
    standard = standardised(features)
    ridge = PENALTY * standard.shape[1]
    peer = LogisticRegression(C=1 / ridge, tol=1e-8, max_iter=1000).fit(standard, labels[:, 0].numpy())
    np.testing.assert_allclose(fitted, peer.predict_proba(standard)[:, 1], atol=2e-3)
    assert 0.02 < network(views)[:, 1].std() < 0.3


def test_the_last_layer_of_a_number_is_a_ridge_regression(quick):
    torch.manual_seed(0)
    network = VoteFractions(quick, number_column("mass", Number(500.0, 20.0)))
    views = torch.rand(90, 3, 32, 32) * torch.linspace(0.2, 1, 90).view(-1, 1, 1, 1)
    labels = 500 + torch.linspace(-30, 30, 90).view(-1, 1) + 5 * torch.randn(90, 1)
    labels[::4] = torch.nan
    fit_last_layer(network, features_of(network, [views]), labels)
    with torch.no_grad():
        features = network.eval().features[:-1](views).numpy().astype(float)
        fitted = network(views)[:, 0].numpy()
    standard = standardised(features)
    known = ~np.isnan(labels[:, 0].numpy())
    peer = Ridge(PENALTY * standard.shape[1]).fit(standard[known], (labels[known, 0].numpy() - 500) / 20)
    np.testing.assert_allclose(fitted, 500 + 20 * peer.predict(standard), atol=0.05)


def test_settings_are_open_and_those_of_large_runs_are_not_kept(trained):
    weights = load_weights(trained)
    large = replace(
        weights, recipe=replace(weights.recipe, ema_decay=0.999, max_minutes=5.0, steps_per_epoch=200)
    )
    recipe = recipe_for(large, plain_columns(["ring"]), ["epochs=3", "flip=0"])
    assert (recipe.ema_decay, recipe.max_minutes, recipe.steps_per_epoch) == (0, 0, 0)
    assert (recipe.epochs, recipe.flip) == (3, 0)
