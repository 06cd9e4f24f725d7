"""Choosing a threshold.

A threshold turns a score into a decision. It is chosen on in-distribution rows on which the head was not fitted, as the
quantile that accepts the desired share of them. The share of accepted outliers can only be measured on available
outliers, and may differ on others.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import featood

x, y = load_digits(return_X_y=True)
known = np.flatnonzero(y < 7)
np.random.default_rng(0).shuffle(known)
fit, choose, test = np.split(known, [600, 900])

head = featood.create_head("mahalanobis", shrinkage="ledoit-wolf").fit(x[fit], y[fit])
chosen, tested, odd = head.score(x[choose]), head.score(x[test]), head.score(x[y >= 7])
seen = head.score(x[fit])

for share in (0.90, 0.95, 0.99):
    threshold = np.quantile(chosen, share)
    print(
        f"to accept {share:.0%}: threshold {threshold:.1f}; it accepts {np.mean(tested <= threshold):.1%} of other "
        f"in-distribution rows and {np.mean(odd <= threshold):.1%} of the outliers"
    )
wrong = np.quantile(seen, 0.95)
print(
    f"a threshold chosen on the training rows, {wrong:.1f}, would accept {np.mean(tested <= wrong):.1%}, not 95 %"
)

plt.figure(figsize=(6, 3), layout="constrained")
bins = np.linspace(0, np.quantile(odd, 0.99), 50)
plt.hist(tested, bins, density=True, alpha=0.6, label="digits 0 to 6, held out")
plt.hist(odd, bins, density=True, alpha=0.6, label="digits 7 to 9")
plt.axvline(np.quantile(chosen, 0.95), color="black", label="accepts 95 %")
plt.xlabel("squared Mahalanobis distance")
plt.legend()
plt.savefig("threshold.png", dpi=150)
