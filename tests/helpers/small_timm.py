"""timm's vision transformers by their own names, but narrow and shallow."""

import pytest

SMALL = {"embed_dim": 48, "num_heads": 3, "depth": 2}


def shrink_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm build every model with the width and depth of `SMALL`."""
    from featood.extractors.vision import timm

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **how: create(name, **{**SMALL, **how}))


def require_models(*names: str) -> None:
    """Skip a test if the installed version of timm does not have these models."""
    from featood.extractors.vision import timm

    if missing := [name for name in names if not timm.is_model(name.split(".")[0])]:
        pytest.skip(f"timm {timm.__version__} has no {missing[0]}")
