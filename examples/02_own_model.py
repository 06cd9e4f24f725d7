"""Your own model.

`featood.extract` runs any module over any batches once, and returns features, logits and labels as a set. It detects
the last linear layer, so that heads that need the classifier, such as `vim` and `react`, can be fitted.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import featood

x, y = load_digits(return_X_y=True)
images, labels = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(y)
torch.manual_seed(0)
known = torch.nonzero(labels < 7).flatten()
known = known[torch.randperm(len(known))]
fit, held_out, odd = known[:900], known[900:], labels >= 7

net = nn.Sequential(
    nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    nn.Linear(64, 7),
)  # fmt: skip
optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
for _ in range(30):
    for rows in fit[torch.randperm(len(fit))].split(100):
        loss = nn.functional.cross_entropy(net(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def batches(rows):
    """Cut images and labels into batches."""
    return list(zip(images[rows].split(100), labels[rows].split(100), strict=True))


train = featood.extract(net, batches(fit), name="small-net/digits/train", quiet=True)
test = featood.extract(net, batches(held_out), name="small-net/digits/test", quiet=True)
outliers = featood.extract(net, images[odd], name="small-net/digits-7-to-9/test", quiet=True)
print(train)
print(f"accuracy on held-out rows: {(test.logits.argmax(1) == test.labels).mean():.3f}")
for name in ("msp", "energy", "react", "knn", "vim"):
    metrics = featood.evaluate(featood.create_head(name).fit(train), test, {"digits 7 to 9": outliers})
    print(f"{name:12} AUROC {metrics['digits 7 to 9']['auroc']:.3f}")
