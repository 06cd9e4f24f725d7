"""A head of your own, in one file.

A head is a class with options as fields and two methods: from training rows to tensors, and from a block of rows to
scores. The decorator registers its name. Saving, loading, blocks, devices and input checks come with the base class,
and `featood.testing.check_head` runs the conformance tests on it.
"""

import torch
from sklearn.datasets import load_digits

import featood
from featood.heads import FeatureHead, option, register
from featood.metrics import auroc
from featood.testing import check_head


@register(
    "nearest-mean",
    title="Distance to the nearest class mean",
    paper="An example",
    year=2026,
    needs=("features", "labels"),
)
class NearestMean(FeatureHead):
    """Score ``min_c ||z - mu_c||_p``."""

    p: float = option(2.0, "order of the norm", low=1)

    def fit_state(self, train):
        """Return the class means ``[C, D]``; labels are ranks of the classes that have rows."""
        rows = torch.cat([self.vectors(block).double() for block in train.blocks()])
        ranks = torch.cat([torch.as_tensor(block.labels) for block in train.blocks()])
        sums = torch.zeros(int(ranks.max()) + 1, rows.shape[1], dtype=torch.float64).index_add(0, ranks, rows)
        return {"means": sums / ranks.bincount()[:, None]}

    def score_block(self, block, fitted):
        """Return the distance ``[B]``."""
        return torch.cdist(self.vectors(block).double(), fitted["means"], p=self.p).amin(1)


x, y = load_digits(return_X_y=True)
known = y < 7
for p in (1.0, 2.0, 4.0):
    head = featood.create_head("nearest-mean", p=p).fit(x[known][::2], y[known][::2])
    print(f"p = {p:.0f}: AUROC {auroc(head.score(x[known][1::2]), head.score(x[~known])):.3f}")
check_head("nearest-mean")
print("nearest-mean passes all conformance checks")
