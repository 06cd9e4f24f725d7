import numpy as np

from featood.extractors.backbones import align_classes

IMAGENETTE = {
    "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player", "n03000684": "chain_saw",
    "n03028079": "church", "n03394916": "French horn", "n03417042": "garbage truck", "n03425413": "gas_pump",
    "n03445777": "golf ball", "n03888257": "parachute",
}  # fmt: skip
PLACES = [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]


def test_a_subset_of_imagenet_by_id_and_by_name(test_data):
    from featood.extractors.backbones.class_names import torchvision_names
    from featood.extractors.vision import torchvision

    ids, titles = torchvision_names(torchvision.models.ResNet18_Weights.IMAGENET1K_V1)
    assert list(align_classes(list(IMAGENETTE), ids, titles)) == PLACES
    assert list(align_classes(list(IMAGENETTE.values()), ids, titles)) == PLACES
    assert list(align_classes([name.upper() for name in IMAGENETTE.values()], ids, titles)) == PLACES
    folders = sorted(path.name for path in (test_data / "imagenet" / "val").iterdir())
    assert np.array_equal(align_classes(folders, ids), np.arange(1000))


def test_names_that_do_not_match():
    ids, titles = (
        ("n1", "n2", "n3", "n4"),
        ("crane, bird", "crane, machine", "night-lamp, light", "lamp, light"),
    )
    assert list(align_classes(["n3", "n1"], ids)) == [2, 0]
    assert list(align_classes(["Night lamp", "n2"], ids, titles)) == [2, 1]
    assert list(align_classes(["machine", "bird"], ids, titles)) == [1, 0]
    for folders in ([], ["n3", "other"], ["crane"], ["light"], ["n3", "night lamp"], ["n3", "n3"]):
        assert align_classes(folders, ids, titles) is None
    assert align_classes(["a"], ()) is None


def test_classes_of_larger_imagenets():
    from featood.extractors.backbones.class_names import imagenet_names

    for count, first in ((11821, "n00005787"), (21843, "n00004475"), (1000, "n01440764")):
        ids, titles = imagenet_names({"num_classes": count})
        assert len(ids) == len(titles) == count and ids[0] == first
    assert imagenet_names({"num_classes": 10}) == ((), ())
