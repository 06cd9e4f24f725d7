"""Comparing heads, with intervals.

A difference between two heads means little without an estimate of its variation over test rows.
`delong_interval` gives the AUROC of each head an interval, and `delong_difference` tests pairs of heads on the same
rows; `holm` corrects the p-values for the number of pairs. On the command line: `featood score --intervals delong`.
"""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import featood
from featood.metrics import delong_difference, delong_interval, holm

x, y = load_digits(return_X_y=True)
known = y < 7
x_known, y_known, odd = x[known], y[known], x[~known]
HEADS = {
    "knn": {"k": 5},
    "mahalanobis": {"shrinkage": "ledoit-wolf"},
    "gmm": {"covariance": "diag", "ridge": 1e-2},
    "pca-reconstruction": {},
    "isolation-forest": {},
}

scores = {}
for name, options in HEADS.items():
    head = featood.create_head(name, **options).fit(x_known[::2], y_known[::2])
    scores[name] = head.score(x_known[1::2]), head.score(odd)
intervals = {name: delong_interval(pair) for name, pair in scores.items()}
for name, found in intervals.items():
    print(f"{name:20} AUROC {found.estimate:.3f}, 95 % interval {found.low:.3f} to {found.high:.3f}")

pairs = list(combinations(HEADS, 2))
p_values = holm([delong_difference(scores[first], scores[second]).p for first, second in pairs])
for (first, second), p in zip(pairs, p_values, strict=True):
    print(f"{first} and {second}: p = {p:.2g}, {'they differ' if p < 0.05 else 'no difference shown'}")

value, low, high = np.array(list(intervals.values())).T
plt.figure(figsize=(6, 2.5), layout="constrained")
plt.errorbar(value, list(scores), xerr=(value - low, high - value), fmt="o", capsize=3)
plt.xlabel("AUROC")
plt.savefig("intervals.png", dpi=150)
