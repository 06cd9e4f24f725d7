"""Composing heads.

Heads that use different information can be combined. `compose` standardises the members' scores and sums them (or
takes their soft maximum); `rank-average` and `fisher` use ranks and p-values relative to the training rows. A
composition is itself a head: it is fitted, saved and scored like any other. It need not be better than its best member.
"""

from sklearn.datasets import load_digits

import featood
from featood.metrics import auroc

x, y = load_digits(return_X_y=True)
known = y < 7
train, labels, test, odd = x[known][::2], y[known][::2], x[known][1::2], x[~known]
MEMBERS = {
    "mahalanobis": {"shrinkage": "ledoit-wolf"},
    "pca-reconstruction": {},
    "isolation-forest": {"trees": 100},
}

heads = {name: featood.create_head(name, **options) for name, options in MEMBERS.items()}
members = [
    " ".join([name, *(f"{key}={value}" for key, value in options.items())])
    for name, options in MEMBERS.items()
]
print("members:", ", ".join(members))
for name in ("compose", "rank-average", "fisher"):
    heads[name] = featood.create_head(name, members=members)
heads["compose, maximum"] = featood.create_head("compose", members=members, beta=float("inf"))
for name, head in heads.items():
    head.fit(train, labels)
    print(f"{name:20} AUROC {auroc(head.score(test), head.score(odd)):.3f}")
