from featood.extractors.backbones import resolve_backbone
from featood.extractors.extract import ExtractOptions, extract
from featood.extractors.transform import Transform

SMALL = Transform(3, 16, 16, 0, (0.5,), (0.25,))


def run_small(cache, images, **how):
    backbone = resolve_backbone("cifar-resnet20", "random", 3)
    return extract(
        backbone, images, SMALL, cache, ExtractOptions(**{"block_rows": 32, "batch_size": 20, **how})
    )
