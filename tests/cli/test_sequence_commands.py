"""Tables with a column of sequences, which becomes tokens."""

import numpy as np
import pytest

from featood.cache import open_cache


def opened(tmp_path, key):
    return open_cache(tmp_path / "cache")[key]


@pytest.fixture
def genes(tmp_path):
    """Write sequences of three kinds to a file."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(["a", "b", "c"], 40)
    sequences = ["".join(rng.choice(list("ACGT"), 8)) for _ in kinds]
    lines = [f"{kind},{text}" for kind, text in zip(kinds, sequences, strict=True)]
    (tmp_path / "genes.csv").write_text("\n".join(["kind,seq", *lines]))
    return tmp_path / "genes.csv", sequences


def test_a_column_of_sequences_becomes_tokens(featood, genes, tmp_path):
    path, sequences = genes
    code, out, err = featood(
        "import", "--file", path, "--label", "kind", "--tokens", "seq", "--ood-classes", "c"
    )
    assert code == 0, err
    assert "tokens of 'seq': A=0 C=1 G=2 T=3" in err
    assert [line.split()[1] for line in out.splitlines()] == ["48", "16", "16", "40"]
    for split in ("genes/train", "genes/val", "genes/test", "genes-ood/test"):
        part = opened(tmp_path, f"table-genes/{split}")
        right = [["ACGT".index(letter) for letter in sequences[int(row)]] for row in part.ids[:]]
        assert part.main == "tokens"
        np.testing.assert_array_equal(part.feature()[:], right)
    train = opened(tmp_path, "table-genes/genes/train")
    assert train.origin.table["alphabet"] == "ACGT"
    assert train.origin.run["table"]["tokens"] == "seq" and train.origin.run["table"]["invalid"] == "error"


def test_further_sequences_have_the_alphabet_and_length_of_the_first(featood, genes, tmp_path):
    path, _ = genes
    assert (
        featood("import", "--file", path, "--label", "kind", "--tokens", "seq", "--alphabet", "TGCA")[0] == 0
    )
    (tmp_path / "more.fa").write_text(">1\nTTTT\nGGGG\n>2\nCCCC\nAAAA\n")
    more = ("import", "--file", tmp_path / "more.fa", "--ood")
    code, _, err = featood(*more)
    assert code == 2 and "contains tokens; name the column of sequences with --tokens" in err
    code, _, err = featood(*more, "--tokens", "sequence", "--alphabet", "ACGT")
    assert code == 2 and "has the alphabet TGCA" in err
    assert featood(*more, "--tokens", "sequence")[0] == 0
    found = opened(tmp_path, "table-genes/more/test").feature()[:]
    assert np.asarray(found).tolist() == [[0] * 4 + [1] * 4, [2] * 4 + [3] * 4]
    (tmp_path / "short.fa").write_text(">1\nTTTT\n>2\nGGGG\n")
    code, _, err = featood("import", "--file", tmp_path / "short.fa", "--ood", "--tokens", "sequence")
    assert code == 3 and "in row 0 a sequence of 4 letters instead of 8" in err


def test_options_without_effect_on_sequences_are_refused(featood, genes, tmp_path):
    path, _ = genes
    flowers = tmp_path / "flowers.csv"
    flowers.write_text("a,b,species\n" + "".join(f"{row},{row % 7},{'xy'[row % 2]}\n" for row in range(30)))
    for words, said in (
        (("--alphabet", "ACGT"), "--alphabet needs --tokens"),
        (("--invalid", "drop"), "--invalid needs --tokens"),
        (("--tokens", "seq", "--keep", "kind"), "--keep has no effect with --tokens"),
        (("--tokens", "seq", "--alphabet", "A"), "two or more different letters"),
        (("--tokens", "seq", "--scale", "standard"), "does not apply to tokens"),
    ):
        code, _, err = featood("import", "--file", path, *words)
        assert code == 2 and said in err, words
    assert featood("import", "--file", flowers, "--label", "species")[0] == 0
    code, _, err = featood("import", "--file", path, "--ood", "--tokens", "seq")
    assert code == 2 and "contains no tokens; omit --tokens" in err
