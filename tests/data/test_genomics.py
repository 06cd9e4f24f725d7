"""The genomics table in both published layouts, and its noise."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest, chisquare
from tfrecords import example, write

from featood.cache import open_cache
from featood.data.tables.sets import find_table, open_table, token_noise
from featood.errors import DataError, UsageError

LENGTH = 250
KNOWN = ["Bacillus", "Burkholderia", "Yersinia"]
NEW = {"val": ["Advenella"], "test": ["Blautia", "Zobellia"]}
NUMBERS = {"Advenella": 10, "Bacillus": 0, "Blautia": 76, "Burkholderia": 1, "Yersinia": 9, "Zobellia": 129}
FOLDERS = {
    ("in", "train"): "before_2011_in_tr",
    ("in", "val"): "between_2011-2016_in_val",
    ("in", "test"): "after_2016_in_test",
    ("ood", "val"): "between_2011-2016_ood_val",
    ("ood", "test"): "after_2016_ood_test",
}


def rows(domain, split):
    """Random sequences of each class, as numbers, and the names of their classes."""
    rng = np.random.default_rng([*map(ord, split)])
    names = KNOWN if domain == "in" else NEW[split]
    return [(name, rng.integers(4, size=LENGTH)) for name in names for _ in range(12)]


def records(folder):
    """Write the layout of the authors: two files for each split."""
    for (domain, split), part in FOLDERS.items():
        (folder / part).mkdir(parents=True)
        examples = [
            example(x=[" ".join(map(str, bases)).encode()], y=[NUMBERS[name]], z=[b"NC_000964.3 17"])
            for name, bases in rows(domain, split)
        ]
        write(folder / part / "a.tfrecord", examples[:7])
        write(folder / part / "b.tfrecord", examples[7:])
        (folder / part / "a_nsample.json").write_text("{}")
    (folder / "label_dict.json").write_text(json.dumps(NUMBERS))


def texts(folder):
    """Write the layout of TensorFlow Datasets."""
    folder.mkdir(parents=True)
    for (domain, split), part in FOLDERS.items():
        lines = [
            "\t".join(["".join("ACGT"[base] for base in bases), name, f"NC_000964.3 {place}", domain])
            for place, (name, bases) in enumerate(rows(domain, split))
        ]
        (folder / f"{part}.txt").write_text("\n".join(["seq\tlabel\tseq_info\tdomain", *lines]) + "\n")


@pytest.mark.parametrize("layout", [records, texts])
@pytest.mark.parametrize("place", ["genomics", "tabular/genomics"])
def test_both_layouts(tmp_path, layout, place):
    layout(tmp_path / place)
    inside, outside = open_table(find_table("genomics"), tmp_path)
    assert list(inside) == ["train", "val", "test"] and list(outside) == ["val", "test"]
    for domain, tables in (("in", inside), ("ood", outside)):
        for split, table in tables.items():
            right = rows(domain, split)
            np.testing.assert_array_equal(table.features, [bases for _, bases in right])
            assert table.alphabet == "ACGT"
            if domain == "in":
                assert table.classes == tuple(KNOWN)
                assert [KNOWN[label] for label in table.labels] == [name for name, _ in right]
            else:
                assert (table.labels == -1).all()


def test_the_table_is_imported_with_its_splits(featood, tmp_path):
    records(tmp_path / "data" / "genomics")
    words = ("import", "--table", "genomics", "--data-dir", tmp_path / "data")
    code, out, err = featood(*words)
    assert code == 0, err
    keys = ["genomics/train", "genomics/val", "genomics/test", "genomics-ood/val", "genomics-ood/test"]
    assert [line.split(":")[0] for line in out.splitlines()] == [f"table-genomics/{key}" for key in keys]
    cache = open_cache(tmp_path / "cache")
    train, ood = cache["table-genomics/genomics/train"], cache["table-genomics/genomics-ood/test"]
    assert train.main == "tokens" and train.classes == tuple(KNOWN)
    assert train.origin.table["alphabet"] == "ACGT"
    np.testing.assert_array_equal(train.feature()[:], [bases for _, bases in rows("in", "train")])
    np.testing.assert_array_equal(ood.feature()[:], [bases for _, bases in rows("ood", "test")])
    for option in (("--parts", "80,20"), ("--seed", "1")):
        code, _, err = featood(*words, *option)
        assert code == 2 and "has its own splits" in err
    code, _, err = featood(*words, "--scale", "standard", "--overwrite")
    assert code == 2 and "does not apply to tokens" in err


def test_noise_is_made_of_the_rows_of_the_test_split(featood, tmp_path):
    texts(tmp_path / "data" / "genomics")
    assert featood("import", "--table", "genomics", "--data-dir", tmp_path / "data")[0] == 0
    fit = ("fit", "discrete-cd", "--epochs", "1", "--steps", "1", "--width", "8", "--depth", "1")
    assert featood(*fit)[0] == 0
    noise = ("table-noise:mutate,rate=0.5,seed=3", "table-noise:mutate,rate=1,n=20")
    code, out, err = featood(
        "score", "--ood", "genomics-ood", "--ood", noise[0], "--ood", noise[1], "--json", "-"
    )
    assert code == 0, err
    assert [row["n_ood"] for row in json.loads(out)["rows"]] == [24, 36, 20]
    cache = open_cache(tmp_path / "cache")
    mutated = next(cache[entry.key] for entry in cache.entries() if "seed-3" in entry.dataset)
    test = np.array([bases for _, bases in rows("in", "test")])
    assert binomtest(int((mutated.feature()[:] != test).sum()), test.size, 0.5 * 0.75).pvalue > 1e-3
    assert mutated.origin.run["table"]["rows"] == "table-genomics/genomics/test"
    for name, said in (("gaussian", "unknown for tokens"), ("mutate,rate=x", "a number such as 0.1")):
        code, _, err = featood("score", "--ood", f"table-noise:{name}")
        assert code == 2 and said in err


def test_files_that_are_damaged_or_missing(tmp_path):
    entry, folder = find_table("genomics"), tmp_path / "genomics"
    records(folder)
    names = folder / "label_dict.json"
    for content in (None, "[1]", "{", '{"a": "b"}'):
        names.unlink(missing_ok=True)
        if content is not None:
            names.write_text(content)
        with pytest.raises(DataError, match=r"label_dict\.json .* is missing or damaged"):
            open_table(entry, tmp_path)
    names.write_text(json.dumps({name: number for name, number in NUMBERS.items() if number}))
    with pytest.raises(DataError, match="no name of the class 0"):
        open_table(entry, tmp_path)
    names.write_text(json.dumps(NUMBERS))
    shard = folder / FOLDERS["in", "val"] / "b.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"b\.tfrecord ends within record 28"):
        open_table(entry, tmp_path)
    for file in (folder / FOLDERS["ood", "test"]).iterdir():
        file.unlink()
    (folder / FOLDERS["ood", "test"]).rmdir()
    with pytest.raises(DataError, match=r"after_2016_ood_test.*google-research"):
        open_table(entry, tmp_path)


def test_a_class_of_the_test_split_that_is_not_in_training_is_named(tmp_path):
    texts(tmp_path / "genomics")
    path = tmp_path / "genomics" / f"{FOLDERS['in', 'test']}.txt"
    path.write_text(path.read_text().replace("Yersinia", "Yersinja"))
    with pytest.raises(DataError, match="no class 'Yersinja'"):
        open_table(find_table("genomics"), tmp_path)


def test_replaced_tokens_are_uniform_and_the_others_are_kept():
    tokens = np.random.default_rng(0).integers(5, size=(400, 100)).astype(np.float32)
    noise = token_noise(tokens, 5, rate=0.2, seed=1)
    changed = noise != tokens
    assert binomtest(int(changed.sum()), tokens.size, 0.2 * 4 / 5).pvalue > 1e-3
    steps = (noise - tokens)[changed].astype(int) % 5
    assert chisquare(np.bincount(steps, minlength=5)[1:]).pvalue > 1e-3
    np.testing.assert_array_equal(token_noise(tokens, 5, rate=0.0), tokens)
    uniform = token_noise(np.zeros((400, 100)), 5, rate=1.0)
    assert chisquare(np.bincount(uniform.ravel(), minlength=5)).pvalue > 1e-3
    np.testing.assert_array_equal(noise, token_noise(tokens, 5, rate=0.2, seed=1))
    assert (noise != token_noise(tokens, 5, rate=0.2, seed=2)).any()


def test_fewer_rows_are_different_rows_of_the_set():
    tokens = np.arange(50)[:, None].repeat(3, 1)
    chosen = token_noise(tokens, 4, rate=0.0, n=20)[:, 0]
    assert len(set(chosen.tolist())) == 20 and chosen.tolist() != list(range(20))
    with pytest.raises(UsageError, match="50 rows, which has no 51"):
        token_noise(tokens, 4, n=51)
    with pytest.raises(UsageError, match="rate must be from 0 to 1"):
        token_noise(tokens, 4, rate=1.5)
