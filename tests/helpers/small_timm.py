"""timm's vision transformers by their own names, but narrow and shallow."""

import pytest

SMALL = {"embed_dim": 48, "num_heads": 3, "depth": 2}


def shrink_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm build every model with the width and depth of `SMALL`."""
    from featood.extractors.vision import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **how: create(name, **{**SMALL, **how}))
