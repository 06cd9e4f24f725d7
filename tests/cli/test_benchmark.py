"""``featood benchmark``: missing sets, means over groups, and the columns of OpenOOD's leaderboard."""

import csv
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from featood import extract
from featood.cache import FeatureCache, import_arrays
from featood.data import benchmark
from featood.pipeline.saved_results import read_results
from featood.report import leaderboard_rows

SHIFTS = {"cifar100": 0.5, "tiny-imagenet": 1.0, "mnist": 2.0, "svhn": 1.5, "textures": 0.2, "places365": 0.7}


def logits_of(count, seed, shift=0.0):
    labels = np.arange(count) % 4
    rows = np.random.default_rng(seed).normal(size=(count, 4)) + (3 - shift) * np.eye(4)[labels]
    return rows.astype("f4"), labels


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = FeatureCache(tmp_path / "cache")
    logits, labels = logits_of(200, 0)
    import_arrays(cache, "net/cifar10/test", {"z": logits}, logits, labels, classes="abcd")
    for seed, (name, shift) in enumerate(SHIFTS.items(), 1):
        logits, _ = logits_of(100 + seed, seed, shift)
        import_arrays(cache, f"net/{name}/test", {"z": logits}, logits, run={"role": "ood"})
    return cache


def expected(cache, names):
    """Mean AUROC and FPR95 with OOD as the positive class, by counting."""

    def score(name):
        logits = cache[f"net/{name}/test"].logits[:].astype(float)
        return -logits.max(1)

    known, aurocs, fprs = score("cifar10"), [], []
    for name in names:
        odd = score(name)
        truth = np.concatenate([np.zeros(len(known)), np.ones(len(odd))])
        aurocs.append(roc_auc_score(truth, np.concatenate([known, odd])))
        threshold = next(value for value in np.sort(odd)[::-1] if (odd >= value).mean() >= 0.95)
        fprs.append((known >= threshold).mean())
    return f"{100 * np.mean(aurocs):.2f}", f"{100 * np.mean(fprs):.2f}"


def test_means_of_groups_beside_published_figures(cache, featood):
    code, out, err = featood("benchmark", "cifar10-openood", "--head", "max-logit", "--head", "doctor")
    assert code == 0, err
    assert "OpenOOD v1.5, https://zjysteven.github.io/OpenOOD" in out
    assert "near: cifar100, 101 rows; tiny-imagenet, 102 rows" in out
    row = next(line for line in out.splitlines() if line.startswith("max-logit")).split()
    one = benchmark("cifar10-openood")
    near, far = (expected(cache, one.groups[group]) for group in ("near", "far"))
    assert row == ["max-logit", *near, *far, "87.52", "91.10"]
    assert next(line for line in out.splitlines() if line.startswith("doctor")).split()[-2:] == ["-", "-"]
    assert "not checked" in out and "left out" not in out


def test_missing_sets(cache, featood):
    cache.remove(["net/svhn/test", "net/cifar100/test"])
    code, out, err = featood("benchmark", "cifar10-openood", "--head", "max-logit")
    assert code != 0 and not out
    assert re.search(r"2 of 6 sets .*: cifar100, svhn .*--available", err)
    code, out, err = featood("benchmark", "cifar10-openood", "--head", "max-logit", "--available")
    assert code == 0, err
    assert "cifar100, missing" in out and "2 sets are left out" in out
    row = next(line for line in out.splitlines() if line.startswith("max-logit")).split()
    far = ("mnist", "textures", "places365")
    assert row[1:5] == [*expected(cache, ["tiny-imagenet"]), *expected(cache, far)]
    cache.remove([entry.key for entry in cache.entries() if entry.dataset != "cifar10"])
    code, _, err = featood("benchmark", "cifar10-openood", "--head", "max-logit", "--available")
    assert code != 0 and "all out-of-distribution sets" in err


def test_columns_of_the_leaderboard(cache, featood):
    cache.remove(["net/svhn/test"])
    words = (
        "benchmark",
        "cifar10-openood",
        "--head",
        "doctor",
        "--head",
        "max-logit",
        "--available",
        "--csv",
        "-",
    )
    code, out, err = featood(*words)
    assert code == 0, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == [
        "Rank", "Training", "Postprocessor", "Near-OOD AUROC", "Far-OOD AUROC", "ID Accuracy", "Outlier Data",
        "Model Arch.", "Additional Description",
    ]  # fmt: skip
    assert [row["Rank"] for row in rows] == ["1", "2"]
    assert float(rows[0]["Near-OOD AUROC"]) >= float(rows[1]["Near-OOD AUROC"])
    row = next(row for row in rows if row["Postprocessor"] == "max-logit")
    assert row["Near-OOD AUROC"] == expected(cache, ("cifar100", "tiny-imagenet"))[0]
    test = cache["net/cifar10/test"]
    assert row["ID Accuracy"] == f"{100 * (test.logits[:].argmax(1) == test.labels[:]).mean():.2f}"
    assert (row["Model Arch."], row["Additional Description"]) == (
        "net",
        "OpenOOD v1.5; other rows of cifar10, cifar100, tiny-imagenet, mnist, textures, places365; without svhn",
    )


