"""Data sets of PyTorch with the names and arguments of pytorch-ood: texts by name, noise, PixMix, open-set splits.

Texts are the sets of :mod:`featood.data`, which keep every word, where pytorch-ood leaves out stop words.
"""

from __future__ import annotations

__all__ = [
    "DynamicOSS",
    "GaussianNoise",
    "Multi30k",
    "NewsGroup20",
    "OpenSetSimulation",
    "PixMixDataset",
    "Reuters8",
    "Reuters52",
    "UniformNoise",
    "WMT16Sentences",
    "WikiText2",
    "WikiText103",
]

import math
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from featood.data import InputSet, available_splits, open_dataset
from featood.data.images.download import download as download_set
from featood.data.images.generated import noise
from featood.data.images.image_set import packed_set
from featood.errors import UsageError
from featood.extractors.trainer.pixmix import PixMix
from featood.extractors.transform import Transform
from featood.reporter import TerminalReporter

Function = Callable[[Any], Any]


class _Rows(Dataset[tuple[Any, Any]]):
    """Rows of a set as pairs of input and class index, or -1 where there is none."""

    def __init__(
        self, inputs: InputSet, transform: Function | None, target_transform: Function | None
    ) -> None:
        self.inputs, self.transform, self.target_transform = inputs, transform, target_transform

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        x, y = self._read(row), -1 if self.inputs.labels is None else int(self.inputs.labels[row])
        return (
            self.transform(x) if self.transform else x,
            self.target_transform(y) if self.target_transform else y,
        )

    def _read(self, row: int) -> Any:
        return self.inputs.read(row)


class _Texts(_Rows):
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

    name: ClassVar[str]

    def __init__(
        self, root: str | os.PathLike[str], split: str, transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        with TerminalReporter() as reporter:
            if download and split not in available_splits(self.name, root):
                download_set(self.name, root, None, reporter)
            inputs = open_dataset(self.name, split, root)
            for note in inputs.notes:
                reporter.line(f"{self.name}/{split}: {note}")
        super().__init__(inputs, transform, target_transform)


class _TrainTest(_Texts):
    """A set of texts whose split is ``train`` or ``test``."""

    def __init__(
        self, root: str | os.PathLike[str], transform: Function | None = None,
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
        self, root: str | os.PathLike[str], transform: Function | None = None,
        target_transform: Function | None = None, download: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(root, "test", transform, target_transform, download)


class WikiText2(_Texts):
    """Lines of WikiText-2, without classes; the splits are ``train``, ``val`` and ``test``."""

    name = "wikitext-2"


class WikiText103(_Texts):
    """Lines of WikiText-103, without classes; the splits are ``train``, ``val`` and ``test``."""

    name = "wikitext-103"


class GaussianNoise(_Rows):
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

    def _read(self, row: int) -> Image.Image:
        return Image.fromarray(self.inputs.read(row).squeeze())


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


class OpenSetSimulation:
    """Base of the divisions of a data set into known and unknown classes, and of its rows into splits.

    ``kkc`` are the known classes, ``kuc`` the classes of outliers in training, and ``uuc`` those of other outliers.
    """

    kkc: set[Any]
    kuc: set[Any]
    uuc: set[Any]

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._rows: dict[tuple[str, bool], list[int]] = defaultdict(list)

    def train_dataset(self, in_dist: bool = True, out_dist: bool = True) -> Subset[Any]:
        """Return the rows for training of known classes, and of outliers."""
        return self._subset("train", in_dist, out_dist)

    def val_dataset(self, in_dist: bool = True, out_dist: bool = True) -> Subset[Any]:
        """Return the rows for validation of known classes, and of outliers."""
        return self._subset("val", in_dist, out_dist)

    def test_dataset(self, in_dist: bool = True, out_dist: bool = True) -> Subset[Any]:
        """Return the rows for testing of known classes, and of outliers."""
        return self._subset("test", in_dist, out_dist)

    def _subset(self, split: str, *kinds: bool) -> Subset[Any]:
        wanted = [known for known, chosen in zip((True, False), kinds, strict=True) if chosen]
        rows = [row for known in wanted for row in sorted(self._rows[split, known])]
        return Subset(self.dataset, rows)


class DynamicOSS(OpenSetSimulation):
    """A division of a data set by a seed, the same as in pytorch-ood.

    Rows of known classes, and of outliers of training, are divided among the splits; the other unknown classes belong
    to one split each. Labels are those of the data set; :class:`TargetMapping` renumbers them.

    Parameters
    ----------
    dataset : data set
        Pairs of input and class; its attribute ``targets`` is used, if it has one.
    train_size, val_size, test_size : float
        Shares of the rows of a class; the test set has what remains after rounding down.
    kuc, uuc_val, uuc_test : int
        Numbers of classes of outliers: in training and all other splits, in validation only, in testing only.
    seed : int, optional
        Seed of the classes and rows.

    Raises
    ------
    UsageError
        If the shares do not add up to 1, or no known class remains.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import TensorDataset
    >>> from featood.detectors import DynamicOSS
    >>> split = DynamicOSS(TensorDataset(torch.rand(100, 8), torch.arange(100) % 10), uuc_val=0, uuc_test=4, seed=0)
    >>> len(split.kkc), len(split.train_dataset()), len(split.test_dataset(in_dist=False))
    (6, 42, 40)
    """

    def __init__(
        self, dataset: Any, train_size: float = 0.7, val_size: float = 0.2, test_size: float = 0.1, kuc: int = 0,
        uuc_val: int = 2, uuc_test: int = 2, seed: int | None = None,
    ) -> None:  # fmt: skip
        if not math.isclose(train_size + val_size + test_size, 1):
            raise UsageError(f"the sizes add up to 1, not {train_size + val_size + test_size:g}")
        super().__init__(dataset)
        targets = np.asarray(dataset.targets if hasattr(dataset, "targets") else [int(y) for _, y in dataset])
        rng, self.unique_targets = np.random.default_rng(seed), np.unique(targets)
        if kuc + uuc_val + uuc_test >= len(self.unique_targets):
            raise UsageError(f"of {len(self.unique_targets)} classes, none would remain known")
        order = rng.permutation(self.unique_targets)
        outliers, in_val, in_test, known = np.split(order, np.cumsum([kuc, uuc_val, uuc_test]))
        for label in [*known, *outliers]:
            rows = rng.permutation(np.flatnonzero(targets == label))
            train, val = int(len(rows) * train_size), int(len(rows) * val_size)
            for split, part in zip(
                ("train", "val", "test"), np.split(rows, [train, train + val]), strict=True
            ):
                self._rows[split, label in known] += part.tolist()
        for split, labels in (("val", in_val), ("test", in_test)):
            self._rows[split, False] += np.flatnonzero(np.isin(targets, labels)).tolist()
        self.kkc, self.kuc, self.uuc = set(known), set(outliers), {*in_val, *in_test}
