"""Similar galaxies in a browser: neighbours, their order on the wall, ranks by tag, the map."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect
from tests.gallery.conftest import GALAXIES, served

from hubblefork.data.trained import weights_file
from hubblefork.gallery.features import DIMENSIONS, description
from hubblefork.gallery.similar import FeatureIndex
from hubblefork.io import digest_of


@pytest.fixture(scope="module")
def seen(files, tmp_path_factory):
    """A catalogue whose images were looked at by `fork`, as far as it knows."""
    catalogue = tmp_path_factory.mktemp("seen") / "sky.parquet"
    shutil.copy(files.catalogue, catalogue)
    folder, rng = catalogue.with_name("sky.parquet.gallery") / "features", np.random.default_rng(0)
    folder.mkdir(parents=True)
    ids = np.array([str(1000 + row) for row in range(GALAXIES)], object)
    weights = digest_of(weights_file(Path("fork")))
    (folder / "index.json").write_text(json.dumps(description(ids, weights)))
    np.save(folder / "features.npy", rng.standard_normal((GALAXIES, DIMENSIONS)).astype(np.float32))
    np.save(folder / "unfamiliarity.npy", rng.random((GALAXIES, 1)))
    np.save(folder / "map.npy", rng.random((GALAXIES, 2)))
    arrays = {"mean": np.zeros(1280), "components": np.zeros((DIMENSIONS, 1280)), "explained": 0.9}
    np.savez(folder / "projection.npz", **arrays)
    return replace(files, catalogue=catalogue), FeatureIndex.open(folder)


def test_neighbours_their_order_and_ranks_by_tag(seen, screen):
    files, index = seen
    with served(files) as (_, address):
        page = screen()
        page.goto(f"{address}/galaxy/1010")
        near = page.locator("[data-near-list] .tile")
        expect(near).to_have_count(16)
        assert near.first.inner_text().split()[0] == str(1000 + index.nearest(10, 1)[0][0])
        page.get_by_role("link", name="all in this order").click()
        expect(page.locator("main .tile").first).to_contain_text("1010")
        for galaxy in range(1020, 1025):
            said = {"person": "Ada", "galaxy_id": str(galaxy), "kind": "tag", "value": "ring"}
            page.request.post(f"{address}/api/marks", data=said, headers={"Origin": address})
        page.reload()
        choice = page.locator("[data-like-tag]")
        choice.focus()
        expect(choice.locator("option[value=ring]")).to_have_text("ring (5)")
        choice.select_option("ring")
        scores = index.ranked(np.arange(20, 25))
        expect(page.locator("main .tile").first).to_contain_text(str(1000 + int(np.argmax(scores))))
        page.get_by_role("button", name="Map of the galaxies").click()
        expect(page.locator(".plot-area .main-svg").first).to_be_visible()


def test_odd_first_before_the_features_are_there_offers_to_look_at_all_images(address, screen):
    page = screen()
    page.goto(f"{address}/?sort=-unfamiliarity")
    fault = page.locator("[data-fault]")
    expect(fault).to_contain_text("once the network has looked at all images")
    expect(fault.get_by_role("button", name="Let the network look at all images")).to_be_visible()
