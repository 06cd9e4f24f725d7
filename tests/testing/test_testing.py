import dataclasses

import numpy as np
import pytest
import torch
from unsound import CARD, Distance, broken, head

from featood.heads import create_head, registry
from featood.heads.base.feature_head import FeatureHead
from featood.heads.base.logit_head import LogitHead
from featood.heads.registry import register
from featood.options import option
from featood.testing import Subject, artefacts, check_head, synthetic_sets


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    registry.list_heads()  # modules register when they are imported, which must be before the copy
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_a_correct_head_passes():
    check_head(head()(type("Sound", (Distance,), {"__doc__": "Sound."})))
    check_head("mahalanobis", ridge=1e-3)
    check_head(create_head("knn", k=3))


def test_options_come_from_name_class_and_instance():
    kind = head()(type("Options", (Distance,), {"__doc__": "Some.", "testing_options": {"feature": "std"}}))
    assert Subject.of("broken").options == {"feature": "std"}
    assert Subject.of(kind, feature="avg").create().feature == "avg"
    assert Subject.of(kind(feature="layer1.avg")).create().feature == "layer1.avg"


def test_orientation():
    @head()
    class Broken(Distance):
        """Scores with the wrong sign."""

        def score_block(self, block, fitted):
            return -super().score_block(block, fitted)

    broken("higher_is_out", Broken, "AUROC")


def test_batch_dependence():
    @head()
    class Broken(Distance):
        """Centres the scores of a batch."""

        def score_block(self, block, fitted):
            scores = super().score_block(block, fitted)
            return scores - scores.mean()

    broken("batch_independent", Broken, "batches of 1")


def test_order_dependence():
    @head()
    class Broken(Distance):
        """Adds the position of the row."""

        def score_block(self, block, fitted):
            scores = super().score_block(block, fitted)
            return scores + 1e-3 * torch.arange(len(scores))

    broken("order_independent", Broken)
    broken("batch_independent", Broken)


def test_dtype():
    @head()
    class Broken(Distance):
        """Accepts only float32."""

        def vectors(self, block):
            values = block.feature(self.feature)[:]
            assert values.dtype == torch.float32
            return values

    broken("any_dtype", Broken, "torch.float32")
    broken("fit_any_dtype", Broken, "torch.float32")


def test_memory_layout():
    @head()
    class Broken(Distance):
        """Reads the numbers in the order of memory."""

        def score(self, data, *, force=False):
            first = next(iter(data.features.values()))
            if isinstance(first, np.ndarray):
                data = dataclasses.replace(
                    data,
                    features={k: v.ravel(order="K").reshape(v.shape) for k, v in data.features.items()},
                )
            return super().score(data, force=force)

    broken("any_layout", Broken, "Fortran")


def test_kind_of_array():
    @head()
    class Broken(Distance):
        """Always returns NumPy arrays."""

        def score(self, data, *, force=False):
            return np.asarray(super().score(data, force=force))

    broken("kind_of_array", Broken, "torch in, ndarray out")


def test_one_row():
    @head()
    class Broken(Distance):
        """Standardises the scores unless there is one row."""

        def score_block(self, block, fitted):
            scores = super().score_block(block, fitted)
            return scores if len(scores) > 1 else scores * 0

    broken("few_rows", Broken, "one row")


def test_dependence_on_class_numbers():
    @head(needs=("features", "labels"))
    class Counting(Distance):
        """Uses class numbers as indices."""

        def fit_state(self, train):
            labels = torch.as_tensor(train.source.labels[:])
            torch.zeros(len(labels.unique()))[labels] += 1
            return super().fit_state(train)

    broken("any_numbers", Counting, "IndexError")

    @head(needs=("features", "labels"))
    class Ordering(Distance):
        """Uses class numbers as quantities."""

        def fit_state(self, train):
            state = super().fit_state(train)
            rows = train.load()
            return {**state, "mean": (self.vectors(rows) * (1 + rows.labels[:, None])).mean(0)}

    broken("any_numbers", Ordering, "another order")

    @head(needs=("features", "labels"))
    class Classes(Distance):
        """Uses all classes of the classifier, including those without rows."""

        def fit_state(self, train):
            state = super().fit_state(train)
            return {**state, "mean": state["mean"] / (train.outputs or train.num_classes)}

    broken("absent_classes", Classes, "scores differ")


def test_undetected_damage(monkeypatch):
    kind = head()(type("Sound", (Distance,), {"__doc__": "Sound."}))
    monkeypatch.setattr(artefacts, "load_head", lambda path: None)
    broken("damaged_artefact", kind, "tensors cut in half is not refused")


def test_changed_input():
    @head()
    class Broken(Distance):
        """Scales its input in place."""

        def score_block(self, block, fitted):
            return block.feature(self.feature)[:].mul_(2).double().norm(dim=1)

    broken("input_unchanged", Broken, "avg was changed")


