import pytest
import torch
from unsound import Distance, broken, head

from featood.heads import registry
from featood.heads.base.feature_head import StreamingHead
from featood.options import option


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    registry.list_heads()  # modules register when they are imported, which must be before the copy
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))


def test_fit_that_depends_on_blocks():
    @head()
    class Broken(Distance):
        """Averages the means of blocks."""

        def fit_state(self, train):
            means = [self.vectors(block).double().mean(0) for block in train.blocks()]
            return {"mean": torch.stack(means).mean(0)}

    broken("block_independent", Broken)


def test_fit_that_depends_on_earlier_fits():
    @head()
    class Broken(Distance):
        """Averages with the previous fit."""

        def fit_state(self, train):
            mean = super().fit_state(train)["mean"]
            before = vars(self)["_state"]
            return {"mean": mean if before is None else (mean + before["mean"]) / 2}

    broken("fit_again", Broken)


def test_partial_fit_that_ignores_earlier_parts():
    @head()
    class Broken(StreamingHead):
        """Keeps only the last block."""

        def accumulate(self, statistics, block):
            return self.vectors(block).double().mean(0)

        def finish(self, statistics, train):
            return {"mean": statistics}

        score_block = Distance.score_block

    broken("partial_fits", Broken)


def test_fit_on_outliers():
    @head()
    class Broken(Distance):
        """Uses rows of all labels."""

        def select(self, source, fitting, device="cpu"):
            rows = super().select(source, fitting, device)
            rows.known_only = False
            return rows

    broken("negative_labels", Broken)
    broken("too_few_rows", Broken, "outliers only")


def test_state_outside_the_artefact():
    @head()
    class Broken(Distance):
        """Stores the mean outside its state."""

        def fit_state(self, train):
            vars(self)["mean"] = super().fit_state(train)["mean"]
            return {}

        def score_block(self, block, fitted):
            return super().score_block(block, {"mean": vars(self)["mean"]})

    broken("save_and_load", Broken, "KeyError")


def test_scores_by_name():
    @head()
    class Broken(Distance):
        """Fits for one score only."""

        which: str = option("near", "score", choices=("near", "far"))

        def fit_state(self, train):
            return {"mean": super().fit_state(train)["mean"] + (self.which == "far")}

        def score_block(self, block, fitted):
            return super().score_block(block, fitted) * (2 if self.which == "far" else 1)

    broken("scores_by_name", Broken, "far")

    @head()
    class Renamed(Distance):
        """Has one score with two names."""

        which: str = option("near", "score", choices=("near", "far"))

    broken("scores_by_name", Renamed, "by another name")
