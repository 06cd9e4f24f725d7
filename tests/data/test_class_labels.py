import numpy as np
import pyarrow as pa
import pytest
import torch

from featood.cache import FeatureSet, as_feature_set
from featood.errors import DataError
from featood.heads import create_head
from featood.readers import class_labels

TEXTS = ["dog", "cat", " dog ", "eel", ""]
NUMBERS = [1, 0, 1, 2, -1]


class Frame:
    """Simulates a data frame or series, which can be converted to an array."""

    def __init__(self, values):
        self.values, self.shape = np.asarray(values), np.shape(values)

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __getitem__(self, rows):
        raise TypeError("rows of a frame are not found by a slice")

    def to_numpy(self):
        return self.values


@pytest.mark.parametrize(
    "values",
    [
        TEXTS,
        np.array(TEXTS),
        np.array(TEXTS)[:, None],
        np.array(TEXTS, object),
        np.array([text.encode() for text in TEXTS]),
        np.array([*TEXTS[:4], None], object),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:2], [*TEXTS[2:4], None]]),
        pa.array([text.strip() for text in TEXTS]).dictionary_encode(),
        Frame(np.array(TEXTS, object)),
    ],
    ids=["list", "array", "column", "objects", "bytes", "none", "arrow", "chunks", "dictionary", "frame"],
)
def test_text_labels_are_numbered_and_named(values):
    labels, names = class_labels(values)
    assert labels.dtype == np.int64 and labels.tolist() == NUMBERS and names == ("cat", "dog", "eel")
    labels, names = class_labels(values, ("eel", "dog", "ant", "cat"))
    assert labels.tolist() == [1, 3, 1, 0, -1] and names == ("eel", "dog", "ant", "cat")
    with pytest.raises(DataError, match="'eel'"):
        class_labels(values, ("dog", "cat"))


@pytest.mark.parametrize(
    "values",
    [
        [3, 900_000, -7, 10**9],
        np.array([3, 900_000, -7, 10**9], np.float64),
        np.array([[3], [900_000], [-7], [10**9]]),
        torch.tensor([3, 900_000, -7, 10**9]),
        pa.array([3, 900_000, -7, 10**9]),
        np.array([3, 900_000, -7, 10**9], object),
        ["3", "900000", "-7", "1000000000"],
    ],
    ids=["list", "floats", "column", "tensor", "arrow", "objects", "texts"],
)
def test_whole_numbers_stay_unchanged(values):
    labels, names = class_labels(values)
    assert labels.dtype == np.int64 and labels.tolist() == [3, 900_000, -7, 10**9] and names == ()


def test_missing_labels_are_unknown():
    with pytest.warns(UserWarning, match="1 labels are NaN"):
        assert class_labels([0.0, np.nan, 2.0])[0].tolist() == [0, -1, 2]
    assert class_labels([0, None, 2])[0].tolist() == [0, -1, 2]
    assert class_labels(pa.array([0, None, 2], pa.uint8()))[0].tolist() == [0, -1, 2]


def test_booleans_and_one_hot_rows():
    for values in ([True, False, True], torch.tensor([True, False, True]), pa.array([True, False, True])):
        labels, names = class_labels(values)
        assert labels.tolist() == [1, 0, 1] and names == ("False", "True")
    with pytest.warns(UserWarning, match="one-hot"):
        assert class_labels(np.eye(3)[[2, 0, 1]])[0].tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["01", "1", "2"], ("01", "1", "2")),
        (["9007199254740992", "9007199254740993", "12"], ("12", "9007199254740992", "9007199254740993")),
        (["1.0", "2.0", "10.0", "2.0"], ("1.0", "2.0", "10.0")),
        (["NA", "DE", "nan"], ("DE", "NA", "nan")),
        (["Infinity", "1"], ("1", "Infinity")),
    ],
)
def test_text_that_is_not_plain_integers_stays_distinct(texts, names):
    labels, found = class_labels(texts)
    assert found == names and [names[number] for number in labels] == texts


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.5, 1.0, 2.0], "regression targets are not classes"),
        ([1.0, np.inf], "regression targets"),
        (["0.1", "0.25", "3", "7.5"], "regression targets"),
        (np.array([2**64 - 1], "u8"), "18446744073709551615"),
        (np.full((3, 2), 0.5), "one-hot"),
        (np.zeros((2, 2, 2)), "one per row"),
        ([[1], [1, 2]], "differ in length"),
        ([1j, 2], "complex"),
    ],
)
def test_labels_that_are_not_classes_are_refused(values, found):
    with pytest.raises(DataError, match=found):
        class_labels(values)


def test_numbers_as_labels_of_named_classes():
    assert class_labels([0, 1, -1], ("cat", "dog"))[0].tolist() == [0, 1, -1]
    assert class_labels([2, 1], ("1", "2", "5"))[0].tolist() == [1, 0], (
        "names that are numbers are matched by name"
    )
    with pytest.raises(DataError, match="a label is 2, but there are 2 classes"):
        class_labels([2], ("cat", "dog"))
    with pytest.raises(DataError, match="'3'"):
        class_labels([3], ("1", "2"))


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x.tolist(),
        lambda x: [torch.tensor(row) for row in x],
        lambda x: Frame(x.astype(object)),
        lambda x: pa.array(x.tolist()),
        lambda x: pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), x.shape[1]),
        lambda x: pa.FixedShapeTensorArray.from_numpy_ndarray(x),
    ],
    ids=["lists", "tensors", "frame", "arrow", "fixed", "tensor-array"],
)
def test_heads_accept_rows_of_every_kind(given):
    rng = np.random.default_rng(0)
    x, names = rng.normal(size=(30, 4)), np.array(["b", "a", "c"])[np.arange(30) % 3]
    right = create_head("knn", k=3).fit(x, np.unique(names, return_inverse=True)[1]).score(x)
    head = create_head("knn", k=3).fit(given(x), names.tolist())
    np.testing.assert_allclose(head.score(given(x)), right)
    rows = as_feature_set(given(x), names.tolist())
    assert rows.classes == ("a", "b", "c") and rows.labels.tolist() == [1, 0, 2] * 10


def test_rows_of_different_length_are_refused():
    with pytest.raises(DataError, match="one array"):
        as_feature_set([[1.0, 2.0], [3.0]])
    rows = FeatureSet({"a": np.zeros((2, 1))}, labels=["y", "x"], classes=("y", "x"))
    assert rows.labels.tolist() == [0, 1] and rows.classes == ("y", "x")
