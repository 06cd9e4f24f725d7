"""Heads, detectors and caches on a stand-in of the Hugging Face hub, and files at other addresses."""

import json

import numpy as np
import pytest
import yaml
from hub_stand_in import hub as serve

import featood
from featood.cache import FeatureSet
from featood.errors import DataError, UsageError
from featood.extractors.backbones import RANDOM
from featood.heads import create_head
from featood.hub import pull, push_to_hub
from featood.pipeline.detectors import make_detector
from featood.pipeline.extraction import ImageSource, Network, extract_dataset
from featood.pipeline.scoring import score
from featood.remote import HubAddress, local_file


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the stand-in, to which huggingface_hub connects."""
    from huggingface_hub import constants

    with serve() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_none")
        yield server


@pytest.fixture
def head():
    rng = np.random.default_rng(0)
    return create_head("knn", k=3).fit(FeatureSet({"avg": rng.normal(size=(50, 4))}, name="net/a/train"))


def write_results(path, **more):
    rng = np.random.default_rng(2)
    train, test, odd = (
        FeatureSet({"avg": rng.normal(size=(30, 4))}, name=f"net/{name}")
        for name in ("a/train", "a/test", "textures/test")
    )
    results = score({"knn": create_head("knn", k=3).fit(train)}, test, {"textures": odd}).results
    row = {
        "head": "knn", "ood": "textures", "split": "test", "auroc": 0.91, "aupr_in": 0.8, "aupr_out": 0.7, "fpr95": 0.3,
    }  # fmt: skip
    rows = [{**row, **more}, {**row, "head": "msp", "auroc": 0.5}]
    path.write_text(json.dumps({**results, "rows": rows}))
    return path


def test_a_head_comes_back_with_the_same_scores(hub, head, tmp_path):
    url = push_to_hub(head, "user/knn", licence="apache-2.0")
    assert url.startswith(f"{hub.url}/user/knn/commit/")
    files = hub.repos["models/user/knn"]
    assert set(files) == {"head.json", "head.safetensors", "README.md"}
    rows = FeatureSet({"avg": np.random.default_rng(1).normal(size=(20, 4))})
    np.testing.assert_array_equal(featood.load_head("hf://user/knn").score(rows), head.score(rows))
    assert featood.load_head(pull("hf://user/knn@main", tmp_path / "copy")).name == "knn"


def test_the_card_has_the_metrics_in_the_format_of_the_hub(hub, head, tmp_path):
    from huggingface_hub import ModelCard

    results = write_results(tmp_path / "results.json")
    push_to_hub(head, "user/knn", results=results, benchmarks={"textures": "owner/ood#far"})
    files = hub.repos["models/user/knn"]
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "featood" and "out-of-distribution-detection" in card.data.tags
    found = {(one.dataset_type, one.metric_type): one.metric_value for one in card.data.eval_results}
    assert found == {
        ("textures", "auroc"): 0.91, ("textures", "aupr_in"): 0.8, ("textures", "aupr_out"): 0.7,
        ("textures", "fpr95"): 0.3,
    }  # fmt: skip
    assert 'featood.load_head("hf://user/knn")' in card.text and "this/folder" not in card.text
    entry = {"dataset": {"id": "owner/ood", "task_id": "far"}, "value": 0.91, "notes": "AUROC"}
    assert yaml.safe_load(files[".eval_results/featood.yaml"]) == [entry]
    assert json.loads(files["results.json"])["rows"]


def test_a_detector_and_a_cache(hub, tmp_path):
    cache = featood.open_cache(tmp_path / "cache")
    network = Network("lenet", RANDOM, image_size=28)
    features = extract_dataset(cache, ImageSource("digits", ("test",)), network)[0].features
    head = create_head("msp")
    detector = make_detector(head.calibrate(features, 0.9), features)
    push_to_hub(detector, "user/detector")
    assert (
        "Calibrated on: lenet@random/digits/test" in hub.repos["models/user/detector"]["README.md"].decode()
    )
    loaded = featood.Detector.load("hf://user/detector")
    np.testing.assert_array_equal(loaded.calibration.scores, detector.calibration.scores)
    push_to_hub(tmp_path / "cache", "user/features")
    assert (
        f"lenet@random/digits/test: {len(features)} rows"
        in hub.repos["datasets/user/features"]["README.md"].decode()
    )
    copy = featood.open_cache(pull("hf://datasets/user/features", tmp_path / "copy"))
    np.testing.assert_array_equal(copy["lenet@random/digits/test"].logits[:], features.logits[:])


def test_what_cannot_be_published_is_refused_in_one_line(hub, head, tmp_path, featood):
    with pytest.raises(DataError, match="contains no fitted head, no detector and no feature cache"):
        push_to_hub(tmp_path, "user/nothing")
    head.save(tmp_path / "head")
    with pytest.raises(UsageError, match="no rows of knn, but of msp, vim"):
        push_to_hub(head, "user/knn", results=write_results(tmp_path / "other.json", head="vim"))
    (tmp_path / "wrong.json").write_text("[1]")
    with pytest.raises(DataError, match=r"wrong\.json has no complete evidence; score again"):
        push_to_hub(head, "user/knn", results=tmp_path / "wrong.json")
    good = write_results(tmp_path / "good.json")
    with pytest.raises(UsageError, match="OWNER/DATASET#TASK"):
        push_to_hub(head, "user/knn", results=good, benchmarks={"textures": "owner"})
    with pytest.raises(UsageError, match="0 rows of the head for lsun"):
        push_to_hub(head, "user/knn", results=good, benchmarks={"lsun": "owner/ood#far"})
    assert "models/user/knn" not in hub.repos
    code, out, err = featood("push", str(tmp_path / "head"), "a name/with spaces")
    assert code == 3 and "Traceback" not in err and not out
    code, out, _ = featood("push", str(tmp_path / "head"), "user/knn")
    assert code == 0 and "/commit/" in out
    code, out, err = featood("pull", "hf://user/knn", str(tmp_path / "head"))
    assert code == 2 and "exists; choose another folder" in err


def test_what_does_not_exist_is_said_in_one_line(hub, featood):
    code, _, err = featood("pull", "hf://user/none", "none")
    assert code == 3 and "hf://user/none does not exist, or is private" in err
    code, _, err = featood("predict", "hf://user/none", "photo.jpg")
    assert code == 3 and "does not exist" in err
    with pytest.raises(UsageError, match=r"hf://\[datasets/\]USER/NAME"):
        HubAddress.parse("hf://user")
    assert HubAddress.parse("hf://datasets/u/n@v1/sub/folder/") == ("u/n", "dataset", "v1", "sub/folder")


def test_embeddings_are_imported_from_any_address(hub, featood, tmp_path):
    import fsspec

    hub.repos["datasets/user/news"] = {"data/x.csv": b"a,b,kind\n1,2,x\n3,4,y\n5,7,x\n2,1,y\n8,3,x\n"}
    words = ["--label", "kind", "--split", "train", "--cache", str(tmp_path / "cache")]
    code, out, err = featood("import", "--file", "hf://datasets/user/news/data/x.csv", *words)
    assert code == 0 and "table-x/x/train: 5 rows imported" in out, err
    memory = fsspec.filesystem("memory")
    with memory.open("/far/rows.npy", "wb") as file:
        np.save(file, np.arange(6.0).reshape(3, 2))
    code, out, err = featood(
        "import",
        "--features",
        "memory://far/rows.npy",
        "--backbone",
        "b",
        "--dataset",
        "d",
        "--cache",
        words[-1],
    )
    assert code == 0 and "b/d/test: 3 rows imported" in out, err
    with pytest.raises(UsageError, match=r"nowhere://x\.csv cannot be opened"):
        local_file("nowhere://x.csv")
    with pytest.raises(DataError, match=r"memory://far/none.npy cannot be read"):
        local_file("memory://far/none.npy")
