"""HEAT over a Gaussian.

One Gaussian per class is a coarse density. HEAT uses it as a prior and trains a small network, the residual, to correct
its energy. The plot shows both in the plane: the energy of the Gaussians is lowest inside the bends of the moons, where
there are no rows; the residual moves the low energies towards the rows.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_moons

import featood
from featood.metrics import auroc

x, y = make_moons(2000, noise=0.08, random_state=0)
test, _ = make_moons(1000, noise=0.08, random_state=1)
noise = np.random.default_rng(0).uniform((-2, -1.5), (3, 2), (1000, 2))

heads = {
    "gmm": featood.create_head("gmm").fit(x, y),
    "heat-gmm": featood.create_head(
        "heat-gmm", space="none", relu=False, prior_temperature=1.0, width=64, depth=2, lr=3e-3, epochs=10,
        sgld_steps=20, step_size=5e-3, noise=0.1, l2=0.1,
    ).fit(x, y),
}  # fmt: skip
grid = np.stack(np.meshgrid(np.linspace(-2, 3, 120), np.linspace(-1.5, 2, 90)), 2)
figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for (name, head), axis in zip(heads.items(), axes, strict=True):
    print(f"{name:9} AUROC against uniform noise {auroc(head.score(test), head.score(noise)):.3f}")
    scores = head.score(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    axis.contourf(grid[..., 0], grid[..., 1], np.clip(scores, *np.quantile(scores, (0, 0.8))), 20)
    axis.plot(*test[::4].T, ".", color="white", markersize=2)
    axis.set_title(name)
figure.savefig("heat.png", dpi=150)
