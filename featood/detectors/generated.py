"""Classes that are made from tables, with docstrings that describe their arguments."""

from __future__ import annotations

__all__ = ["make_class"]

import inspect
from typing import Any


def make_class(name: str, base: Any, module: str, summary: str, /, **content: Any) -> Any:
    """Make a subclass.

    Parameters
    ----------
    name, module : str
        Its name, and the module that has it under this name, as pickle needs.
    base : type
        Its base, with the description of each argument of ``__init__`` as `parameters`.
    summary : str
        First line of the docstring.
    **content
        Attributes of the class.

    Returns
    -------
    type
        The class, whose attribute `made_from_table` tells what reads source code that there is none.
    """
    arguments = list(inspect.signature(base.__init__).parameters)[1:]
    lines = [
        f"{summary}\n",
        "Parameters\n----------",
        *(f"{argument}\n    {base.parameters[argument]}" for argument in arguments),
        "\nRaises\n------\nDataError\n    If files are missing; the message says where to get them.\n",
    ]
    facts = {"__module__": module, "__doc__": "\n".join(lines), "made_from_table": True}
    return type(name, (base,), facts | content)