def test_rows_of_image_lists_are_preferred(cache, featood, tmp_path):
    """Sets with the rows of lists replace others, of whose rows the results tell."""
    sizes = {"cifar10": 9000, "tiny-imagenet": 7793, "svhn": 150}
    for seed, (name, count) in enumerate(sizes.items(), 20):
        logits, labels = logits_of(count, seed, SHIFTS.get(name, 0.0))
        known = {"labels": labels, "classes": "abcd"} if name == "cifar10" else {"run": {"role": "ood"}}
        import_arrays(cache, f"net/{name}:list=cifar10/test", {"z": logits}, logits, **known)
    words = ("benchmark", "cifar10-openood", "--head", "max-logit")
    code, out, err = featood(*words, "--json", "results.json")
    assert code == 0, err
    assert "ID: cifar10:list=cifar10, 9000 rows" in out
    assert "near: cifar100, 101 rows; tiny-imagenet:list=cifar10, 7793 rows" in out
    assert (
        "rows: other than those of the image lists of OpenOOD v1.5: cifar100, mnist, textures, places365"
        in out
    )
    results = read_results("results.json")
    assert results["benchmark"] == {
        "name": "cifar10-openood", "protocol": "OpenOOD v1.5", "lists": "cifar10", "missing": [],
        "other_rows": ["cifar100", "mnist", "textures", "places365"],
    }  # fmt: skip
    assert results["groups"]["near"] == ["cifar100", "tiny-imagenet:list=cifar10"]
    code, out, err = featood(*words, "--no-lists")
    assert code == 0 and "ID: cifar10, 200 rows" in out and "tiny-imagenet, 102 rows" in out
    # lists of OpenOOD v1 have the same names
    logits, _ = logits_of(8525, 30)
    cache.remove(["net/tiny-imagenet-list-cifar10/test"])
    import_arrays(cache, "net/tiny-imagenet:list=cifar10/test", {"z": logits}, logits, run={"role": "ood"})
    code, _, err = featood(*words)
    assert code != 0 and "has 8525 rows" in err and "OpenOOD v1.5 has 7793: it is of another version" in err


