"""The benchmark of other light: whose images are predicted and what is counted, not how well."""

import json
import zipfile

import numpy as np
import pyarrow as pa
import pytest

import robustness
from hubblefork.data.folders import DataFolder
from hubblefork.errors import CatalogueError
from hubblefork.tables.catalogue import fractions, galaxy_ids, write_catalogue


@pytest.fixture
def predicted(data, tree, monkeypatch):
    """Replace networks by one that knows the fractions, in one light; return the images that it was shown."""
    catalogue, shown = DataFolder(data).catalogue(), []
    known = dict(
        zip(galaxy_ids(catalogue).astype(str), np.nan_to_num(fractions(catalogue, tree)), strict=True)
    )

    def predict(network, archive, *, views, interval):
        with zipfile.ZipFile(archive) as images:
            shown.append({name.removesuffix(".jpg"): images.read(name) for name in images.namelist()})
        ids = [name for name in shown[-1] if name not in network.split()]
        values = np.array([known[name] for name in ids])
        columns = {"galaxy_id": ids}
        for end, off in (("", 0.1), ("_low", -0.1), ("_high", 0.1)):
            columns |= {f"{name}{end}": values[:, k] + off for k, name in enumerate(tree.columns)}
        return columns

    monkeypatch.setattr(robustness.hf, "predict", predict)
    monkeypatch.setattr(robustness, "LIGHTS", {"as they are": robustness.LIGHTS["as they are"]})
    return shown


def test_only_votes_that_are_known_are_counted(data, tmp_path, predicted):
    robustness.main([str(data), str(tmp_path), "--network", "all", "--interval", "0.9"])
    found = json.loads((tmp_path / "robustness-validation-1.json").read_text())
    assert found["galaxies"] == len(predicted[0]) > 20
    assert found["rmse"]["as they are"]["all"] == pytest.approx(0.1)
    assert found["held"]["as they are"]["all"] == 1


def test_a_galaxy_without_a_prediction_is_named(data, tmp_path, predicted):
    robustness.main([str(data), str(tmp_path), "--network", "all"])
    first, second, *_, last = predicted[0]
    said = rf"as they are.*3 of {len(predicted[0])} galaxies are not predicted: {first}, {second}, {last};"
    with pytest.raises(CatalogueError, match=said):
        robustness.main([str(data), str(tmp_path), "--network", f"{first} {second} {last}"])


def test_archives_are_those_of_the_galaxies(data, tmp_path, predicted):
    catalogue = DataFolder(data).catalogue()
    column = catalogue.schema.get_field_index("member")
    turned = pa.array(catalogue.column("member").to_pylist()[::-1])
    for folder, changed in {
        tmp_path / "fewer": catalogue.slice(0, 120),
        tmp_path / "other": catalogue.set_column(column, "member", turned),
    }.items():
        folder.mkdir()
        write_catalogue(changed, folder / "catalogue.parquet")
        (folder / "split.toml").write_bytes((data / "split.toml").read_bytes())
    for folder in (data, tmp_path / "fewer", tmp_path / "other", data):
        robustness.main([str(folder), str(tmp_path / "out"), "--network", "all"])
    whole, fewer, other, again = predicted
    assert len(fewer) < len(whole) == len(other) and whole == again
    assert whole.keys() == other.keys() and all(whole[name] != other[name] for name in whole)
