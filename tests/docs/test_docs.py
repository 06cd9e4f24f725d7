"""Documentation and examples: code runs, commands parse, links are valid."""

import ast
import dataclasses
import doctest
import importlib
import itertools
import json
import os
import posixpath
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import command_pages
import coverage_pages
import data_pages
import docs_runner
import gallery_pages
import head_pages
import numpy as np
import pytest
import pytorch_ood_pages
import reference_pages

from featood.cli.root import root
from featood.data import benchmark, get_entry, suite
from featood.data.masked.layouts import LAYOUTS
from featood.extractors.backbones import list_published
from featood.heads import head_class, list_heads
from featood.nets.registry import is_net

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCTESTS = [
    path
    for path in sorted((ROOT / "featood").rglob("*.py"))
    if ">>> " in path.read_text("utf-8") and "heads" not in path.parts  # those of heads have a separate test
]
SHELL = re.compile(r"^```shell\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"[\w-]+\.(npy|csv|json|safetensors|txt)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def generated() -> dict[str, str]:
    """Return all generated pages, those of the gallery without output."""
    pages = head_pages.head_pages() | command_pages.command_pages() | reference_pages.reference_pages()
    pages |= data_pages.data_pages()
    pages["heads/coverage.md"] = coverage_pages.coverage_page()
    pages["guides/pytorch-ood.md"] = pytorch_ood_pages.pytorch_ood_page()
    pages["gallery/index.md"] = gallery_pages.gallery_index()
    for path in gallery_pages.examples():
        pages[f"gallery/{path.stem}.md"] = gallery_pages.example_page(path, gallery_pages.Run("", {}))
    return pages


def commands(path: Path) -> list[str]:
    """Return the featood commands of a page."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    lines = [line.strip() for block in SHELL.findall(text) for line in block.splitlines()]
    lines += [line[4:] for line in text.splitlines() if line.startswith("    featood ")]
    return [line for line in lines if line.startswith("featood ")]


def parse(line: str) -> None:
    """Parse a command without running it."""
    words = shlex.split(line, comments=True)[1:]
    for word in filter(FILE.fullmatch, words):
        Path(word).touch()
    command: click.Command = root
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(click.Context(command), name)
        assert found is not None, f"there is no command {name}"
        command = found
    command.make_context(command.name, words)


def test_there_are_at_least_eight_short_examples():
    paths = gallery_pages.examples()
    assert len(paths) >= 8
    for path in paths:
        assert len(path.read_text("utf-8").splitlines()) < 60, path.name
        title, text = gallery_pages.title_and_text(path)
        assert title and text, path.name


def test_examples_and_the_python_of_pages_run():
    paths = [*map(str, gallery_pages.examples()), *map(str, PAGES)]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "tests" / "helpers" / "docs_runner.py"), *paths],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    failures = json.loads(found.stdout)
    assert not failures, "\n".join(failures.values())


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_names_in_python_code_that_is_not_run_exist(path):
    import featood

    for code, _ in docs_runner.python_blocks(path):
        for node in ast.walk(ast.parse(code)):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "featood"
            ):
                assert hasattr(featood, node.attr), node.attr
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "create_head":
                name = ast.literal_eval(node.args[0])
                known = {field.name for field in dataclasses.fields(head_class(name))} | {"preset"}
                assert {keyword.arg for keyword in node.keywords} <= known


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.stem)
def test_commands_parse(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in commands(path):
        try:
            parse(line)
        except click.ClickException as error:
            pytest.fail(f"{line}: {error.format_message()}")


def test_the_parser_refuses_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in (
        "featood fit knn --no-such-option",
        "featood fit knn --k many",
        "featood score --intervals nonsense",
    ):
        with pytest.raises(click.ClickException):
            parse(line)
    assert len(commands(ROOT / "README.md")) > 15


def test_getting_started_runs_from_embeddings_to_scores(tmp_path, monkeypatch, featood):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, rows in (("train", 90), ("test", 60), ("sport", 40)):
        np.save(f"{name}.npy", rng.normal(3 if name == "sport" else 0, 1, (rows, 6)))
    np.save("y.npy", rng.integers(0, 3, 90))
    np.save("y-test.npy", rng.integers(0, 3, 60))
    text = (DOCS / "getting-started.md").read_text("utf-8")
    assert run_commands(featood, text.split("## Your own embeddings\n")[1].split("\n## ")[0]) == 5


@pytest.mark.parametrize("page", ["getting-started.md", "guides/own-table.md"])
def test_pages_run_from_a_table_to_scores(page, tmp_path, monkeypatch, featood):
    monkeypatch.chdir(tmp_path)
    for name, classes in (
        ("sensors", "fine worn unknown"),
        ("january", "fine worn"),
        ("other-machine", "fine worn"),
    ):
        write_table(Path(f"{name}.csv"), classes.split())
    text = (DOCS / page).read_text("utf-8")
    part = text.split("## A table\n")[-1].split("\n## Shell completion")[0].split("\n## Heads that train")[0]
    assert run_commands(featood, part) in (3, 7)


def write_table(path: Path, classes: list[str]) -> None:
    values = np.random.default_rng(len(path.stem)).normal(size=(40 * len(classes), 2))
    rows = [f"{x:.4f},{y:.4f},{classes[number % len(classes)]}" for number, (x, y) in enumerate(values)]
    path.write_text("\n".join(["speed,heat,fault", *rows]))


def run_commands(featood, text: str) -> int:
    """Run the commands of a text, the last of which scores, and return their number."""
    lines = [line for block in SHELL.findall(text) for line in block.splitlines()]
    for line in lines:
        code, out, err = featood(*shlex.split(line)[1:])
        assert code == 0, f"{line}: {err}"
    assert "AUROC" in out
    return len(lines)


def test_every_head_has_a_complete_page():
    pages, cards = head_pages.head_pages(), list_heads()
    names = [name for name in cards if head_class(name).__module__.startswith("featood.heads.")]
    assert sorted(pages) == sorted(["heads/index.md", *(f"heads/{name}.md" for name in names)])
    for name in names:
        page, cls, card = pages[f"heads/{name}.md"], head_class(name), cards[name]
        assert f"| [`{name}`]({name}.md) |" in pages["heads/index.md"]
        assert card.url in page and all(
            head_pages.NEEDS[need] in page for need in (*card.needs, *card.uses)
        ), name
        for option in dataclasses.fields(cls):
            if option.init:
                assert f"| `{option.name}` |" in page, (name, option.name)
        for choice in (*card.scores, *cls.presets):
            assert f"`{choice}`" in page, (name, choice)
        assert card.caution.lower() in page.replace("\\", "").lower(), name


def test_every_command_is_on_a_page_with_its_options():
    pages = command_pages.command_pages()
    for name in root.list_commands(click.Context(root)):
        assert f"# featood {name}" in pages[f"commands/{name}.md"]
        assert f"({name}.md)" in pages["commands/index.md"]
    for words, context in command_pages.walk():
        page = pages.get(f"commands/{words.split()[1]}.md", "") if " " in words else ""
        for param in context.command.params:
            if page and isinstance(param, click.Option) and words != "featood fit knn":
                assert param.opts[0] in page, (words, param.opts)


def test_classes_made_from_tables_are_described_without_their_source():
    page = reference_pages.reference_pages()["python/featood.detectors.md"]
    assert "::: featood.detectors.KNN\n" in page and "::: featood.detectors.CIFAR10C\n" not in page
    found = page.partition("## CIFAR10C { #featood.detectors.CIFAR10C }")[2].partition("\n## ")[0]
    assert "CIFAR10C(root, subset, transform=None, target_transform=None, download=False)" in found
    assert "| `subset` | A corruption, such as `fog`," in found


def test_public_names_exist_and_are_documented():
    for module in reference_pages.MODULES:
        for name in reference_pages.public_names(module):
            value = getattr(importlib.import_module(module), name)
            assert not callable(value) or value.__doc__, f"{module}.{name}"


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page, flags=re.M | re.S), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", word) for word in words}


def test_links_are_valid():
    pages = {path.relative_to(DOCS).as_posix(): path.read_text("utf-8") for path in PAGES} | generated()
    for name, page in pages.items():
        for link in LINK.findall(page):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            assert target in pages, f"{name} links to {link}"
            assert not anchor or anchor in anchors(pages[target]), f"{name} links to {link}"


def test_all_pages_are_in_the_navigation():
    listed = re.findall(
        r": ([\w/-]+\.md)( # generated)?$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE
    )
    assert sorted(name for name, made in listed if not made) == sorted(
        path.relative_to(DOCS).as_posix() for path in PAGES
    )
    assert {name for name, made in listed if made} <= generated().keys()


@pytest.mark.parametrize("path", DOCTESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_in_docstrings(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    failed, tried = doctest.testmod(importlib.import_module(name))
    assert tried and not failed


def test_weights_and_sets_of_images_are_on_pages():
    from featood.data import list_datasets, list_suites
    from featood.extractors.backbones import list_published

    pages = data_pages.data_pages()
    for name, entry in list_published().items():
        assert f"| `{name}` | {entry.dataset} |" in pages["data/weights.md"]
    for name in (*(entry.name for entry in list_datasets()), *list_suites()):
        assert f"| `{name}` |" in pages["data/images.md"]


def needs_dataset(command: str) -> bool:
    """Whether the name of a set is left out in a command of a table."""
    return "--dataset" not in command and f"{command} ".startswith(("extract ", "dense extract ", "train "))


@pytest.mark.parametrize("name", coverage_pages.read_peers())
def test_commands_for_methods_of_other_libraries_parse(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = coverage_pages.read_peers()[name].methods
    assert len({method.name for method in methods}) == len(methods)
    for method in methods:
        assert method.commands or method.note, f"{method.name} has neither a command nor a reason"
        for command in method.commands:
            if "pyod:" not in command or find_spec("pyod"):
                parse(f"featood {command}" + " --dataset cifar10" * needs_dataset(command))


def names_of_sets(command: str) -> list[str]:
    """Return the names of sets that a command of a table contains."""
    words = shlex.split(command)
    options = ("--dataset", "--ood", "--outliers", "--mixing-set", "--shifted")
    found = [after for before, after in itertools.pairwise(words) if before in options]
    found += [
        name for before, after in itertools.pairwise(words) if before == "--suite" for name in suite(after)
    ]
    if words[0] == "benchmark" and len(words) > 1:
        found += [benchmark(words[1]).dataset, *benchmark(words[1]).sets]
    return found


@pytest.mark.parametrize("key", pytorch_ood_pages.read_sections())
def test_what_stands_for_a_name_of_pytorch_ood_exists(key, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = pytorch_ood_pages.read_sections()[key].methods
    assert len({method.name for method in methods}) == len(methods)
    for method in methods:
        assert method.commands or method.note, f"{method.name} has neither a command nor a reason"
        for command in method.commands:
            if command.startswith("featood."):
                module, _, name = command.rpartition(".")
                assert getattr(importlib.import_module(module), name) is not None
                continue
            parse(f"featood {command}" + " --dataset cifar10" * needs_dataset(command))
            for name in names_of_sets(command):
                base, _, split = name.partition("/")
                known = base.partition(":")[0] in LAYOUTS or base.endswith(".txt") or get_entry(base)
                assert known and (not split or split in get_entry(base).splits)
            for before, after in itertools.pairwise(shlex.split(command)):
                if before in ("--backbone", "--initial") and ".pytorch-ood-" in after:
                    assert after in list_published()
                assert before != "--arch" or after == "gru" or is_net(after)


def test_all_names_of_pytorch_ood_are_listed():
    counts = {key: len(one.methods) for key, one in pytorch_ood_pages.read_sections().items()}
    assert counts["detectors"] == 36 and counts["losses"] == 18 and counts["weights"] == 60
    assert (counts["images"], counts["texts"], counts["recordings"]) == (39, 7, 1)
    assert counts["benchmarks"] == 14  # with their base class
    page = pytorch_ood_pages.pytorch_ood_page()
    assert page.count("\n| `") == sum(counts.values())
    none = page.count("| none |")
    assert f"| all | {sum(counts.values())} | {sum(counts.values()) - none} | {none} |" in page


def exported(package: Path) -> set[str]:
    """Return the public names that a module imports from its own modules, or defines, without running it."""
    path = package / "__init__.py" if package.is_dir() else package.with_suffix(".py")
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.level and node.module and package.is_dir():
            names = {alias.name for alias in node.names}
            found |= exported(package / node.module) if names == {"*"} else names
    return {name for name in found if not name.startswith("_")}


def test_names_of_an_installed_pytorch_ood_are_complete():
    """PyOD's are compared in tests/heads/test_pyod_heads.py; the others are no dependency of the tests."""
    if (spec := find_spec("pytorch_ood")) is None:
        pytest.skip("pytorch-ood is not installed")
    (folder,) = spec.submodule_search_locations
    for key, section in pytorch_ood_pages.read_sections().items():
        path, names = (
            Path(folder).parent / section.module.replace(".", "/"),
            {one.name for one in section.methods},
        )
        if key == "weights":
            assert names == set(re.findall(r'key="([^"]+)"', path.with_suffix(".py").read_text("utf-8")))
        elif section.module.startswith("pytorch_ood."):
            assert names == exported(path), section.module


def test_counts_of_methods_are_those_of_the_tables():
    peers, page = coverage_pages.read_peers(), coverage_pages.coverage_page()
    for peer in peers.values():
        section = page.split(f"## {peer.title}\n")[1].split("\n## ")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert len(rows) == len(peer.methods)
        none = sum("| none |" in row for row in rows)
        assert (
            f"| {len(rows)} | {len(rows) - none} |" in page
            and f"{len(rows) - none} of {len(rows)} can be run" in section
        )
