"""Fitting by parts.

The fit of some heads is a sum over rows. Such a head can be fitted part by part, in any order, in constant memory: for
streams, for data on several machines, or for sets that do not fit into memory. The result equals a single fit on all
rows.
"""

import numpy as np
from sklearn.datasets import load_digits

import featood

x, y = load_digits(return_X_y=True)
known = y < 7
x, y = x[known], y[known]

whole = featood.create_head("mahalanobis", ridge=1e-3).fit(x, y)
parts = featood.create_head("mahalanobis", ridge=1e-3)
for number, rows in enumerate(np.array_split(np.argsort(y), 4), 1):
    parts.partial_fit(x[rows], y[rows])
    print(f"part {number}: {len(rows)} rows of classes {', '.join(map(str, np.unique(y[rows])))}")

difference = np.abs(whole.score(x) / parts.score(x) - 1).max()
print(f"largest relative difference to a single fit: {difference:.0e}")

try:
    parts.partial_fit(x[rows], y[rows])
except featood.errors.UsageError as error:
    print(f"the same part again: {error}")
