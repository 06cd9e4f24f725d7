import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from featood.errors import UsageError
from featood.extractors.backbones import resolve_backbone
from featood.extractors.dense import DenseForward, plan_dense
from featood.extractors.taps import plan_taps

IMAGES = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(3))


class Segmentation(nn.Module):
    """A map at half the resolution, a classifier, and a way of resizing its output."""

    def __init__(self, resize=None, kernel=1, wrap=lambda logits: logits):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.classifier = nn.Conv2d(6, 4, kernel, padding=kernel // 2)
        self.resize, self.wrap = resize, wrap

    def forward(self, images):
        logits = self.classifier(self.stem(images))
        if self.resize:
            logits = functional.interpolate(logits, images.shape[2:], **self.resize)
        return self.wrap(logits)


class Last(nn.Module):
    """A linear layer on a map with the channels last, as in some transformers."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.classifier = nn.Linear(6, 4)

    def forward(self, images):
        return self.classifier(self.stem(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


NETS = {
    "its own resolution": (lambda: Segmentation(), (8, 12)),
    "bilinear": (lambda: Segmentation({"mode": "bilinear"}), (16, 24)),
    "with corners": (lambda: Segmentation({"mode": "bilinear", "align_corners": True}), (16, 24)),
    "nearest": (lambda: Segmentation({"mode": "nearest"}), (16, 24)),
    "as torchvision": (
        lambda: Segmentation({"mode": "bilinear"}, wrap=lambda x: {"out": x, "aux": x * 2}),
        (16, 24),
    ),
    "tuple": (lambda: Segmentation(wrap=lambda x: (x, x + 1)), (8, 12)),
    "channels last": (Last, (8, 12)),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", NETS)
def test_the_classifier_maps_each_pixel_to_its_logits(name):
    make, grid = NETS[name]
    net = make().eval()
    plan = plan_dense(net, IMAGES[:2])
    columns = DenseForward(net, plan)(IMAGES)
    assert plan.grid == grid and plan.main == "penultimate" and not plan.note
    assert columns["penultimate"].shape == (3, *grid, 6)
    returned = net(IMAGES)
    returned = returned["out"] if isinstance(returned, dict) else returned
    returned = returned[0] if isinstance(returned, tuple) else returned
    logits = returned.detach().permute(0, 2, 3, 1)
    assert torch.equal(columns["logits"], logits)
    weight, bias = (torch.from_numpy(part) for part in plan.classifier(net))
    torch.testing.assert_close(columns["penultimate"] @ weight.T + bias, logits, rtol=1e-4, atol=1e-5)


def test_a_layer_that_combines_pixels_is_no_classifier():
    net = Segmentation(kernel=3).eval()
    plan = plan_dense(net, IMAGES[:2])
    assert plan.classifier(net) is None and "'classifier' combines pixels" in plan.note
    columns = DenseForward(net, plan)(IMAGES)
    torch.testing.assert_close(columns["penultimate"], net.stem(IMAGES).detach().permute(0, 2, 3, 1))
    assert columns["logits"].shape == (3, 8, 12, 4)


def naive_average(values, window):
    """Mean over the positions of a square that exist, for ``[D, h, w]``."""
    averaged, half = np.empty_like(values), window // 2
    for row in range(values.shape[1]):
        for column in range(values.shape[2]):
            part = values[:, max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
            averaged[:, row, column] = part.mean((1, 2))
    return averaged


def naive_bilinear(values, grid):
    """Interpolation between the centres of pixels, for ``[D, h, w]``."""
    height, width = values.shape[1:]
    made = np.empty((len(values), *grid))
    for row in range(grid[0]):
        for column in range(grid[1]):
            y = np.clip((row + 0.5) * height / grid[0] - 0.5, 0, height - 1)
            x = np.clip((column + 0.5) * width / grid[1] - 0.5, 0, width - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = values[:, top, left] * (1 - x + left) + values[:, top, right] * (x - left)
            lower = values[:, below, left] * (1 - x + left) + values[:, below, right] * (x - left)
            made[:, row, column] = upper * (1 - y + top) + lower * (y - top)
    return made


class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3, 2, 1), nn.Conv2d(5, 7, 3, 2, 1)
        self.head = nn.Linear(7, 3)

    def forward(self, images):
        return self.head(self.second(self.first(images)).mean((2, 3)))


@pytest.mark.parametrize("window", [1, 3, 5])
def test_tapped_maps_agree_with_loops(window):
    net = Stages().eval()
    plan = plan_dense(net, IMAGES[:2], ("second", "first"), window)
    assert plan.grid == (8, 12) and plan.classifier(net) is None
    columns = DenseForward(net, plan)(IMAGES)
    first = net.first(IMAGES)
    maps = [part.detach().double().numpy() for part in (net.second(first), first)]
    for number in range(len(IMAGES)):
        parts = [naive_bilinear(naive_average(part[number], window), (8, 12)) for part in maps]
        expected = np.concatenate(parts).transpose(1, 2, 0)
        np.testing.assert_allclose(columns["patches"][number], expected, rtol=1e-4, atol=1e-5)


def test_tokens_become_a_grid_without_the_class_token():
    from featood.extractors.vision import timm

    net = timm.create_model(
        "vit_tiny_patch16_224", img_size=(32, 48), patch_size=8, depth=2, num_classes=3
    ).eval()
    images = torch.randn(2, 3, 32, 48)
    plan = plan_dense(net, images, ("blocks.1",), 1)
    assert plan.grid == (4, 6)
    seen = []
    handle = net.blocks[1].register_forward_hook(lambda _, __, output: seen.append(output))
    columns = DenseForward(net, plan)(images)
    handle.remove()
    for row in range(4):
        for column in range(6):
            assert torch.equal(columns["patches"][:, row, column], seen[0][:, 1 + 6 * row + column])


def test_mistakes_are_named():
    net = Stages().eval()
    with pytest.raises(UsageError, match=r"returns a tensor \[2, 3\], not a map .* by --tap"):
        plan_dense(net, IMAGES[:2])
    with pytest.raises(UsageError, match="has no module 'third'"):
        plan_dense(net, IMAGES[:2], ("third",))
    with pytest.raises(UsageError, match="'head' returns one vector per image"):
        plan_dense(net, IMAGES[:2], ("head",))
    with pytest.raises(UsageError, match="odd number of positions, not 2"):
        plan_dense(net, IMAGES[:2], ("first",), 2)
    with pytest.raises(UsageError, match="cannot be found; name maps"):
        plan_dense(Segmentation(wrap=torch.tanh).eval(), IMAGES[:2])


def test_torchvision_networks_for_segmentation():
    backbone = resolve_backbone("tv:deeplabv3_mobilenet_v3_large", "random")
    net, images = backbone.module, torch.randn(2, 3, 48, 64)
    plan = plan_dense(net, images)
    columns = DenseForward(net, plan)(images)
    assert plan.grid == (48, 64) and plan.resize == "bilinear"
    weight, bias = (torch.from_numpy(part) for part in plan.classifier(net))
    torch.testing.assert_close(
        columns["penultimate"] @ weight.T + bias, columns["logits"], rtol=1e-3, atol=1e-4
    )
    with pytest.raises(UsageError, match="the outputs of a classifier cannot be identified"):
        plan_taps(net, images)
