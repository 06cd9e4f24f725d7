"""First scores from arrays.

A head is fitted on in-distribution rows and then scores any rows: higher means more out-of-distribution. Here, rows are
the 64 pixels of handwritten digits. The digits 0 to 6 are in-distribution; 7 to 9 are not, and are not used for
fitting.
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import featood
from featood.metrics import detection_metrics

x, y = load_digits(return_X_y=True)
known = y < 7
train, test, labels, _ = train_test_split(
    x[known], y[known], test_size=0.3, random_state=0, stratify=y[known]
)
odd = x[~known]

head = featood.create_head("knn", k=10).fit(train, labels)
id_scores, ood_scores = head.score(test), head.score(odd)

print(f"{len(train)} rows to fit on, {len(test)} to test, {len(odd)} out-of-distribution")
print(f"mean score in-distribution      {id_scores.mean():.3f}")
print(f"mean score out-of-distribution  {ood_scores.mean():.3f}")
for name, value in detection_metrics(id_scores, ood_scores).items():
    print(f"{name:16} {value:.3f}")
