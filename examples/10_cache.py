"""Embeddings in a cache.

Embeddings computed elsewhere are imported into a cache once, as `featood import` does on the command line. They are
then read block by block, verified against their checksums, and available to all commands. A head fitted on them records
their origin and refuses features from elsewhere.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import featood
from featood.cache import import_arrays

x, y = load_digits(return_X_y=True)
embed = PCA(16, random_state=0).fit(x).transform
known = np.flatnonzero(y < 7)

cache = featood.open_cache("feature_cache")
import_arrays(cache, "pca16/digits/train", {"pca": embed(x[known[::2]])}, labels=y[known[::2]])
import_arrays(cache, "pca16/digits/test", {"pca": embed(x[known[1::2]])}, labels=y[known[1::2]])
import_arrays(cache, "pca16/digits-7-to-9/test", {"pca": embed(x[y >= 7])})
for entry in cache.entries():
    print(f"{entry.key}: {entry.manifest.rows} rows, columns {', '.join(entry.manifest.columns)}")

train, test, odd = (cache[f"pca16/{key}"] for key in ("digits/train", "digits/test", "digits-7-to-9/test"))
print(f"blocks of 200 rows: {[len(block) for block in train.blocks(200)]}")
print(f"damaged blocks: {cache.verify('pca16/digits/train')}")

featood.create_head("knn", k=5).fit(train).save("heads/knn")
head = featood.load_head("heads/knn")  # without refitting
print(f"AUROC {featood.evaluate(head, test, {'7 to 9': odd})['7 to 9']['auroc']:.3f}")
try:
    head.score(x)
except featood.errors.FeatoodError as error:
    print(f"features from elsewhere: {error}")
