"""Detectors on what is not one tensor of images: token numbers, mappings of tensors, recordings and plain texts."""

import copy
from operator import itemgetter

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import featood.detectors as d
from featood.errors import DataError, UsageError

WORDS = {0: "ball team goal score match", 1: "court judge law trial case", 2: "star planet orbit moon comet"}
OTHER = "bread butter oven flour sugar"
PAD, LENGTH = 1, 6


def texts(count, outliers=0, seed=0):
    """Return texts of words of their class with labels; outliers have words of their own."""
    generator = torch.Generator().manual_seed(seed)
    labels = [row % 3 for row in range(count)] + [-1] * outliers
    found = []
    for label in labels:
        words = WORDS.get(label, OTHER).split()
        size = int(torch.randint(2, LENGTH + 1, (), generator=generator))
        found.append(" ".join(words[i] for i in torch.randint(5, (size,), generator=generator).tolist()))
    return list(zip(found, labels, strict=True))


VOCABULARY = {word: number for number, word in enumerate(" ".join([*WORDS.values(), OTHER]).split(), start=2)}


def numbers(text):
    return torch.tensor([VOCABULARY[word] for word in text.split()])


def padded(batch):
    """Pad on the left, as the examples of pytorch-ood do."""
    rows = [numbers(text) for text, _ in batch]
    longest = max(map(len, rows))
    rows = [torch.cat([torch.full((longest - len(row),), PAD), row]) for row in rows]
    return torch.stack(rows), torch.tensor([label for _, label in batch])


def as_mapping(batch):
    """Make the batch of a model of transformers: token numbers with a mask."""
    tokens, labels = padded(batch)
    return {"input_ids": tokens, "attention_mask": (tokens != PAD).long()}, labels


def with_labels(batch):
    inputs, labels = as_mapping(batch)
    return {**inputs, "labels": labels}


TRAIN, TEST = texts(120), texts(60, outliers=40, seed=1)


def loader(rows, collate):
    return DataLoader(rows, batch_size=16, collate_fn=collate)


@pytest.fixture(scope="module")
def gru():
    """A classifier that is trained on the texts, with outliers of the words that no class has."""
    torch.manual_seed(0)
    model = d.GRUClassifier(num_classes=3, n_vocab=len(VOCABULARY) + 2, embedding_dim=8)
    optimizer, criterion = torch.optim.Adam(model.parameters(), 0.01), d.OutlierExposureLoss()
    for _ in range(6):
        for x, y in loader(texts(120, outliers=40), padded):
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