def test_changed_training_input():
    @head()
    class Broken(Distance):
        """Centres its input in place."""

        def fit_state(self, train):
            for block in train.blocks():
                block.feature(self.feature)[:].sub_(1)
            return super().fit_state(train)

    broken("fit_input_unchanged", Broken, "avg was changed")


def test_reading_columns_that_are_not_in_the_card():
    @head()
    class Broken(Distance):
        """Reads the classifier in scoring."""

        def score_block(self, block, fitted):
            weight = torch.as_tensor(block.classifier.weight).double()
            return -(self.vectors(block).double() @ weight.T).amax(1)

    broken("reads_its_needs", Broken)


def test_silent_nan():
    @head(needs=("features", "labels"))
    class Broken(FeatureHead):
        """Divides by the size of each class minus one and by the variance of each column."""

        def fit_state(self, train):
            rows = train.load()
            z = self.vectors(rows).double()
            hot = torch.nn.functional.one_hot(rows.labels, train.num_classes).double()
            means = hot.T @ z / (hot.sum(0)[:, None] - 1)
            return {"means": means, "std": z.std(0)}

        def score_block(self, block, fitted):
            z = self.vectors(block).double()
            return ((z[:, None] - fitted["means"]) / fitted["std"]).norm(dim=2).amin(1)

    broken("sparse_classes", Broken, "no finite score")
    broken("degenerate_columns", Broken, "no finite score")
    broken("too_few_rows", Broken, "no finite score")


def test_overflow_far_away():
    @head()
    class Broken(Distance):
        """Computes exponentials that overflow."""

        def score_block(self, block, fitted):
            return (super().score_block(block, fitted) / 10).exp()

    broken("far_rows", Broken, "no finite score")


def test_rows_that_are_not_finite():
    @head()
    class Broken(Distance):
        """Does not check the rows."""

        def select(self, source, fitting, device="cpu"):
            rows = super().select(source, fitting, device)
            rows.nonfinite = "drop"
            return rows

    broken("nonfinite_rows", Broken, "is not refused")
    broken("fit_nonfinite_rows", Broken, "is not refused")


def test_scores_without_a_fit():
    @head()
    class Broken(Distance):
        """Declares a fit that it does not need."""

        @property
        def state(self):
            return self._fit.state if self._fit else {"mean": torch.zeros(24, dtype=torch.float64)}

    broken("unfitted", Broken, "is not refused")


def test_any_backbone():
    @head()
    class Broken(Distance):
        """Accepts features of any backbone and size."""

        def check_match(self, source, force=False):
            pass

    broken("other_backbone", Broken, "is not refused")
    broken("other_size", Broken, "not Mismatch")


def test_missing_labels():
    @head(needs=("features", "labels"))
    class Broken(Distance):
        """Fails on missing labels with another error."""

        def select(self, source, fitting, device="cpu"):
            rows = super().select(
                dataclasses.replace(source, labels=np.zeros(len(source), int)), fitting, device
            )
            return rows

    broken("missing_columns", Broken, "is not refused")


def test_options_without_bounds():
    @head()
    class Broken(Distance):
        """Declares a bound and ignores it."""

        power: float = option(1.0, "power", low=0)

        def __post_init__(self):
            if self.power < 0:
                object.__setattr__(self, "power", 0.0)
            object.__setattr__(self, "power", 1.0)
            super().__post_init__()

    broken("option_bounds", Broken, "power")


def test_undescribed():
    @register("broken", needs=("logits",), learns=False, **{**CARD, "paper": ""})
    class Broken(LogitHead):
        """Has no paper."""

        def score_logits(self, logits, fitted):
            return -logits.amax(1)

    broken("described", Broken, "no paper")


def test_synthetic_sets():
    train, test = synthetic_sets()
    again, _ = synthetic_sets()
    other, _ = synthetic_sets(seed=1)
    for data, known in ((train, 300), (test, 80)):
        assert len(data) == known + 40 and (data.labels >= 0).sum() == known
        weight, bias = data.classifier
        np.testing.assert_array_equal(data.logits, data.features["avg"] @ weight.T + bias)
        assert all(
            values.dtype == np.float32 and np.isfinite(values).all() for values in data.features.values()
        )
        assert (data.features["avg"] >= 0).all() and (data.features["avg"] == 0).mean() > 0.2
        right = data.logits.argmax(1) == data.labels
        assert 0.9 < right[data.labels >= 0].mean() < 1
    assert {name: values.shape[1] for name, values in train.features.items()} == {
        "avg": 24,
        "std": 24,
        "layer1.avg": 12,
        "layer2.avg": 16,
    }
    np.testing.assert_array_equal(train.features["std"], again.features["std"])
    assert not np.array_equal(train.features["std"], other.features["std"])
