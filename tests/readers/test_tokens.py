"""Sequences of letters as tokens, against a loop over letters."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featood.data.tables import read_table
from featood.errors import DataError, UsageError
from featood.readers import Tokens

RNG = np.random.default_rng(0)
SEQUENCES = ["".join(RNG.choice(list("ACGT"), 12)) for _ in range(20)]
SPACES = (" ", "\t")
KINDS = ["ab"[row % 2] for row in range(20)]
NUMBERS = [[{"A": 0, "C": 1, "G": 2, "T": 3}[letter] for letter in text] for text in SEQUENCES]


def csv(path, sequences=SEQUENCES, kinds=KINDS):
    lines = [f"{text},{kind},{row}" for row, (text, kind) in enumerate(zip(sequences, kinds, strict=True))]
    path.write_text("\n".join(["seq,kind,place", *lines]))
    return path


def parquet(path):
    pq.write_table(pa.table({"seq": SEQUENCES, "kind": KINDS, "n": range(20)}), path)


def dictionary(path):
    pq.write_table(pa.table({"seq": pa.array(SEQUENCES).dictionary_encode(), "kind": KINDS}), path)


def arrays(path):
    np.savez(path, seq=np.array(SEQUENCES), kind=np.array(KINDS))


@pytest.mark.parametrize(
    ("name", "write"),
    [("t.csv", csv), ("t.parquet", parquet), ("d.parquet", dictionary), ("t.npz", arrays)],
)
def test_letters_are_numbered_by_the_alphabet(tmp_path, name, write):
    write(tmp_path / name)
    table = read_table(tmp_path / name, "kind", tokens=Tokens("seq"))
    np.testing.assert_array_equal(table.features, NUMBERS)
    assert table.features.dtype == np.uint8 and table.alphabet == "ACGT"
    assert table.classes == ("a", "b") and table.labels.tolist() == [row % 2 for row in range(20)]
    assert table.columns == tuple(map(str, range(12)))
    assert "tokens of 'seq': A=0 C=1 G=2 T=3" in table.notes
    turned = read_table(tmp_path / name, "kind", tokens=Tokens("seq", "TGCA"))
    np.testing.assert_array_equal(turned.features, 3 - np.array(NUMBERS))


@pytest.mark.parametrize("name", ["t.fasta", "t.fa.gz", "t.fna"])
def test_fasta(tmp_path, name):
    records = [
        f">s{row}{SPACES[row % 2]}of {kind}\r\n{text[:5]}\r\n{text[5:].lower()}\r\n\r\n"
        for row, (text, kind) in enumerate(zip(SEQUENCES, KINDS, strict=True))
    ]
    content = "".join(records).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    table = read_table(tmp_path / name, "description", tokens=Tokens("sequence"))
    np.testing.assert_array_equal(table.features, NUMBERS)
    assert table.classes == ("of a", "of b") and table.left_out == ("name",)
    assert any("lower-case letters are read as upper-case ones" in note for note in table.notes)


def test_a_fasta_file_without_a_header_is_refused(tmp_path):
    (tmp_path / "t.fasta").write_bytes(b"ACGT\nACGT\n")
    with pytest.raises(DataError, match="does not begin with '>'"):
        read_table(tmp_path / "t.fasta", tokens=Tokens("sequence"))


def test_both_cases_in_the_alphabet_are_different_letters(tmp_path):
    csv(tmp_path / "t.csv", ["ACac", "caCA"], "ab")
    table = read_table(tmp_path / "t.csv", tokens=Tokens("seq", "ACac"))
    assert table.features.tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]
    assert not any("case" in note for note in table.notes)


def test_spaces_and_numbers_as_letters(tmp_path):
    csv(tmp_path / "t.csv", ["0 3 2", "1 1 1", "2 0 3"], "aab")
    table = read_table(tmp_path / "t.csv", tokens=Tokens("seq", "0123"))
    assert table.features.tolist() == [[0, 3, 2], [1, 1, 1], [2, 0, 3]]


PROBLEMS = {
    7: ("ACGTACGTNCGT", "the letter 'N', which is not in --alphabet ACGT \\(at position 8\\)"),
    8: ("ACG", "a sequence of 3 letters instead of 12"),
    9: ("", "an empty sequence"),
    10: ("ACGT\u00c9CGTACGT", "the letter '\u00c9', which is not"),
}


@pytest.mark.parametrize("row", PROBLEMS)
def test_the_first_invalid_sequence_is_named(tmp_path, row):
    text, match = PROBLEMS[row]
    sequences = [*SEQUENCES[:row], text, *SEQUENCES[row + 1 :]]
    csv(tmp_path / "t.csv", sequences)
    with pytest.raises(
        DataError, match=rf"column 'seq' has in row {row} {match}.*; 1 of 20 .*--invalid drop"
    ):
        read_table(tmp_path / "t.csv", "kind", tokens=Tokens("seq"))


def test_invalid_sequences_and_those_without_a_label_are_dropped_if_asked(tmp_path):
    sequences, kinds = list(SEQUENCES), list(KINDS)
    for row, (text, _) in PROBLEMS.items():
        sequences[row] = text
    kinds[3] = ""
    csv(tmp_path / "t.csv", sequences, kinds)
    table = read_table(tmp_path / "t.csv", "kind", tokens=Tokens("seq", invalid="drop"))
    kept = [row for row in range(20) if row not in (3, *PROBLEMS)]
    np.testing.assert_array_equal(table.features, np.array(NUMBERS)[kept])
    assert table.ids.tolist() == kept and table.labels.tolist() == [row % 2 for row in kept]
    counts = "1 empty, 2 with letters other than ACGT, 1 not of 12 letters, 1 without a label"
    assert f"sequences left out: {counts}" in table.notes
    with_n = read_table(tmp_path / "t.csv", tokens=Tokens("seq", "ACGTN", "drop"))
    assert len(with_n) == 17 and with_n.features[7, 8] == 4


def test_columns_that_are_no_sequences(tmp_path):
    csv(tmp_path / "t.csv")
    with pytest.raises(UsageError, match="did you mean 'seq'"):
        read_table(tmp_path / "t.csv", tokens=Tokens("seqs"))
    with pytest.raises(UsageError, match="both the sequences and the label"):
        read_table(tmp_path / "t.csv", "seq", tokens=Tokens("seq"))
    csv(tmp_path / "e.csv", [""] * 20)
    with pytest.raises(DataError, match="empty sequences only"):
        read_table(tmp_path / "e.csv", tokens=Tokens("seq"))
    pq.write_table(pa.table({"n": range(3), "v": [[1, 2], [3, 4], [5, 6]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'n' contains values of type int64, not text"):
        read_table(tmp_path / "t.parquet", tokens=Tokens("n"))
    with pytest.raises(DataError, match="'v' contains numbers, not text"):
        read_table(tmp_path / "t.parquet", tokens=Tokens("v"))


@pytest.mark.parametrize("alphabet", ["", "A", "AA", "A C", "A\u00c9"])
def test_alphabets_that_are_refused(alphabet):
    with pytest.raises(UsageError, match="two or more different letters"):
        Tokens("seq", alphabet)


def test_only_errors_and_dropping_are_ways_to_treat_invalid_sequences():
    with pytest.raises(UsageError, match="error or drop, not 'keep'"):
        Tokens("seq", invalid="keep")
