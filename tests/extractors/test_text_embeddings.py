"""Text embeddings: prompts, means and scale, with a made-up encoder and a small network of open_clip."""

import json

import numpy as np
import pytest

from featood.errors import DataError, UsageError
from featood.extractors.texts import TextEncoder, as_words, embed_texts, in_phrases, text_encoder


def letters(texts):
    return np.array([[text.count(letter) for letter in "abcdefgh t"] for text in texts], float)


def test_the_mean_over_prompts_of_unit_embeddings():
    templates = ["a photo of a {}", "the {}"]
    words = [f"{first}{second}" for first in "abcdefgh" for second in "abcdefgh"] * 5  # more than one batch
    found = embed_texts(TextEncoder("letters", letters), words, templates)
    for word, row in zip(words, found, strict=True):
        one, two = (
            vector / np.sqrt((vector**2).sum()) for vector in letters([f"a photo of a {word}", f"the {word}"])
        )
        mean = (one + two) / 2
        np.testing.assert_allclose(row, mean / np.sqrt((mean**2).sum()), rtol=1e-6)
    assert found.dtype == np.float32


def test_braces_of_words_are_no_fields():
    seen = []
    embed_texts(
        TextEncoder("kept", lambda texts: seen.extend(texts) or np.ones((len(texts), 2))),
        ["{0.x}", "{}"],
        ["a {}"],
    )
    assert seen == ["a {0.x}", "a {}"]


def test_phrases_are_drawn_by_seed():
    words = [f"word{number}" for number in range(50)]
    found = in_phrases(words, ["{} creature", "{} area"], 1)
    assert (
        found
        == in_phrases(words, ["{} creature", "{} area"], 1)
        != in_phrases(words, ["{} creature", "{} area"])
    )
    assert {phrase.split()[1] for phrase in found} == {"creature", "area"}
    assert [phrase.split()[0] for phrase in found] == words


def test_what_is_refused():
    words = ["a", "b"]
    for encode, message in (
        (lambda texts: 1 / 0, "failed: ZeroDivisionError"),
        (lambda texts: np.ones(len(texts)), r"numbers \[2, D\] for 2 texts, not an array of shape \[2\]"),
        (lambda texts: np.full((2, 3), np.nan), "finite"),
        (lambda texts: np.eye(2, 3) * [[0], [1]], "length 0 for row 0"),
    ):
        with pytest.raises(DataError, match=message):
            embed_texts(TextEncoder("mine", encode), words)
    with pytest.raises(UsageError, match="no words"):
        embed_texts(TextEncoder("mine", letters), [])
    for call in (
        lambda: embed_texts(TextEncoder("mine", letters), words, ["a photo"]),
        lambda: in_phrases(words, ["x"]),
    ):
        with pytest.raises(UsageError, match=r"has no \{\}"):
            call()
    with pytest.raises(UsageError, match="no text encoder"):
        text_encoder("clip")
    with pytest.raises(UsageError, match="omit --weights"):
        text_encoder("python:json:loads", "openai")
    assert as_words(["aquarium_fish", "T-shirt/top"]) == ["aquarium fish", "T-shirt/top"]
    for name in ("n01443537", "7"):
        with pytest.raises(DataError, match="is no word"):
            as_words(["cat", name])


def test_a_small_network_of_open_clip(tmp_path, monkeypatch):
    from featood.extractors.vision import torchvision  # noqa: F401

    open_clip = pytest.importorskip("open_clip")
    size = {"width": 16, "layers": 1}
    config = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 8, "patch_size": 4, "head_width": 8, **size},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "heads": 2, **size},
    }
    (tmp_path / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    with pytest.raises(UsageError, match="name the weights of tiny-clip"):
        text_encoder("open_clip:tiny-clip")
    with pytest.raises(UsageError, match="no architecture 'small'"):
        text_encoder("open_clip:small")
    (tmp_path / "bad.pt").write_bytes(b"none")
    with pytest.raises(DataError, match=r"bad.pt of tiny-clip cannot be loaded"):
        text_encoder("open_clip:tiny-clip", str(tmp_path / "bad.pt"))
    import torch

    model = open_clip.create_model("tiny-clip").eval()
    torch.save(model.state_dict(), tmp_path / "good.pt")
    encoder = text_encoder("open_clip:tiny-clip", str(tmp_path / "good.pt"))
    with torch.no_grad():
        expected = model.encode_text(open_clip.get_tokenizer("tiny-clip")(["a cat", "a dog"]), normalize=True)
    np.testing.assert_allclose(embed_texts(encoder, ["cat", "dog"], ["a {}"]), expected.numpy(), atol=1e-6)
    assert encoder.scale == pytest.approx(1 / 0.07)  # at the start of CLIP's training