class Encoder(nn.Module):
    """A model with the interface of transformers: keyword arguments, and an output with logits and states."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = nn.Embedding(len(VOCABULARY) + 2, 8)
        self.dropout, self.classifier = nn.Dropout(0.3), nn.Linear(8, 3)

    def encode(self, input_ids, attention_mask=None):
        mask = attention_mask[..., None].to(self.embedding.weight)
        return (self.embedding(input_ids) * mask).sum(1) / mask.sum(1)

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        states = self.dropout(self.encode(input_ids, attention_mask))
        return {"loss": None, "logits": self.classifier(states), "hidden_states": self.embedding(input_ids)}


ENCODER = Encoder().eval()

TEXT_DETECTORS = {
    "Entropy": lambda m: d.Entropy(m),
    "KLMatching": lambda m: d.KLMatching(m),
    "MaxSoftmax": lambda m: d.MaxSoftmax(m),
    "EnergyBased": lambda m: d.EnergyBased(m),
    "MaxLogit": lambda m: d.MaxLogit(m),
    "ViM": lambda m: d.ViM(m.features, d=64, w=m.fc.weight, b=m.fc.bias),
    "Mahalanobis": lambda m: d.Mahalanobis(m.features),
    "KNN": lambda m: d.KNN(m.features, k=5),
    "ReAct": lambda m: d.ReAct(m.features, m.fc),
}


@pytest.mark.parametrize("name", TEXT_DETECTORS)
def test_outlying_texts_are_detected(gru, name):
    detector = TEXT_DETECTORS[name](gru)
    detector.to("cpu")
    detector.fit(loader(TRAIN, padded))
    metrics = d.OODMetrics()
    for x, y in loader(TEST, padded):
        metrics.update(detector(x.to("cpu")), y.to("cpu"))
    assert metrics.compute()["AUROC"] > 0.9


MAPPED = {
    "EnergyBased": (lambda: d.EnergyBased(ENCODER), lambda: d.EnergyBased(lambda x: ENCODER(**x)["logits"])),
    "Mahalanobis": (
        lambda: d.Mahalanobis(ENCODER.encode),
        lambda: d.Mahalanobis(lambda x: ENCODER.encode(**x)),
    ),
    "MCD": (lambda: d.MCD(ENCODER, samples=5), None),
    "GradNorm": (lambda: d.GradNorm(ENCODER, lambda name: name.startswith("classifier")), None),
    "VRA": (lambda: d.VRA(ENCODER.encode, ENCODER.classifier), None),
    "MultiMahalanobis": (lambda: d.MultiMahalanobis([ENCODER.encode, nn.Tanh()]), None),
    "Gram": (lambda: d.Gram(ENCODER.classifier, [ENCODER.encode], 3), None),
}


@pytest.mark.parametrize("name", MAPPED)
def test_mappings_are_passed_as_keyword_arguments(name):
    make, by_function = MAPPED[name]
    inputs, labels = as_mapping(TEST)
    pairs, mappings = (make().fit(loader(TRAIN, collate)) for collate in (as_mapping, with_labels))
    found = pairs(inputs)
    assert found.shape == labels.shape and torch.isfinite(found).all()
    assert torch.equal(found, mappings(inputs))  # the labels of a batch are not passed to the model
    if by_function:
        assert torch.equal(found, by_function().fit(loader(TRAIN, as_mapping))(inputs))


def test_outliers_of_mappings_are_not_used():
    mixed = loader(texts(120) + texts(0, outliers=30), with_labels)
    clean = d.Mahalanobis(ENCODER.encode).fit(loader(TRAIN, as_mapping))
    inputs = as_mapping(TEST)[0]
    assert torch.allclose(d.Mahalanobis(ENCODER.encode).fit(mixed)(inputs), clean(inputs))


def test_models_of_transformers_need_no_wrapper():
    pytest.importorskip("transformers")
    from featood.extractors.language import transformers

    config = transformers.BertConfig(
        vocab_size=len(VOCABULARY) + 2, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    inputs = as_mapping(TEST)[0]
    batch = transformers.BatchEncoding(
        {name: values.tolist() for name, values in inputs.items()}, tensor_type="pt"
    )
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    energy = -output.logits.double().logsumexp(1)
    assert torch.allclose(d.EnergyBased(model)(batch), energy)
    first = output.hidden_states[-1][:, 0]
    detector = d.Mahalanobis(lambda x: model.bert(**x).last_hidden_state[:, 0]).fit(
        loader(TRAIN, with_labels)
    )
    assert torch.allclose(detector(batch), detector.predict_features(first), rtol=1e-4)
    pooled = d.KNN(model.bert, k=3).fit(loader(TRAIN, with_labels))  # the only [B, D] of the output is pooled
    with torch.no_grad():
        expected = pooled.predict_features(model.bert(**inputs).pooler_output)
    assert torch.allclose(pooled(batch), expected, rtol=1e-4)
    scores = d.GradNorm(model, lambda name: name == "classifier.bias")(batch)
    p = output.logits.softmax(1).double()
    assert torch.allclose(scores.double(), -(p - 1 / 3).abs().sum(1), atol=1e-5)


def test_gradients_of_recurrent_layers_are_those_of_a_loop(gru):
    x, _ = padded(TEST[:5])
    expected = []
    for row in x:
        model = copy.deepcopy(gru)
        (-model(row[None]).log_softmax(1).mean()).backward()
        expected.append(-sum(float(p.grad.abs().sum()) for p in model.parameters()))
    assert d.GradNorm(gru, micro_batch_size=2)(x).tolist() == pytest.approx(expected, rel=1e-4)


def test_lists_of_texts_and_recordings_are_rows():
    def encode(rows):  # as the encoders of sentence-transformers
        return torch.stack([ENCODER.embedding(numbers(text)).mean(0) for text in rows])

    strings = [
        (list(part), torch.tensor(labels)) for part, labels in [zip(*texts(60, outliers=9), strict=True)]
    ]
    detector = d.Mahalanobis(encode).fit(strings)
    assert detector([text for text, _ in TEST]).shape == (len(TEST),)

    def spectrum(waves):  # recordings of different lengths
        return torch.stack([torch.fft.rfft(wave, n=16).abs() for wave in waves])

    generator = torch.Generator().manual_seed(2)
    waves = [torch.randn(20 + row, generator=generator) for row in range(40)]
    detector = d.KNN(spectrum, k=3).fit([(waves, torch.arange(40) % 5 - 1)])
    assert detector(waves[:7]).shape == (7,)
    batches = torch.randn(6, 1, 50, generator=generator)
    net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))
    assert d.ODIN(net)(batches).shape == (6,)


def test_several_tensors_are_parts_of_rows():
    def joined(parts):
        return torch.cat(parts, 1)

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(30, 2, generator=generator), torch.randn(30, 3, generator=generator)
    y = torch.arange(30) % 3 - 1
    found = d.Mahalanobis(joined).fit([([a, b], y)])
    alone = d.Mahalanobis(None).fit_features(torch.cat([a, b], 1), y)
    assert torch.allclose(found((a, b)), alone.predict_features(torch.cat([a, b], 1)))


def test_hyperparameters_are_searched_on_mappings():
    validation = loader(TEST, with_labels)
    search = d.GridSearch(d.KNN(ENCODER.encode), loader(TRAIN, with_labels), validation, {"k": [1, 10]})
    assert search.run() == search.best_params_
    raw = d.GridSearch(
        d.ASH(ENCODER.encode, ENCODER.classifier), None, validation, {"percentile": [0.5, 0.9]}
    )
    assert 0 <= (raw.run() and raw.best_score_) <= 1


def test_wrong_batches_are_explained(gru):
    tokens = padded(TEST)[0]
    for detector in (
        d.ODIN(gru),
        d.MahalanobisODIN(gru.features).fit(loader(TRAIN, padded)),
        d.ODIN(ENCODER),
    ):
        with pytest.raises(UsageError, match="one tensor of real numbers"):
            detector(tokens if detector.__dict__.get("model") is not ENCODER else as_mapping(TEST)[0])
    with pytest.raises(DataError, match="no labels: none of labels"):
        d.KNN(ENCODER.encode).fit([as_mapping(TEST)[0]])
    for batch in (tokens, (tokens,)):
        with pytest.raises(DataError, match="pair of inputs and labels"):
            d.KNN(gru.features).fit([batch])
    with pytest.raises(UsageError, match="inputs input_ids, segments do not fit the model's parameters"):
        d.EnergyBased(ENCODER)({"input_ids": tokens, "segments": tokens})
    with pytest.raises(DataError, match="not list"):
        d.GradNorm(gru)(["a text"])
    with pytest.raises(UsageError, match="cannot be identified"):
        d.EnergyBased(lambda x: {"a": tokens, "b": tokens})(tokens)


def test_packed_sequences_and_functions_without_a_signature():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.gru, self.fc = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.gru(x)[1][-1])

    rows = [torch.randn(length, 3, generator=torch.Generator().manual_seed(length)) for length in (5, 4, 2)]
    model = Packed().eval()
    found = d.MaxLogit(model).to("cpu")(nn.utils.rnn.pack_sequence(rows))
    with torch.no_grad():
        expected = [-float(model(row[None]).max()) for row in rows]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert d.Entropy(itemgetter("logits"))({"logits": torch.zeros(2, 3)}).shape == (2,)