@pytest.fixture
def mnist(featood, tmp_path, monkeypatch):
    """Extract a small MNIST, and return a function that writes an image list of textures."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def picture(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)

    for number in range(4):
        for split in ("train", "test"):
            picture(tmp_path / "data" / "mnist" / split / str(number % 2) / f"{number}.png")
        picture(tmp_path / "data" / "fashion-mnist" / "test" / f"{number}.png")
        picture(tmp_path / "data" / "images_classic" / "texture" / f"{number}.png")

    def listed(folder, count):
        path = tmp_path / "data" / "benchmark_imglist" / folder / "test_texture.txt"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"texture/{number}.png -1\n" for number in range(count)))

    net = ("--backbone", "cifar-resnet20", "--weights", "random", "--image-size", "16")
    assert featood("extract", *net, "--dataset", "mnist")[0] == 0
    return listed


def test_the_list_of_another_benchmark_is_not_read(mnist, featood):
    """The lists of other benchmarks may be those of another version of the protocol."""
    mnist("cifar10", 4)
    words = ("benchmark", "mnist-openood", "--head", "msp", "--available")
    code, out, err = featood(*words)
    assert code == 0, err
    assert "textures: there is only the image list of cifar10, which is not that of mnist-openood" in err
    assert "far: textures, missing" in out
    mnist("mnist", 3)
    code, out, err = featood(*words)
    assert code == 0 and "far: textures:list=mnist, 3 rows" in out


def test_the_list_of_another_benchmark_is_read_for_a_suite_only_by_name(mnist, featood):
    mnist("cifar10", 4)
    words = ("score", "--head", "msp")
    said = (
        "textures: there is only the image list of cifar10, and mnist has lists of its own: name the set as "
    )
    for named in (
        ("--suite", "mnist-far"),
        ("--ood", "textures"),
        ("--ood", "fashion-mnist,textures:limit=2"),
    ):
        code, out, err = featood(*words, *named)
        assert (
            code == 3
            and said in " ".join(err.split())
            and "textures is not in the cache" not in err
            and not out
        )
    code, out, err = featood(*words, "--ood", "textures:list=cifar10")
    assert code == 0 and "textures:list=cifar10" in out, err
    mnist("mnist", 3)
    code, out, err = featood(*words, "--ood", "textures:list=mnist", "--suite", "mnist-near")
    assert code == 0 and "textures:list=mnist" in out, err


def test_full_spectrum(tmp_path, featood):
    cache = FeatureCache(tmp_path / "cache")
    one = benchmark("midog")
    for seed, name in enumerate(("midog", "midog-1b", "midog-1c", *one.sets)):
        shift = 0.0 if name == "midog" else 0.5 if seed < 3 else 1.5
        logits, labels = logits_of(60, seed, shift)
        known = {"labels": labels, "classes": "abcd"} if seed < 3 else {}
        run = {"role": "ood"} if seed else {}
        import_arrays(cache, f"net/{name}/test", {"z": logits}, logits, run=run, **known)
    options = ("--head", "max-logit")
    plain, full = (featood("benchmark", "midog", *options, *more) for more in ((), ("--full-spectrum",)))
    assert plain[0] == full[0] == 0, plain[2] + full[2]
    assert "ID: midog, 60 rows" in plain[1] and "ID: midog with midog-1b, midog-1c, 180 rows" in full[1]
    cache.remove(["net/midog-1b/test", "net/midog-1c/test"])
    assert "all shifted sets" in featood("benchmark", "midog", *options, "--full-spectrum", "--available")[2]


def test_volumes_of_oasis(tmp_path, featood):
    """Sets of volumes are those of the user's own network and loader."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )  # fmt: skip
    one, cache = benchmark("oasis3"), tmp_path / "cache"
    for number, name in enumerate((one.dataset, *one.sets)):
        volumes, labels = torch.randn(20, 1, 6, 6, 6) + number / 4, torch.arange(20) % 2
        batches = [(volumes, labels) if number == 0 else volumes]
        extract(net, batches, cache=cache, name=f"net/{name}/test", ood=number > 0, quiet=True)
    code, out, err = featood("benchmark", "oasis3", "--head", "msp")
    assert code == 0, err
    assert "near: oasis3-atlas, 20 rows; oasis3-brats, 20 rows; oasis3-ct, 20 rows" in out
    assert "far: oasis3-heart, 20 rows; oasis3-chaos, 20 rows" in out
    code, _, err = featood("extract", "--backbone", "mnist-convnet", "--dataset", "oasis3", "--data-dir", ".")
    assert code != 0 and "featood.extract in Python" in err


def test_what_is_refused(cache, featood):
    code, _, err = featood("benchmark", "cifar10-openood", "--full-spectrum")
    assert code == 2 and "no full-spectrum version" in err
    assert "either --all or --head" in featood("benchmark", "cifar10-openood", "--all", "--head", "msp")[2]
    code, _, err = featood("benchmark", "cifar100-openood", "--head", "msp", "--available")
    assert code == 2 and "net/cifar100/test is an out-of-distribution set of its backbone" in err
    code, _, err = featood("benchmark", "phakir")
    assert code != 0 and "phakir is not in the cache" in err


def test_a_list_of_all(featood):
    code, out, _ = featood("benchmark")
    assert code == 0 and "cub-ssb" in out and "OpenMIBOOD" in out


def test_training_is_for_all_heads(featood):
    for words in (("benchmark", "cifar10-openood"), ("score", "--ood", "mnist")):
        code, _, err = featood(*words, "--training")
        assert code == 2 and "--training is for --all" in err


def test_ranks_are_by_the_first_group():
    rows = [
        {"head": head, "ood": ood, "auroc": auroc, "fpr95_ood": 0.5, "n_id": 9, "n_ood": 9}
        for head, near, far in (("a", 0.7, 0.99), ("b", 0.8, 0.6))
        for ood, auroc in (("cub:easy", near), ("cub:hard", far))
    ]
    found = leaderboard_rows({"rows": rows, "id": {}, "backbone": "net"}, benchmark("cub-ssb"))
    assert [(row["Postprocessor"], row["Easy-OOD AUROC"], row["Hard-OOD AUROC"]) for row in found] == [
        ("b", "80.00", "60.00"), ("a", "70.00", "99.00"),
    ]  # fmt: skip
