"""Encoders of sentence-transformers and models of transformers as backbones; all are tiny and random."""

import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from featood.cache import FeatureCache
from featood.data import open_dataset
from featood.errors import DataError, Mismatch
from featood.extractors.backbones import resolve_backbone

if importlib.util.find_spec("sentence_transformers") is None:
    pytest.skip("the extra text is not installed", allow_module_level=True)
from featood.extractors.language import sentence_transformers, transformers

WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "bird", "fish", "sings", "swims", "in", "the",
    "deep", "sky",
]  # fmt: skip
TEXTS = [
    "a red bird",
    "the blue fish swims in the deep deep blue sky",
    "Sings",
    "in the sky a bird sings",
    "unheard words",
]


def bert_config(**further):
    return transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=32, **further,
    )  # fmt: skip


def save(model, folder):
    torch.manual_seed(0)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=True, model_max_length=12)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A model of sentence-transformers that pools the maximum and normalises."""
    folder = tmp_path_factory.mktemp("models") / "tiny-encoder"
    save(transformers.BertModel(bert_config()), folder)
    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps([
            {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for idx, (path, kind) in enumerate(parts)
        ])
    )  # fmt: skip
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 10, "do_lower_case": False})
    )
    (folder / "1_Pooling").mkdir()
    modes = {
        "pooling_mode_mean_tokens": False,
        "pooling_mode_max_tokens": True,
        "pooling_mode_cls_token": False,
    }
    (folder / "1_Pooling/config.json").write_text(json.dumps({"word_embedding_dimension": 16, **modes}))
    (folder / "2_Normalize").mkdir()
    return folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-classifier"
    names = {0: "birds", 1: "fish", 2: "other"}
    config = bert_config(
        num_labels=3, id2label=names, label2id={name: number for number, name in names.items()}
    )
    save(transformers.BertForSequenceClassification(config), folder)
    return folder


@pytest.fixture
def texts(tmp_path):
    rows = [f"{text},{'birds' if 'bird' in text.lower() else 'fish'}" for text in TEXTS]
    for name, lines in (
        ("animals/train.csv", rows),
        ("animals/test.csv", rows[::-1]),
        ("others/test.csv", ["the deep,x"]),
    ):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["text,label", *lines]))
    return tmp_path / "data"


def extract(featood, backbone, data, *further):
    return featood(
        "extract",
        "--backbone",
        backbone,
        "--dataset",
        "animals",
        "--data-dir",
        data,
        "--dtype",
        "float32",
        *further,
    )


def test_embeddings_are_those_of_the_library(featood, tmp_path, encoder, texts):
    code, _, err = extract(featood, f"st:{encoder}", texts, "--batch-size", "3")
    assert code == 0, err
    assert "pooling max" in err and "2 of 5" not in err
    # [CLS] the blue fish swims in the deep deep blue sky [SEP] has 12 tokens, and 10 are read
    assert "animals/train: 1 of 5 rows are cut off" in err
    rows = FeatureCache(tmp_path / "cache")["tiny-encoder/animals/train"]
    assert rows.origin.run["lossy"] == {"cut off": 1}
    library = sentence_transformers.SentenceTransformer(str(encoder), device="cpu")
    np.testing.assert_allclose(rows.features["output"][:], library.encode(TEXTS), atol=1e-6)
    assert rows.logits is None and list(rows.ids[:]) == list("01234")


def test_a_longer_limit_is_part_of_the_recipe(featood, tmp_path, encoder, texts):
    code, _, err = extract(featood, f"st:{encoder}", texts, "--max-length", "12")
    assert code == 0 and "cut off" not in err.replace("texts cut off after 12", ""), err
    rows = FeatureCache(tmp_path / "cache")["tiny-encoder/animals/train"]
    assert rows.recipe["transform"]["max_length"] == 12
    library = sentence_transformers.SentenceTransformer(str(encoder), device="cpu")
    library.max_seq_length = 12
    np.testing.assert_allclose(rows.features["output"][:], library.encode(TEXTS), atol=1e-6)
    code, _, err = extract(featood, f"st:{encoder}", texts)
    assert code == 5, "another length is another set"


def test_sets_to_score_are_extracted_in_the_same_way(featood, tmp_path, encoder, texts):
    assert extract(featood, f"st:{encoder}", texts, "--max-length", "12")[0] == 0
    code, _, err = featood(
        "score", "--head", "norm", "--backbone", f"st:{encoder}", "--ood", "others", "--data-dir", texts
    )
    assert code == 0, err
    cache = FeatureCache(tmp_path / "cache")
    assert cache["tiny-encoder/others/test"].fingerprint == cache["tiny-encoder/animals/test"].fingerprint
    config = encoder / "tokenizer_config.json"
    kept = config.read_text()
    config.write_text(json.dumps({**json.loads(kept), "do_lower_case": False}))
    try:
        (texts / "more").mkdir()
        (texts / "more/test.csv").write_text("text,label\na bird,x")
        code, _, err = featood("score", "--head", "norm", "--ood", "more", "--data-dir", texts)
        assert code == 5 and "no longer prepared" in err
    finally:
        config.write_text(kept)


def test_logits_and_the_input_of_the_classifier(featood, tmp_path, classifier, texts):
    code, _, err = extract(featood, f"hf:{classifier}", texts, "--batch-size", "2")
    assert code == 0, err
    rows = FeatureCache(tmp_path / "cache")["tiny-classifier/animals/train"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(classifier)
    with torch.inference_mode():  # one text at a time, so nothing is padded
        inputs = [tokenizer(text, return_tensors="pt", truncation=True, max_length=12) for text in TEXTS]
        logits = torch.cat([model(**one).logits for one in inputs])
        pooled = torch.cat([model.bert(**one).pooler_output for one in inputs])
    np.testing.assert_allclose(rows.logits[:], logits, atol=1e-5)
    assert list(rows.features) == ["penultimate"]
    np.testing.assert_allclose(rows.features["penultimate"][:], pooled, atol=1e-5)
    weight, bias = rows.classifier
    np.testing.assert_allclose(pooled @ weight.T + bias, logits, atol=1e-4)
    assert rows.classes[:2] == ("birds", "fish")


def test_an_encoder_without_pooling_takes_the_mean(tmp_path, texts):
    save(transformers.BertModel(bert_config()), tmp_path / "plain")
    backbone = resolve_backbone(f"hf:{tmp_path / 'plain'}")
    assert any("pooling mean" in note for note in backbone.notes)
    animals, transform = open_dataset(texts / "animals", "train"), backbone.transform
    found = backbone.module(
        transform.normalise(transform.stack([transform.read(animals, row) for row in (0, 1)]))
    )
    model = transformers.BertModel.from_pretrained(tmp_path / "plain").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "plain")
    for row, text in enumerate(TEXTS[:2]):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        torch.testing.assert_close(found[row].detach(), states[0].mean(0), rtol=1e-4, atol=1e-5)


def test_no_code_of_a_folder_runs(featood, tmp_path, encoder, classifier, texts):
    for source, change in ((encoder, "module"), (classifier, "auto_map")):
        folder = shutil.copytree(source, tmp_path / change)
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass")
        if change == "module":
            parts = json.loads((folder / "modules.json").read_text())
            parts[0]["type"] = "own.Own"
            (folder / "modules.json").write_text(json.dumps(parts))
        else:
            config = json.loads((folder / "config.json").read_text())
            config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
            (folder / "config.json").write_text(json.dumps(config))
        family = "st" if change == "module" else "hf"
        code, _, err = extract(featood, f"{family}:{folder}", texts)
        assert code == 3 and "without code of its own" in err
        assert not (tmp_path / "ran").exists()


def test_only_safetensors_are_read(tmp_path, encoder):
    folder = shutil.copytree(encoder, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="from safetensors"):
        resolve_backbone(f"st:{folder}")


def test_a_missing_folder_is_said(featood, tmp_path, texts):
    code, _, err = extract(featood, f"st:{tmp_path}/none", texts)
    assert code == 3 and "none does not exist" in err


def test_changed_weights_are_another_backbone(featood, tmp_path, encoder, texts):
    folder = shutil.copytree(encoder, tmp_path / "copy")
    assert extract(featood, f"st:{folder}", texts)[0] == 0
    tensors = load_file(folder / "model.safetensors")
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, folder / "model.safetensors", metadata={"format": "pt"})
    code, _, err = featood("score", "--head", "norm", "--ood", "others", "--data-dir", texts)
    assert code == Mismatch("").exit_code and "no longer has the weights" in err


def test_models_made_by_code(featood, tmp_path, encoder, classifier, texts):
    path = tmp_path / "mine.py"
    path.write_text(
        "from featood.extractors.language import sentence_transformers, transformers\n"
        f"def encoder():\n    return sentence_transformers.SentenceTransformer({str(encoder)!r}, device='cpu')\n"
        "def classifier():\n"
        f"    made = transformers.AutoModelForSequenceClassification.from_pretrained({str(classifier)!r})\n"
        f"    made.featood_tokenizer = transformers.AutoTokenizer.from_pretrained({str(classifier)!r})\n"
        "    return made\n"
    )
    cache = FeatureCache(tmp_path / "cache")
    for what, family, folder, column in (
        ("encoder", "st", encoder, "output"), ("classifier", "hf", classifier, "penultimate")
    ):  # fmt: skip
        for backbone in (f"python:{path}:{what}", f"{family}:{folder}"):
            code, _, err = extract(featood, backbone, texts)
            assert code == 0, err
        ours, theirs = (cache[f"{name}/animals/test"] for name in (f"mine.{what}", folder.name))
        np.testing.assert_array_equal(ours.features[column][:], theirs.features[column][:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tap", "model"), "padded"), (("--mean", "0.5"), "--mean has no effect on texts"),
        (("--with", "odin"), "odin needs"), (("--weights", "w.pt"), "contains its weights"),
    ],
)  # fmt: skip
def test_options_of_images_are_refused(featood, classifier, texts, options, message):
    code, _, err = extract(featood, f"hf:{classifier}", texts, *options)
    assert code == 2 and message in err, err


def test_kinds_are_not_confused(featood, classifier, texts):
    code, _, err = featood("extract", "--backbone", f"hf:{classifier}", "--dataset", "digits")
    assert code == 2 and "digits is a set of images" in err and "takes texts" in err
    code, _, err = featood(
        "extract", "--backbone", "lenet", "--weights", "random", "--dataset", "animals", "--data-dir", texts
    )
    assert code == 2 and "animals is a set of texts, and lenet takes images" in err


def saved_classifier(folder, kind):
    """Save a tiny classifier of another architecture, with the same tokenizer."""
    sizes = {"vocab_size": len(WORDS), "num_labels": 3, "pad_token_id": 0}
    if kind == "Roberta":
        sizes |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
                  "max_position_embeddings": 32, "type_vocab_size": 1}  # fmt: skip
    elif kind == "DistilBert":
        sizes |= {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 32}
    else:
        sizes |= {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    save(getattr(transformers, f"{kind}ForSequenceClassification")(config), folder)
    return folder


@pytest.mark.parametrize("kind", ["Roberta", "DistilBert"])
def test_padding_is_that_of_the_architecture(featood, tmp_path, texts, kind):
    folder = saved_classifier(tmp_path / kind, kind)
    code, _, err = extract(featood, f"hf:{folder}", texts)
    assert code == 0, err
    rows = FeatureCache(tmp_path / "cache")[f"{kind}/animals/train"]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        inputs = [tokenizer(text, return_tensors="pt", truncation=True, max_length=12) for text in TEXTS]
        logits = torch.cat([model(one["input_ids"], one["attention_mask"]).logits for one in inputs])
    np.testing.assert_allclose(rows.logits[:], logits, atol=1e-5)
    weight, bias = rows.classifier
    np.testing.assert_allclose(rows.features["penultimate"][:] @ weight.T + bias, logits, atol=1e-4)


def test_classifiers_of_each_token_are_refused(featood, tmp_path, texts):
    code, _, err = extract(featood, f"hf:{saved_classifier(tmp_path / 'gpt', 'GPT2')}", texts)
    assert code == 2 and "applied to each token" in err, err
