import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    **dict.fromkeys(
        (
            "downloads",
            "errors",
            "files",
            "names",
            "notebook",
            "objects",
            "options",
            "records",
            "remote",
            "reporter",
            "sealed",
            "storage",
        ),
        0,
    ),
    **dict.fromkeys(("nets", "metrics", "numerics", "readers"), 1),
    **dict.fromkeys(("cache", "data", "engines", "training", "energies", "flows", "losses", "decisions"), 2),
    **dict.fromkeys(("extractors", "heads"), 3),
    **dict.fromkeys(("detectors", "pipeline", "report", "sklearn", "speed"), 4),
    "hub": 5,
    **dict.fromkeys(("cli", "testing"), 6),
}
"""The layer of each package, and of each module beside them."""
FLOORS_OF_DATA = {
    "catalogue": 3,
    "masked": 2,
    **dict.fromkeys(("audio", "images", "tables", "texts"), 1),
}
"""The layer of each package in data; modules beside them, which know of no kind of inputs, are below all of them."""
DOORS = {"__init__", "__main__"}
"""Modules that only open others."""
MODULES = sorted((ROOT / "featood").glob("*/**/*.py"))
LAYERED = [*MODULES, *((ROOT / "featood" / name).with_suffix(".py") for name in FLOORS)]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "featood").with_suffix("").parts[0]


def test_every_package_and_module_has_a_layer():
    assert {room(path) for path in (ROOT / "featood").rglob("*.py")} - DOORS == set(FLOORS)


@pytest.mark.parametrize(
    "path", filter(Path.exists, LAYERED), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_packages_import_only_from_layers_below(path):
    mine = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "featood" or len(parts) < 2 or parts[1] not in FLOORS or parts[1] == mine:
            continue
        beside = FLOORS[mine] == FLOORS[parts[1]] == 0  # modules of the lowest layer may use each other
        assert FLOORS[parts[1]] < FLOORS[mine] or beside, f"{mine} imports {name}"


def test_every_package_in_data_has_a_layer():
    assert {path.parent.name for path in (ROOT / "featood" / "data").glob("*/__init__.py")} == set(
        FLOORS_OF_DATA
    )


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "featood" / "data").rglob("*.py")),
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_packages_of_data_import_only_from_layers_below(path):
    mine = path.relative_to(ROOT / "featood" / "data").with_suffix("").parts[0]
    for name in imports(path):
        parts = name.split(".")
        if parts[:2] == ["featood", "data"] and len(parts) > 2 and parts[2] != mine:
            theirs, own = (FLOORS_OF_DATA.get(package, 0) for package in (parts[2], mine))
            assert theirs < own or theirs == own == 0, f"{mine} imports {name}"


def test_only_one_module_imports_torchvision_and_timm():
    for path in MODULES:
        if path.name != "vision.py":
            assert not {name.split(".")[0] for name in imports(path)} & {"torchvision", "timm"}, path


def test_only_one_module_imports_the_libraries_of_texts():
    for path in MODULES:
        if path.name != "language.py":
            assert not {name.split(".")[0] for name in imports(path)} & {
                "transformers",
                "sentence_transformers",
            }, path


def test_only_three_modules_open_connections():
    clients = {"boto3", "botocore", "fsspec", "huggingface_hub", "obstore", "requests", "urllib.request"}
    allowed = {"downloads.py", "remote.py", "objects.py", "hub.py"}
    for path in (ROOT / "featood").rglob("*.py"):
        if path.name not in allowed:
            assert not {name for name in imports(path) if name in clients or name.split(".")[0] in clients}, (
                path
            )


def test_modules_stay_short():
    for path in (
        path for folder in ("featood", "benchmarks", "tests") for path in (ROOT / folder).rglob("*.py")
    ):
        assert len(path.read_text().splitlines()) <= 400, path


def test_no_two_files_of_tests_have_the_same_name():
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert len(names) == len(set(names)), "pytest imports them by name"


def test_nothing_unpickles():
    for path in MODULES:
        text = path.read_text()
        assert "weights_only=False" not in text and "allow_pickle=True" not in text, path
        assert not {"dill", "joblib", "cloudpickle"} & {name.split(".")[0] for name in imports(path)}, path


def test_the_readme_names_every_head():
    from featood.heads import list_heads

    text = (ROOT / "README.md").read_text()
    missing = [name for name in list_heads() if f"`{name}`" not in text]
    assert not missing, "add them to the table of families in README.md"
