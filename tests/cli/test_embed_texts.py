"""``featood embed-texts``, and the heads on its files."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from featood.cache import FeatureCache, import_arrays

ENCODER = """
import zlib
import numpy as np
def encode(texts):
    return np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=32) for text in texts])
"""
CLASSES = ["red_apple", "blue_car", "tall_tree"]
WORDS = ["stone", "lamp", "river", "cloud", "sea", "sun", "hat", "pen"]


@pytest.fixture
def encode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder.py").write_text(ENCODER)
    scope = {}
    exec(ENCODER, scope)

    def encode(words, template="a photo of a {}"):
        rows = scope["encode"]([template.replace("{}", word) for word in words])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return encode


@pytest.fixture
def cache(tmp_path, encode):
    cache = FeatureCache(tmp_path / "cache")

    def images(words, count, seed):
        rows = encode([word.replace("_", " ") for word in words])[np.arange(count) % len(words)]
        return (rows + np.random.default_rng(seed).normal(0, 0.05, rows.shape)).astype("f4")

    for split, count, seed in (("train", 30, 0), ("test", 24, 1)):
        labels = np.arange(count) % 3
        import_arrays(
            cache,
            f"clip/photos/{split}",
            {"token": images(CLASSES, count, seed)},
            labels=labels,
            classes=CLASSES,
        )
    import_arrays(cache, "clip/odd/test", {"token": images(WORDS[:4], 20, 2)}, run={"role": "ood"})
    return cache


def test_class_names_and_words(cache, encode, featood, tmp_path):
    model = ("--model", "python:encoder.py:encode")
    code, out, err = featood("embed-texts", "classes.safetensors", *model, "--backbone", "clip")
    assert code == 0, err
    assert "the first as 'a photo of a red apple', times 100" in err
    assert out == "classes.safetensors: 3 embeddings of 32 dimensions\n"
    with safe_open("classes.safetensors", "np") as file:
        np.testing.assert_allclose(
            file.get_tensor("weight"), 100 * encode(["red apple", "blue car", "tall tree"]), rtol=1e-5
        )
        assert json.loads(file.metadata()["words"])[1] == "blue car"
    (tmp_path / "words.txt").write_text("\n".join(WORDS) + "\n\n")
    code, out, err = featood(
        "embed-texts", "words.safetensors", *model, "--names", "words.txt", "--scale", "2"
    )
    assert code == 0 and "1 empty lines are left out" in err
    (tmp_path / "latin.txt").write_bytes("rot\ngr\xfcn\n".encode("latin-1"))
    code, out, err = featood("embed-texts", "latin.safetensors", *model, "--names", "latin.txt")
    assert code == 0 and "latin.txt is not UTF-8 and is read as Latin-1" in err and "2 embeddings" in out
    words = ["cache", "add-classifier", "words", "clip", "--classifier", "classes.safetensors", "--unit"]
    assert featood(*words)[0] == 0
    for head in ("neglabel", "csp"):
        options = ("--share", "1", "--groups", "2", "--backbone", "words")
        code, _, err = featood("fit", head, *options, "--outliers", "words.safetensors")
        assert code == 0, err
    assert featood("fit", "mcm", "--backbone", "words")[0] == 0
    code, _, err = featood("score", "--backbone", "words", "--ood", "odd", "--json", "results.json")
    assert code == 0, err
    rows = {row["head"]: row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert rows["neglabel"]["auroc"] == rows["csp"]["auroc"] == 1.0
    # the words of the outliers are known here, so the scores are certain
    phrases = ("--phrase", "{} creature", "--phrase", "{} area")
    code, _, err = featood("embed-texts", "pool.safetensors", *model, "--names", "words.txt", *phrases)
    assert code == 0
    with safe_open("pool.safetensors", "np") as file:
        assert {word.split()[1] for word in json.loads(file.metadata()["words"])} == {"creature", "area"}
    both = ("--outliers", "words.safetensors,pool.safetensors")
    assert featood("fit", "csp", "--share", "0.5", "--backbone", "words", *both, "--out", "both")[0] == 0
    assert load_file("both/head.safetensors")["negatives"].shape == (8, 1, 32)  # four of each file
    # "CLASS and WORD", class by class
    code, _, err = featood(
        "embed-texts", "pairs.safetensors", *model, "--names", "words.txt", "--pairs", "--backbone", "clip"
    )
    assert code == 0 and "embedding 24 words, the first as 'a photo of a red apple and stone'" in err
    with safe_open("pairs.safetensors", "np") as file:
        assert json.loads(file.metadata()["words"])[9] == "blue car and lamp"
    options = ("--share", "1", "--groups", "2", "--backbone", "words", "--out", "refined")
    code, _, err = featood("fit", "negrefine", *options, "--outliers", "words.safetensors,pairs.safetensors")
    assert code == 0, err
    state = load_file("refined/head.safetensors")
    assert state["negatives"].shape == (2, 4, 32) and state["joined"].shape == (3, 8, 32)
    code, out, err = featood("score", "--backbone", "words", "--head", "refined", "--ood", "odd")
    assert code == 0, err


def test_what_is_refused(cache, featood, tmp_path):
    model = ("--model", "python:encoder.py:encode")
    code, _, err = featood("embed-texts", "words.npy", *model)
    assert code == 2 and "must end in .safetensors" in err
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00a")
    code, _, err = featood("embed-texts", "words.safetensors", *model, "--names", "bad.txt")
    assert code == 3 and "is not a text file: it contains zero bytes" in err
    (tmp_path / "empty.txt").write_text("\n")
    assert (
        "empty.txt has no words" in featood("embed-texts", "w.safetensors", *model, "--names", "empty.txt")[2]
    )
    code, _, err = featood(
        "embed-texts", "w.safetensors", *model, "--names", "empty.txt", "--dataset", "photos"
    )
    assert code == 2 and "omit --dataset" in err
    code, _, err = featood("embed-texts", "w.safetensors", *model, "--pairs", "--backbone", "clip")
    assert code == 2 and "name a file of words by --names" in err
    save_file({"words": np.ones((5, 31), "f4")}, "narrow.safetensors")
    featood("embed-texts", "classes.safetensors", *model)
    featood("cache", "add-classifier", "words", "clip", "--classifier", "classes.safetensors")
    code, _, err = featood("fit", "neglabel", "--backbone", "words", "--outliers", "narrow.safetensors")
    assert code != 0 and "shape [5, 31]; outliers of words/photos/train need [M, 32]" in err
    save_file({"a": np.ones((5, 32)), "b": np.ones((5, 32))}, "two.safetensors")
    code, _, err = featood("fit", "neglabel", "--backbone", "words", "--outliers", "two.safetensors")
    assert code != 0 and "must have one array, or one that is named weight (it has: a, b)" in err
    code, _, err = featood("fit", "neglabel", "--backbone", "words", "--outliers", "none.safetensors")
    assert code != 0 and "none.safetensors" in err and "\n" not in err.split("error: ")[1].strip()
    # other files contain images, which these features cannot have
    np.save("rows.npy", np.ones((5, 32), "f4"))
    code, _, err = featood("fit", "neglabel", "--backbone", "words", "--outliers", "./rows.npy")
    assert code != 0 and "not in the cache" in err
