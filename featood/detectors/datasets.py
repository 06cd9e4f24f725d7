"""Data sets of PyTorch with the names and arguments of pytorch-ood: texts and recordings, noise, PixMix.

Texts are the sets of :mod:`featood.data`, which keep every word, where pytorch-ood leaves out stop words.
"""

from __future__ import annotations

__all__ = [
    "FSDD",
    "GaussianNoise",
    "Multi30k",
    "NewsGroup20",
    "PixMixDataset",
    "Reuters8",
    "Reuters52",
    "UniformNoise",
    "WMT16Sentences",
    "WikiText2",
    "WikiText103",
]

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from featood.data.images.generated import noise
from featood.data.images.image_set import packed_set
from featood.data.naming import StrPath
from featood.detectors.rows import Function, NamedSet, Rows, open_rows
from featood.errors import UsageError
from featood.extractors.trainer.pixmix import PixMix
from featood.extractors.transform import Transform


class _Texts(NamedSet):
    """A set of texts by its name.

    Parameters
    ----------
    root : path
        Folder of the sets, in which this one has a folder of its name.
    split : str
        The split.
    transform, target_transform : callable, optional
        Functions of text and class index.
    download : bool
        Whether to download it if it is missing.

    Raises
    ------
    DataError
        If it is missing.
    """

    def __init__(
        self, root: StrPath, split: str, transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(open_rows(self.name, split, root, download), transform, target_transform)


class _TrainTest(_Texts):
    """A set of texts whose split is ``train`` or ``test``."""

    def __init__(
        self, root: StrPath, transform: Function | None = None,
        target_transform: Function | None = None, train: bool = True, download: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(root, "train" if train else "test", transform, target_transform, download)


class NewsGroup20(_TrainTest):
    """20 Newsgroups, with classes."""

    name = "newsgroups20"


class Reuters8(_TrainTest):
    """Reuters-8, with classes."""

    name = "reuters8"


class Reuters52(_TrainTest):
    """Reuters-52, with classes."""

    name = "reuters52"


class Multi30k(_TrainTest):
    """English sentences of Multi30k, without classes."""

    name = "multi30k"


class WMT16Sentences(_Texts):
    """English sentences of WMT16, without classes."""

    name = "wmt16"

    def __init__(
        self, root: StrPath, transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(root, "test", transform, target_transform, download)


class WikiText2(_Texts):
    """Lines of WikiText-2, without classes; the splits are ``train``, ``val`` and ``test``."""

    name = "wikitext-2"


class WikiText103(_Texts):
    """Lines of WikiText-103, without classes; the splits are ``train``, ``val`` and ``test``."""

    name = "wikitext-103"


class FSDD(NamedSet):
    """Spoken digits: pairs of samples, float32 ``[T]`` from -1 to 1, and digit, in the order of the file names.

    Parameters
    ----------
    root : path
        Folder of the sets.
    transform, target_transform : callable, optional
        Functions of samples and digit.
    download : bool
        Whether to download it if it is missing; the error says where to get what cannot be downloaded.

    Raises
    ------
    DataError
        If it is missing.
    """

    name = "fsdd"

    def __init__(
        self, root: StrPath, transform: Function | None = None, target_transform: Function | None = None,
        download: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(open_rows(self.name, "all", root, download), transform, target_transform)

    def _read(self, row: int) -> np.ndarray:
        samples: np.ndarray = self.inputs.read(row).samples
        return samples


class GaussianNoise(Rows):
    """Images of Gaussian noise with mean and standard deviation 128, clipped, as PIL images.

    Parameters
    ----------
    length : int
        Number of images.
    size : sequence of int
        Height, equal width, and 1 or 3 channels.
    transform, target_transform : callable, optional
        Functions of image and class index, which is -1.
    seed : int, optional
        Seed, by default 0: an image does not depend on when it is read.
    """

    kind: ClassVar[str] = "gaussian"

    def __init__(
        self, length: int, size: Sequence[int] = (224, 224, 3), transform: Function | None = None,
        target_transform: Function | None = None, seed: int | None = None,
    ) -> None:  # fmt: skip
        height, width, channels = size
        if height != width:
            raise UsageError(f"images of noise are square, not {height} x {width}")
        drawn = noise("test", kind=self.kind, n=length, size=height, channels=channels, seed=seed or 0)
        super().__init__(drawn, transform, target_transform)


class UniformNoise(GaussianNoise):
    """Images of uniform noise; see :class:`GaussianNoise`."""

    kind = "uniform"


class PixMixDataset(Dataset[tuple[Tensor, Any]]):
    """Images that are mixed with changed copies of themselves and with those of another set, as normalised tensors.

    Severity, rounds and shares are those of the authors. Random numbers follow from the state of PyTorch's generator.

    Parameters
    ----------
    dataset, mixing_set : data set
        Pairs of PIL image and class index; the classes of the second are not used.
    std, mean : sequence of float
        Of each channel, for pixels from 0 to 1.

    References
    ----------
    Hendrycks et al., PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures, CVPR 2022.
    """

    def __init__(
        self, dataset: Any, mixing_set: Any, std: Sequence[float] = (1.0, 1.0, 1.0),
        mean: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:  # fmt: skip
        self.dataset, self.mixing_set, self.std, self.mean = dataset, mixing_set, tuple(std), tuple(mean)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[Tensor, Any]:
        image, label = self.dataset[row]
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        other = self.mixing_set[int(rng.integers(len(self.mixing_set)))][0]
        pixels = np.atleast_3d(np.asarray(image))
        height, width, channels = pixels.shape
        transform = Transform(channels, height, width, 0, self.mean[:channels], self.std[:channels])
        mixed = PixMix(packed_set(np.asarray(other)[None]), transform)(pixels, rng)
        return transform([mixed])[0], label
