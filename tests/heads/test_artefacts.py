import copy
import json
import pickle
import re
import shutil

import numpy as np
import pytest

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.heads import create_head, load_head
from featood.pipeline.fitted_heads import chosen_heads, find_heads
from featood.pipeline.fitting import fit_head
from featood.pipeline.selection import select
from featood.sealed import seal
from featood.testing import Subject
from featood.testing.fixture import synthetic_sets

TRAIN, TEST = synthetic_sets()
KNOWN = TRAIN.rows(np.asarray(TRAIN.labels) >= 0)
QUICK = {"epochs": 1, "depth": 2, "width": 8}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two heads on disk, one of them a network."""
    root = tmp_path_factory.mktemp("heads")
    for name, options in (("mlp", QUICK), ("knn", {})):
        create_head(name, **options).fit(KNOWN).save(root / name)
    return root


@pytest.fixture
def artefact(saved, tmp_path):
    """A copy to damage: ``artefact("mlp")`` is its folder."""
    return lambda name: shutil.copytree(saved / name, tmp_path / name)


@pytest.fixture
def selection(saved, tmp_path):
    """A cache in which both heads are fitted."""
    cache = FeatureCache(tmp_path / "cache")
    odd = TEST.rows(np.asarray(TEST.labels) < 0)
    for key, data in (("net/news/train", KNOWN), ("net/news/test", TRAIN.rows(range(40)))):
        import_arrays(cache, key, {"avg": data.features["avg"]}, labels=data.labels)
    import_arrays(cache, "net/spam/test", {"avg": odd.features["avg"]}, run={"role": "ood"})
    selection = select(cache, "net", "news")
    fit_head(selection, "knn")
    fit_head(selection, "mlp", QUICK)
    return selection


def edit(folder, change, sealed=True):
    """Change what head.json says, under a checksum that fits it or under the old one."""
    path = folder / "head.json"
    body = json.loads(path.read_bytes())
    change(body)
    body = seal({key: value for key, value in body.items() if key != "sha256"}) if sealed else body
    path.write_text(json.dumps(body))


def set_option(name, value):
    return lambda body: body["options"].update({name: value})


def set_entry(name, value):
    return lambda body: body.update({name: value})


def refused(error, folder, text):
    with pytest.raises(error, match=text) as caught:
        load_head(folder)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 400 and line.startswith(str(folder))
    assert line.endswith("fit the head again")


@pytest.mark.parametrize(
    "change",
    [
        set_option("width", 7),
        set_option("depth", 1),
        set_option("activation", "tanh"),
        set_entry("meta", None),
        set_entry("meta", {}),
        set_entry("head", "jem"),
        set_entry("schema", 2),
        set_entry("sha256", None),
        set_entry("more", 1),
    ],
)
def test_an_edited_head_json_is_noticed(artefact, change):
    folder = artefact("mlp")
    edit(folder, change, sealed=False)
    refused(CacheCorrupt, folder, "its own checksum")


def test_a_head_json_written_anew_with_the_same_content_is_sound(artefact):
    folder = artefact("mlp")
    before = load_head(folder)
    edit(folder, lambda body: None, sealed=False)
    assert load_head(folder).options == before.options


def test_a_head_without_checksum_is_of_an_older_version(artefact):
    folder = artefact("knn")
    edit(folder, lambda body: body.pop("sha256"), sealed=False)
    refused(CacheCorrupt, folder, "no checksum: an older version")


@pytest.mark.parametrize(
    "change",
    [
        set_option("width", 7),
        set_option("depth", 1),
        set_option("depth", "two"),
        set_option("width", 8.5),
        set_option("width", {}),
        set_entry("meta", None),
        set_entry("meta", {}),
        set_entry("meta", {"sizes": []}),
        set_entry("options", []),
        set_entry("schema", "one"),
        set_entry("head", 7),
        lambda body: body.pop("options"),
        lambda body: body.pop("tensors_sha256"),
    ],
)
def test_a_sound_record_of_another_network_is_damage_too(artefact, change):
    folder = artefact("mlp")
    edit(folder, change)
    with pytest.raises((CacheCorrupt, Mismatch)) as caught:
        load_head(folder)
    line = str(caught.value)
    assert str(folder) in line and "fit the head again" in line and "\n" not in line and len(line) < 400


def test_a_network_whose_tensors_do_not_fit_is_damage(artefact):
    folder = artefact("mlp")
    edit(folder, set_option("width", 7))
    refused(CacheCorrupt, folder, "is damaged .RuntimeError")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_option("colour", "red"), "(knn has no option 'colour')"),
        (set_option("k", 0), "(knn: k must be at least 1, not 0)"),
        (set_option("distance", "far"), "(knn: distance must be one of "),
    ],
)
def test_what_this_version_does_not_know_is_of_another(artefact, change, reason):
    folder = artefact("knn")
    edit(folder, change)
    refused(Mismatch, folder, re.escape(f"was written by another version of featood {reason}"))


def test_a_head_that_is_not_here_may_be_of_a_package_that_is_not_imported(artefact):
    folder = artefact("knn")
    edit(folder, set_entry("head", "knnn"))
    refused(
        Mismatch,
        folder,
        r"or by a head of a package or file that is not imported \(--head-file\) \(there is no head 'knnn'\)",
    )


def test_a_newer_format_asks_for_an_upgrade(artefact):
    folder = artefact("knn")
    edit(folder, set_entry("schema", 2))
    with pytest.raises(Mismatch, match="newer featood; upgrade"):
        load_head(folder)


def test_heads_of_another_version_stop_no_other(selection):
    folder = find_heads(selection)["mlp"]
    edit(folder, set_option("colour", "red"))
    heads, (skipped,) = chosen_heads(selection, [])
    assert list(heads) == ["knn"] and skipped.head == "mlp"
    assert skipped.reason.startswith(f"{folder} was written by another version")
    with pytest.raises(Mismatch, match="colour"):  # asked for by name
        chosen_heads(selection, ["knn", "mlp"])
    edit(find_heads(selection)["knn"], set_option("colour", "red"))
    with pytest.raises(Mismatch, match="knn"):  # nothing is left
        chosen_heads(selection, [])


def test_damaged_heads_stop_the_scoring(selection):
    folder = find_heads(selection)["mlp"]
    edit(folder, set_option("activation", "tanh"), sealed=False)
    with pytest.raises(CacheCorrupt, match=str(folder)):
        chosen_heads(selection, [])


def test_all_heads_are_those_of_the_cache_whatever_lies_about(selection, tmp_path, monkeypatch):
    create_head("knn", k=3).fit(KNOWN).save(tmp_path / "knn")
    monkeypatch.chdir(tmp_path)
    assert chosen_heads(selection, [])[0]["knn"].k != 3


def test_folders_of_one_name_are_told_apart(selection, tmp_path, monkeypatch):
    for k, place in ((3, "ha"), (4, "hb")):
        create_head("knn", k=k).fit(KNOWN).save(tmp_path / place / "knn")
    monkeypatch.chdir(tmp_path)
    heads, _ = chosen_heads(selection, ["ha/knn", "./hb/knn", "msp"])
    assert {name: head.options.get("k") for name, head in heads.items()} == {
        "ha/knn": 3,
        "./hb/knn": 4,
        "msp": None,
    }
    assert list(chosen_heads(selection, ["knn", "hb/knn"])[0]) == ["knn", "hb/knn"]
    assert list(chosen_heads(selection, ["hb/knn", "mlp"])[0]) == ["knn", "mlp"]


def test_a_folder_without_head_is_not_called_an_unknown_head(selection, tmp_path, monkeypatch):
    (tmp_path / "D").mkdir()
    (tmp_path / "msp").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"D holds no fitted head \(no head.json\)"):
        chosen_heads(selection, ["./D"])
    with pytest.raises(DataError, match=r"D holds no fitted head \(no head.json\)"):
        fit_head(selection, "rank-average", {"members": ("./D", "knn")})
    with pytest.raises(UsageError, match=re.escape("there is no head './E'")):
        chosen_heads(selection, ["./E"])
    assert list(chosen_heads(selection, ["msp"])[0]) == ["msp"]  # a folder of that name is not meant


def test_exit_codes_and_lines_of_the_command(featood, selection):
    words = ("score", "--ood", "spam", "--backbone", "net", "--dataset", "news")
    folder = find_heads(selection)["mlp"]
    whole = (folder / "head.json").read_bytes()
    edit(folder, set_option("colour", "red"))
    code, out, err = featood(*words)
    assert code == 0 and "knn" in out and "mlp" not in out
    assert f"left out mlp: {folder} was written by another version of featood" in err
    code, _, err = featood(*words, "--head", "mlp")
    assert code == 5 and err.count("error: ") == 1 and str(folder) in err
    (folder / "head.json").write_bytes(whole.replace(b'"silu"', b'"tanh"'))
    code, _, err = featood(*words)
    assert code == 4 and err.count("error: ") == 1 and str(folder) in err and "unexpected" not in err


@pytest.mark.parametrize("name", ["knn", "gmm", "heat-gmm", "compose", "msp"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))])
def test_copies_of_a_fitted_head_score_as_it_does(name, copied):
    subject = Subject.of(name)
    again = copied(subject.fitted)
    np.testing.assert_array_equal(again.score(subject.test), subject.scores)
    assert again.record == subject.fitted.record and again.options == subject.fitted.options
    with pytest.raises(AttributeError, match="are immutable"):
        again.nonfinite = "drop"
    with pytest.raises(TypeError):
        again.state["other"] = None


def test_a_long_value_in_a_record_does_not_make_a_long_message(tmp_path):
    folder = create_head("knn").fit(KNOWN).save(tmp_path / "head")
    body = json.loads((folder / "head.json").read_bytes())
    body.pop("sha256")
    body["options"]["nonfinite"] = "x" * 5000
    (folder / "head.json").write_text(json.dumps(seal(body)))
    with pytest.raises(Mismatch, match="nonfinite must be one of") as caught:
        load_head(folder)
    assert len(str(caught.value)) < 300 + len(str(folder))
