"""Heads: one file each, in families; `register` makes them known."""

from featood.heads.artefacts.artefact import load_head, save_head
from featood.heads.base.asking import ask
from featood.heads.registry import Card, broken_plugins, create_head, head_class, list_heads, option, register

__all__ = [
    "Card",
    "ask",
    "broken_plugins",
    "create_head",
    "head_class",
    "list_heads",
    "load_head",
    "option",
    "register",
    "save_head",
]
