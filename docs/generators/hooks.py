"""Hooks of mkdocs, which add the generated pages and their navigation."""

from __future__ import annotations

__all__ = ["on_config", "on_files"]

import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

import command_pages
import coverage_pages
import data_pages
import gallery_pages
import head_pages
import pytorch_ood_pages
import reference_pages


def on_config(config: Any) -> Any:
    """Add the generated sections to the navigation."""
    sections = {
        "Heads": [
            "heads/index.md",
            {"Methods of other libraries": "heads/coverage.md"},
            *(
                {head_pages.family_title(family): [{name: f"heads/{name}.md"} for name in names]}
                for family, names in head_pages.families().items()
            ),
        ],
        "Weights and images": [
            {"Published weights": "data/weights.md"},
            {"Datasets": "data/images.md"},
        ],
        "Gallery": ["gallery/index.md", *(f"gallery/{path.stem}.md" for path in gallery_pages.examples())],
        "Commands": sorted(
            command_pages.command_pages(), key=lambda path: (not path.endswith("index.md"), path)
        ),
        "Python": [
            "python/index.md",
            *({module: f"python/{module}.md"} for module in reference_pages.MODULES),
        ],
    }
    config.nav = [
        {title: sections.get(title, pages)} for entry in config.nav for title, pages in entry.items()
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    pages: dict[str, str | bytes] = {
        **head_pages.head_pages(),
        "heads/coverage.md": coverage_pages.coverage_page(),
        **command_pages.command_pages(),
        **data_pages.data_pages(),
        **reference_pages.reference_pages(),
        "guides/pytorch-ood.md": pytorch_ood_pages.pytorch_ood_page(),
        "gallery/index.md": gallery_pages.gallery_index(),
    }
    for path, run in gallery_pages.run_all().items():
        pages[f"gallery/{path.stem}.md"] = gallery_pages.example_page(path, run)
        pages |= {f"gallery/{name}": picture for name, picture in run.pictures.items()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files
