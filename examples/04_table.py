"""A table.

The columns of a table have different units, so most heads need them on a common scale: `space="standardize"` uses the
mean and standard deviation of the training rows. Two cultivars of wine are in-distribution, the third is not. On the
command line, from a file: `featood import --file wine.csv --label cultivar --ood-classes third`.
"""

from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import featood
from featood.metrics import auroc

wine = load_wine()
known = wine.target < 2
train, test, labels, _ = train_test_split(wine.data[known], wine.target[known], test_size=0.4, random_state=0)
odd = wine.data[~known]

print(f"{len(train)} rows to fit on; the columns range over")
for name, column in list(zip(wine.feature_names, train.T, strict=True))[:4]:
    print(f"  {name:18} {column.min():.1f} to {column.max():.1f}")
for name, options in {"knn": {"k": 5}, "gmm": {}, "lof": {}}.items():
    for space in ("none", "standardize"):
        head = featood.create_head(name, space=space, **options).fit(train, labels)
        print(f"{name:4} space {space:12} AUROC {auroc(head.score(test), head.score(odd)):.3f}")
