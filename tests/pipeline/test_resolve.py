import numpy as np
import pytest
from reporters import Kept

from featood.cache import FeatureCache, import_arrays
from featood.errors import CacheCorrupt, DataError, Mismatch, UsageError
from featood.pipeline import extraction_like
from featood.pipeline.ensembles import join_sets
from featood.pipeline.resolve import find_ood_set, find_set, find_test_sets
from featood.pipeline.selection import select
from featood.pipeline.table_import import import_table
from featood.pipeline.table_writer import TableImport


def put(cache, key, seed=0, run=None, recipe=None, rows=20):
    rng = np.random.default_rng(seed)
    return import_arrays(
        cache, key, {"avg": rng.normal(size=(rows, 3)).astype("f4")}, rng.normal(size=(rows, 4)).astype("f4"),
        rng.integers(0, 4, rows), run=run, recipe=recipe,
    )  # fmt: skip


@pytest.fixture
def cache(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    put(cache, "net/news/train", 1)
    put(cache, "net/news/test", 2)
    put(cache, "net/spam/test", 3, {"role": "ood"})
    put(cache, "net/junk/val", 4, {"role": "ood"})
    put(cache, "net/junk/train", 5, {"role": "ood"})
    put(cache, "net/flyers/train", 6, {"role": "ood"})
    return cache


def test_the_test_split_is_used_else_val_else_the_only_one(cache):
    test = cache["net/news/test"]
    names = {name: find_set(cache, test, name).name for name in ("spam", "junk", "flyers")}
    assert names == {"spam": "net/spam/test", "junk": "net/junk/val", "flyers": "net/flyers/train"}


def test_the_reference_is_not_returned(cache):
    assert find_set(cache, cache["net/news/train"], "news").name == "net/news/test"
    with pytest.raises(DataError, match="net/news is not in the cache"):
        cache.remove(["net/news/train"])
        find_set(cache, cache["net/news/test"], "news")


def test_errors_for_sets_that_cannot_be_extracted_say_how_to_add_them(cache):
    with pytest.raises(DataError, match="featood import --backbone net"):
        find_set(cache, cache["net/news/test"], "textures")
    made = put(cache, "live/news/test", 7, recipe={"backbone": "module:Net"})
    with pytest.raises(DataError, match=r"featood\.extract\(module, loader"):
        find_set(cache, made, "textures")


def test_a_set_with_other_settings_is_refused(cache):
    put(cache, "net/odd/test", 8, recipe={"scale": "other"})
    with pytest.raises(Mismatch, match="extracted with other settings"):
        find_set(cache, cache["net/news/test"], "odd")


def test_a_damaged_set_is_an_error(cache):
    (cache.folder("net", "spam", "test") / "manifest.json").write_text("{")
    with pytest.raises(CacheCorrupt):
        find_set(cache, cache["net/news/test"], "spam")


def test_the_in_distribution_set_cannot_be_an_outlier_set(cache):
    selection = select(cache, "net", "news")
    with pytest.raises(UsageError, match="name another set for --outliers"):
        find_ood_set(selection, cache["net/news/train"], "news", "--outliers")
    assert find_ood_set(selection, cache["net/news/train"], "spam", "--outliers").name == "net/spam/test"


def test_noise_has_the_columns_of_the_table(tmp_path):
    cache, kept = FeatureCache(tmp_path), Kept()
    import_table(cache, "two-moons", TableImport(), rows=60)
    test = cache["table-two-moons/two-moons/test"]
    noise = find_set(cache, test, "table-noise:uniform,n=30", reporter=kept)
    assert len(noise) == 30 and noise.feature().shape[1] == 2 and noise.origin.role == "ood"
    assert len(kept.lines) == 1 and "generating it with the columns of" in kept.lines[0]
    again = find_set(cache, test, "table-noise:uniform,n=30", reporter=kept)
    assert again.name == noise.name and len(kept.lines) == 1


def test_sets_are_found_for_each_member_of_an_ensemble_and_joined(cache):
    put(cache, "other/news/test", 2)
    put(cache, "other/spam/test", 3)
    joined = join_sets(cache, "both", [cache["net/news/test"], cache["other/news/test"]])
    spam = find_set(cache, joined, "spam")
    assert spam.name == "both/spam/test" and spam.origin.members == ("net", "other")
    assert spam.origin.role == "ood" and spam.feature().shape[1] == 8
    cache.remove(["net/spam/test"])  # the joined set remains in the cache
    assert find_set(cache, joined, "spam").name == "both/spam/test"
    with pytest.raises(DataError, match="net/junk2 is not in the cache"):
        find_set(cache, joined, "junk2")


def test_sets_of_images_are_extracted_with_the_settings_of_the_reference(cache, monkeypatch):
    calls = []
    monkeypatch.setattr(
        extraction_like, "extract_like", lambda *given, **how: calls.append((*given[2:], how["data_dir"]))
    )
    reason = []
    monkeypatch.setattr(extraction_like, "changed_images", lambda *_: reason[0])
    recipe = {"transform": {"channels": 3, "height": 8, "width": 8, "mean": [0.0], "std": [1.0]}}
    reference, kept = put(cache, "cnn/photos/test", 1, recipe=recipe), Kept()
    find_set(cache, reference, "textures", data_dir="images", reporter=kept)
    assert calls == [("textures", None, "images")]
    assert kept.lines == ["textures is not in the cache: extracting it with the settings of cnn/photos/test"]
    put(cache, "cnn/textures/test", 2, {"role": "ood"}, recipe)
    reason[:] = [""]
    assert find_set(cache, reference, "textures", reporter=kept).name == "cnn/textures/test"
    reason[:] = ["was extracted from images that have changed"]
    find_set(cache, reference, "textures", reporter=kept)
    assert calls[-1][1].key == "cnn/textures/test"
    put(cache, "cnn/dogs/test", 3, {"role": "ood"}, {**recipe, "dtype": "float16"})
    find_set(cache, reference, "dogs", reporter=kept)
    assert kept.lines[1:] == [
        "textures in the cache was extracted from images that have changed: extracting it again",
        "dogs in the cache was extracted with other settings than cnn/photos/test (differing: dtype): "
        "extracting it again",
    ]
    # sets imported by the user are not replaced
    put(cache, "cnn/cats/test", 3, None, {**recipe, "dtype": "float16"})
    with pytest.raises(Mismatch, match="differing: dtype"):
        find_set(cache, reference, "cats")


def test_missing_sets_are_left_out_of_a_suite_but_an_error_if_named(cache, monkeypatch):
    put(cache, "net/textures/test", 9, {"role": "ood"})
    selection, kept = select(cache, "net", "news"), Kept()
    found = find_test_sets(selection, ["spam", "spam"], ["cifar10-far"], reporter=kept)
    assert found.test.name == "net/news/test" and list(found.outliers) == ["spam", "textures"]
    assert found.missing == ("mnist", "svhn", "places365") and len(kept.lines) == 3
    assert found.warnings == ["sets that could not be found are left out: mnist, svhn, places365"]
    assert find_test_sets(selection, ["spam"], split="train").test.name == "net/news/train"
    with pytest.raises(DataError, match="net/mnist is not"):
        find_test_sets(selection, ["mnist"], ["cifar10-far"])
    with pytest.raises(DataError, match="none of the sets"):
        find_test_sets(selection, [], ["imagenet-near"])
    with pytest.raises(UsageError, match="name what to score against"):
        find_test_sets(selection, [])


def test_a_wrong_name_is_said_before_another_set_is_extracted(cache, monkeypatch):
    monkeypatch.setattr(extraction_like, "extract_like", lambda *_, **__: pytest.fail("extracted"))
    recipe = {"transform": {"channels": 3, "height": 8, "width": 8, "mean": [0.0], "std": [1.0]}}
    put(cache, "cnn/photos/test", 1, recipe=recipe)
    with pytest.raises(UsageError, match="no-such-set"):
        find_test_sets(select(cache, "cnn", "photos"), ["noise:uniform", "no-such-set"])
