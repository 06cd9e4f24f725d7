"""Results of score maps, and the report of them."""

import json
import re

import pytest
from helpers.scenes import CODE, write_scenes
from PIL import Image

from featood.errors import CacheCorrupt, DataError, Mismatch
from featood.pipeline.dense_results import saved_maps
from featood.sealed import write_json


@pytest.fixture
def scored(tmp_path, monkeypatch, featood):
    """The folder of the score maps of five scenes by two heads."""
    monkeypatch.chdir(tmp_path)
    write_scenes(tmp_path, {"train": 6, "test": 5}, (24, 36))
    assert featood("dense", "extract", "--backbone", CODE, "--dataset", "./scenes", "--pixels", "40")[0] == 0
    words = ["--code", CODE, "--head", "msp", "--head", "energy", "--json", "a.json", "--maps", "maps"]
    code, _, err = featood("dense", "score", *words)
    assert code == 0 and "featood report --maps maps shows them" in err, err
    return tmp_path / "maps"


def test_the_report_shows_the_maps(scored, featood, tmp_path):
    code, _, err = featood("report", "--maps", "maps", "--out", "page.html")
    assert code == 0, err
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<td><img src="data:image/webp', html)) == 5 * 4
    for row in json.loads((tmp_path / "a.json").read_text())["rows"]:
        for name in ("auroc", "aupr_out", "fpr95_ood", "siou", "pro"):
            assert f"{100 * row[name]:.2f}" in html
    code, _, err = featood("report", "--maps", "maps", "--from", "a.json")
    assert code == 2 and "--maps has its own results" in err
    code, _, err = featood("report", "--maps", "maps", "--head", "msp")
    assert code == 2 and "--maps shows saved results as they are" in err


@pytest.mark.parametrize("file", ["a.json", "maps/results.json"])
def test_verify_says_what_to_do_with_them(scored, featood, tmp_path, file):
    code, out, err = featood("verify", tmp_path / file)
    assert code == 3 and not out and len(err.splitlines()) == 1
    assert "has results of featood dense score" in err and "score into another folder by --maps" in err


def test_results_that_do_not_fit_are_refused(scored, tmp_path):
    results, found = saved_maps(scored)
    assert list(found.maps) == ["msp", "energy"] and len(found.masks) == 5
    assert found.rows()[0]["auroc"] == results["rows"][0]["auroc"]
    with pytest.raises(DataError, match="give the folder that featood dense score names"):
        saved_maps(tmp_path)

    def changed(**fields):
        write_json(scored / "results.json", {**results, **fields})

    changed(rows=[{**results["rows"][0], "head": "../msp"}])
    with pytest.raises(DataError, match="the name of a head contains '/'"):
        saved_maps(scored)
    changed(rows=[])
    with pytest.raises(DataError, match="rows is empty"):
        saved_maps(scored)
    changed(images={**results["images"], "dataset": 3})
    with pytest.raises(DataError, match=r"images\.dataset .*score again"):
        saved_maps(scored)
    (scored / "results.json").write_text("{")
    with pytest.raises(CacheCorrupt, match="is not readable JSON; score again"):
        saved_maps(scored)
    changed()
    Image.new("RGB", (36, 24)).save(tmp_path / "scenes/test/images/0.png")
    with pytest.raises(Mismatch, match="have changed; score them again"):
        saved_maps(scored)
