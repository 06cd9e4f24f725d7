"""TFRecord files, against bytes made from the published formats."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tfrecords import crc32c, example, feature, field, masked, record, varint, write

from featood.data.tables import read_table
from featood.errors import DataError
from featood.readers import read_columns
from featood.readers.tf_examples import decode_example

TUTORIAL = (
    b"\nR\n\x11\n\x08feature0\x12\x05\x1a\x03\n\x01\x00\n\x11\n\x08feature1\x12\x05\x1a\x03\n\x01\x04\n\x14\n\x08"
    b"feature2\x12\x08\n\x06\n\x04goat\n\x14\n\x08feature3\x12\x08\x12\x06\n\x04[\xd3|?"
)
"""The message that TensorFlow's tutorial on TFRecord files prints."""


def columns(path):
    found = read_columns(path)
    return {
        name: values.to_pylist() if hasattr(values, "to_pylist") else values.tolist()
        for name, values in zip(found.names, found.values, strict=True)
    }


def test_the_checksum_of_this_file_is_that_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283


def test_the_message_of_the_tutorial():
    found = decode_example(TUTORIAL)
    assert found["feature3"] == (2, [pytest.approx(0.9876, abs=1e-7)])
    del found["feature3"]
    assert found == {"feature0": (3, [0]), "feature1": (3, [4]), "feature2": (1, [b"goat"])}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["a.tfrecord", "a.tfrecords", "a-00000-of-00010", "a.tfrecord.gz"])
def test_features_become_columns(tmp_path, name, packed):
    examples = [
        example(packed, x=[b"0 1 2"], y=[3], v=[0.5, -2.0], big=[-1, 2**62], raw=[b"\xff"]),
        example(packed, x=["\u00e9".encode()], y=[-(2**63)], v=[1e30, 0.0], big=[0, 300], raw=[b""]),
    ]
    path = write(tmp_path / name, examples)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert columns(path) == {
        "big": [[-1, 2**62], [0, 300]],
        "raw": [b"\xff", b""],
        "v": [[0.5, -2.0], [float(np.float32(1e30)), 0.0]],
        "x": ["0 1 2", "\u00e9"],
        "y": [3, -(2**63)],
    }


def test_features_that_are_missing_or_empty_are_missing_values(tmp_path):
    empty = field(1, field(1, field(1, b"a") + field(2, field(3, b""))))
    path = write(tmp_path / "a.tfrecord", [example(b=[1]), example(a=[2], b=[3]), empty])
    assert columns(path) == {"a": [None, 2, None], "b": [1, 3, None]}


def test_unknown_fields_are_skipped_and_repeated_ones_follow_the_encoding():
    extra = field(9, b"abc") + field(10, varint(300), 0) + field(11, b"1234", 5) + field(12, b"12345678", 1)
    assert decode_example(extra + example(a=[1]) + extra) == {"a": (3, [1])}
    assert decode_example(example(a=[1]) + example(b=[2])) == {"a": (3, [1]), "b": (3, [2])}
    both = field(1, field(1, field(1, b"a") + field(2, feature([b"x"]) + feature([7]))))
    assert decode_example(both) == {"a": (3, [7])}


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    write(tmp_path / "b.tfrecord", [example(a=[2])])
    write(tmp_path / "a.tfrecord", [example(a=[0]), example(a=[1])])
    (tmp_path / "a.index").write_text("0 10")
    assert columns(tmp_path) == {"a": [0, 1, 2]}


def test_a_table_of_numbers(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(30, 2)).astype("f4"), np.arange(30) % 3
    examples = [example(x=row.tolist(), kind=[b"abc"[k : k + 1]]) for row, k in zip(x, y, strict=True)]
    table = read_table(write(tmp_path / "t.tfrecord", examples), "kind")
    np.testing.assert_array_equal(table.features, x)
    np.testing.assert_array_equal(table.labels, y)
    assert table.classes == ("a", "b", "c")


def test_more_records_than_are_converted_together(tmp_path, monkeypatch):
    monkeypatch.setattr("featood.readers.tfrecord_files.ROWS", 4)
    examples = [example(a=[k], **({"late": [k]} if k > 5 else {})) for k in range(10)]
    found = columns(write(tmp_path / "a.tfrecord", examples))
    assert found == {"a": list(range(10)), "late": [None] * 6 + [6, 7, 8, 9]}


def test_every_flipped_bit_is_found(tmp_path):
    path = write(tmp_path / "a.tfrecord", [example(x=[b"01"], y=[1])] * 2)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged|ends within"):
            read_columns(path)


def test_every_truncation_within_a_record_is_found(tmp_path):
    one = record(example(x=[b"01"], y=[1]))
    path = tmp_path / "a.tfrecord"
    for size in {*range(2 * len(one))} - {0, len(one)}:
        path.write_bytes((one + one)[:size])
        with pytest.raises(DataError, match=f"ends within record {size // len(one)}"):
            read_columns(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no records"):
        read_columns(path)
    path.write_bytes(gzip.compress(one)[:-12])
    with pytest.raises(DataError, match="cannot be read as TFRecord"):
        read_columns(path)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (b"\x0a\xff", "record 0 is not a tf.train.Example"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x02\x00", "without a number"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than ten bytes"),
        (field(1, field(1, field(1, b"a") + field(2, field(2, field(1, b"123"))))), "floats is damaged"),
        (
            field(1, field(1, field(1, b"a") + field(2, field(3, field(1, b"1234", 5))))),
            "integers is damaged",
        ),
        (field(1, field(1, field(1, b"\xff") + field(2, feature([1])))), "not a tf.train.Example"),
        (field(1, varint(1), 0), "wrong type"),
    ],
)
def test_other_messages_are_refused(tmp_path, message, match):
    with pytest.raises(DataError, match=match):
        read_columns(write(tmp_path / "a.tfrecord", [message]))


def test_other_files_and_mixed_kinds_are_refused(tmp_path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(b"a,b\n1,2\n3,4\n5,6\n")
    with pytest.raises(DataError, match="not a TFRecord file"):
        read_columns(path)
    with pytest.raises(DataError, match="'a' has bytes values in some records, int64 in others"):
        read_columns(write(path, [example(a=[1]), example(a=[b"1"])]))


def test_a_record_too_long_is_refused_before_it_is_read(tmp_path):
    length = (2**50).to_bytes(8, "little")
    path = tmp_path / "a.tfrecord"
    path.write_bytes(length + masked(length).to_bytes(4, "little") + b"abc")
    with pytest.raises(DataError, match=f"record 0 has {2**50} bytes"):
        read_columns(path)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_an_error(message):
    try:
        found = decode_example(message)
    except ValueError:
        return
    assert all(values for _, values in found.values())
