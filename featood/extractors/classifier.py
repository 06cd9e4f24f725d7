"""Training a classifier of small images, as a backbone for sets without a published one."""

from __future__ import annotations

__all__ = ["TrainOptions", "train_classifier"]

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from featood.data import ImageSet
from featood.errors import DataError, UsageError
from featood.extractors.transform import Transform
from featood.files import atomic_write
from featood.nets import create_net
from featood.numerics.devices import pick_device
from featood.training import Batches, TrainingResult, cosine, train


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Options of SGD with momentum and a cosine schedule, as usual for small images.

    Parameters
    ----------
    epochs, batch_size, learning_rate, momentum, weight_decay
        Options of the optimiser.
    shift : int
        Maximum random shift in pixels, with reflection padding.
    flip : bool
        Mirror half of the images; unsuitable for digits and letters.
    seed : int
        Seed of the initial weights, the batches and the augmentation.
    device : str
        ``auto`` selects a GPU if there is one.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: int = 4
    flip: bool = True
    seed: int = 0
    device: str = "auto"


def train_classifier(
    name: str,
    images: ImageSet,
    transform: Transform,
    out: Path,
    options: TrainOptions = TrainOptions(),
    progress: Callable[..., None] | None = None,
) -> TrainingResult:
    """Train a network of featood on a labelled set and save its weights.

    Parameters
    ----------
    name : str
        A network of :mod:`featood.nets`.
    images : ImageSet
        Labelled images.
    transform : Transform
        Transform from decoded images to network inputs.
    out : Path
        The safetensors file to write. During training, a folder of the same name ending in ``.training`` contains a
        checkpoint from which an interrupted run resumes.
    options : TrainOptions
        Options of the training.
    progress : callable, optional
        Called as ``progress(step, total, loss=..., accuracy=...)``.

    Raises
    ------
    DataError
        If labels are missing.
    UsageError
        If there is no network of that name.
    """
    if images.labels is None or not (images.labels >= 0).all():
        raise DataError(f"{images.name}/{images.split} has rows without a label; training needs labels")
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} must end in .safetensors")
    device = pick_device(options.device)
    pixels = transform([images.read(row) for row in range(len(images))])
    labels = torch.from_numpy(images.labels)
    classes = len(images.classes) or int(labels.max()) + 1
    generator = torch.Generator().manual_seed(options.seed)
    net = create_net(name, classes, transform.channels, generator).to(device).train()
    optimizer = torch.optim.SGD(
        net.parameters(),
        options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
        nesterov=options.momentum > 0,
    )
    batches = Batches(len(images), options.batch_size, options.seed)

    def losses(number: int) -> dict[str, Tensor]:
        rows = batches(number)
        batch = augment(pixels[rows], options.shift, options.flip, generator).to(device)
        wanted = labels[rows].to(device)
        logits = net(batch)
        right = (logits.argmax(1) == wanted).float().mean()
        return {"loss": nn.functional.cross_entropy(logits, wanted), "accuracy": right}

    steps = options.epochs * len(batches)
    settings = {"net": name, "data": images.digest(), "transform": transform.as_json()}
    result = train(
        losses,
        net,
        optimizer,
        steps,
        schedule=cosine(steps),
        generators=[generator],
        progress=progress,
        checkpoint=out.with_suffix(".training"),
        settings={**settings, **dataclasses.asdict(options)},
    )
    from safetensors.torch import save

    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    atomic_write(out, save(state))
    return result


def augment(batch: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Shift each image ``[B, C, H, W]`` by up to `shift` pixels with reflection padding, and mirror half of them."""
    size, _, height, width = batch.shape
    if flip:
        mirrored = torch.rand(size, generator=generator) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    if not shift:
        return batch
    padded = nn.functional.pad(batch, (shift,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * shift + 1, (2, size, 1), generator=generator)
    down = (top + torch.arange(height))[:, None, :, None]
    across = (left + torch.arange(width))[:, None, None, :]
    row = torch.arange(size)[:, None, None, None]
    channel = torch.arange(batch.shape[1])[None, :, None, None]
    return padded[row, channel, down, across]
