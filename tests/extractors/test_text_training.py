"""Networks trained on texts: the words, the folder, and extraction with it."""

import json

import numpy as np
import pytest
import torch

from featood.cache import FeatureCache
from featood.errors import CacheCorrupt
from featood.extractors.trainer import load_extractor
from featood.extractors.words import WordTokenizer, words_of

TRAIN = ("train", "cross-entropy", "--arch", "gru", "--arch-option", "hidden=12", "--optimizer", "adam",
         "--lr", "0.02", "--weight-decay", "0", "--epochs", "8", "--batch-size", "16")  # fmt: skip
BIRDS, FISH = (
    ["robin", "wren", "finch", "crow", "nest", "feather", "wing"],
    ["trout", "carp", "perch", "eel", "fin", "gill", "scale"],
)


def sentences(count, seed, *vocabularies):
    rng = np.random.default_rng(seed)
    for row in range(count):
        words = rng.choice(vocabularies[row % len(vocabularies)], rng.integers(3, 8))
        yield f"{' '.join(words)},{row % len(vocabularies)}"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    for name, rows in (
        ("animals/train.csv", sentences(200, 0, BIRDS, FISH)), ("animals/test.csv", sentences(60, 1, BIRDS, FISH)),
        ("cars/test.csv", sentences(40, 2, ["wheel", "motor", "brake", "gear", "clutch", "robin"])),
    ):  # fmt: skip
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text("\n".join(["text,label", *rows]))
    return data


def train(featood, data, out, *further):
    return featood(*TRAIN, "--dataset", "animals", "--data-dir", data, "--out", out, *further)


def test_words_are_numbered_by_frequency():
    tokenizer = WordTokenizer.of(["b a b", "A c! b", "d"], 4)
    assert tokenizer.vocabulary == ("b", "a", "!", "c") and tokenizer.size == 5
    assert list(tokenizer.ids("D a, b!", 4)) == [0, 2, 0, 1] and tokenizer.count("D a, b!") == 5
    assert words_of("GTK+ 3.0") == ["gtk", "+", "3", ".", "0"]
    again = WordTokenizer.from_json(list(tokenizer.vocabulary), tokenizer.as_json()["tokenizer_sha256"])
    assert again.as_json() == tokenizer.as_json()


def test_train_extract_and_score(featood, tmp_path, texts):
    net = tmp_path / "net"
    code, out, err = train(featood, texts, net, "--max-length", "6", "--vocabulary", "12")
    assert code == 0, err
    assert "200 texts; inputs: words, 13 tokens, texts cut off after 6" in err
    code, out, err = featood(
        "extract", "--backbone", net, "--dataset", "animals", "--data-dir", texts, "--dtype", "float32"
    )
    assert code == 0, err
    rows = FeatureCache(tmp_path / "cache")["net/animals/test"]
    assert rows.features["penultimate"].shape == (60, 12) and rows.logits.shape == (60, 2)
    assert (np.argmax(rows.logits[:], 1) == rows.labels[:]).mean() > 0.9
    loaded, facts, _ = load_extractor(net)
    lines = [line.split(",")[0] for line in (texts / "animals/test.csv").read_text().split("\n")[1:]]
    with torch.no_grad():  # one text at a time
        logits = torch.cat([loaded(torch.tensor([facts.transform.tokenizer.ids(line, 6)])) for line in lines])
    np.testing.assert_allclose(rows.logits[:], logits, atol=1e-5)
    weight, bias = rows.classifier
    np.testing.assert_allclose(rows.features["penultimate"][:] @ weight.T + bias, rows.logits[:], atol=1e-4)
    code, out, err = featood("score", "--head", "msp", "--ood", "cars", "--data-dir", texts)
    assert code == 0 and "cars" in out, err


def test_outliers_of_other_lengths(featood, tmp_path, texts):
    words = list(TRAIN)
    words[1] = "outlier-exposure"
    code, _, err = featood(*words, "--dataset", "animals", "--data-dir", texts, "--out", tmp_path / "oe", "--outliers",
                           "cars/test", "--epochs", "2")  # fmt: skip
    assert code == 0, err
    _, facts, _ = load_extractor(tmp_path / "oe")
    assert facts.data["outliers"] == "cars/test"


def test_a_changed_vocabulary_is_noticed(featood, tmp_path, texts):
    net = tmp_path / "net"
    assert train(featood, texts, net, "--epochs", "1")[0] == 0
    path = net / "vocabulary.json"
    path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    with pytest.raises(CacheCorrupt, match=r"vocabulary\.json"):
        load_extractor(net)


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (("--augment", "flip"), "texts are not augmented or mixed"),
        (("--image-size", "8"), "--image-size has no effect on texts"),
        (("--arch", "lenet"), "animals is a set of texts, and lenet takes images"),
    ],
)
def test_what_texts_do_not_have_is_refused(featood, tmp_path, texts, further, message):
    code, _, err = train(featood, texts, tmp_path / "net", *further)
    assert code == 2 and message in err, err


def test_models_of_images_are_refused(featood, tmp_path, texts):
    words = list(TRAIN)
    words[1] = "rotation"
    code, _, err = featood(*words, "--dataset", "animals", "--data-dir", texts, "--out", tmp_path / "net")
    assert code == 2 and "rotation is trained on images only, not on texts" in err


def test_added_texts_give_the_set_of_all_at_once(featood, tmp_path, texts):
    net = tmp_path / "net"
    assert train(featood, texts, net, "--epochs", "1")[0] == 0
    path = tmp_path / "data/animals/test.csv"
    path.parent.mkdir(parents=True)
    lines = (texts / "animals/test.csv").read_text().split("\n")
    cache, extract = (
        FeatureCache(tmp_path / "cache"),
        ("extract", "--backbone", net, "--dataset", "animals", "--batch-size", "16"),
    )
    path.write_text("\n".join(lines[:41]))
    assert featood(*extract, "--data-dir", tmp_path / "data")[0] == 0
    path.write_text("\n".join(lines))
    code, out, err = featood(*extract, "--data-dir", tmp_path / "data", "--append")
    assert code == 0 and "60 rows" in out and "32 were taken over" in out, (out, err)
    appended = cache["net/animals/test"]
    assert featood(*extract, "--data-dir", texts, "--name", "whole", "--split", "test")[0] == 0
    whole = cache["whole/animals/test"]
    np.testing.assert_array_equal(appended.logits[:], whole.logits[:])
    assert appended.origin.inputs_sha256 == whole.origin.inputs_sha256
