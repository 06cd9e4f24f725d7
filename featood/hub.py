"""Heads, detectors and caches on the Hugging Face hub."""

from __future__ import annotations

__all__ = ["card_data", "pull", "push_to_hub"]

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featood.cache import FeatureCache
from featood.errors import DataError, UsageError
from featood.files import size_of, temporary_folder
from featood.heads.artefacts.artefact import load_head
from featood.heads.base.head import Head
from featood.pipeline.detectors import Detector
from featood.pipeline.detectors.folder import RECORD, load_record
from featood.pipeline.saved_results import read_results
from featood.remote import hub_errors, local_folder

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry

TASK = "out-of-distribution-detection"
METRICS = {"auroc": "AUROC", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out", "fpr95": "FPR95"}
CODE = {
    "head": 'head = featood.load_head("hf://{repo}")\nscores = head.score(features)',
    "detector": 'detector = featood.Detector.load("hf://{repo}")\ndetector("photo.jpg").out',
    "cache": 'featood.hub.pull("hf://datasets/{repo}", "feature_cache")\ncache = featood.open_cache("feature_cache")',
}


@dataclasses.dataclass(frozen=True)
class _Kind:
    """What is published."""

    name: str
    head: str = ""
    """Name of the head."""
    about: str = ""
    """Lines of the card."""

    @property
    def repo_type(self) -> str:
        return "dataset" if self.name == "cache" else "model"


def push_to_hub(
    source: Head | Detector | str | Path,
    repo: str,
    *,
    results: str | Path | None = None,
    benchmarks: Mapping[str, str] | None = None,
    licence: str | None = None,
    private: bool | None = None,
    message: str = "",
) -> str:
    """Upload a fitted head, a detector or a cache to a repository of the hub, with a card.

    Log in before with ``hf auth login``, or set ``HF_TOKEN``.

    Parameters
    ----------
    source : Head, Detector or path
        A head or detector, the folder of one, or the root folder of a cache, which becomes a dataset.
    repo : str
        ``user/name``; created if it does not exist.
    results : path, optional
        File written by ``featood score --json``; its metrics of the head become part of the card, and the file is
        uploaded.
    benchmarks : mapping of str to str, optional
        Benchmark on the hub of an out-of-distribution set, as ``OWNER/DATASET#TASK``: its leaderboard shows the AUROC.
    licence : str, optional
        Identifier of a licence, such as ``apache-2.0``.
    private : bool, optional
        Whether a new repository is private; by default as the account says.
    message : str
        Of the commit.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    DataError
        If the folder has none of these, or the hub refuses it.
    UsageError
        If the results are not those of the head, or a benchmark is written otherwise.
    """
    from huggingface_hub import HfApi

    with temporary_folder() as scratch:
        folder = source.save(Path(scratch) / "saved") if isinstance(source, Head | Detector) else Path(source)
        kind = _kind_of(folder)
        rows = _rows(results, kind.head) if results is not None else []
        files = _further_files(kind, repo, rows, benchmarks or {}, licence, results)
        api = HfApi()
        with hub_errors(f"hf://{repo}"):
            api.create_repo(repo, repo_type=kind.repo_type, private=private, exist_ok=True)
            return api.create_commit(
                repo, _uploads(folder, files), repo_type=kind.repo_type,
                commit_message=message or f"Upload a {kind.name} of featood",
            ).commit_url  # fmt: skip


def pull(address: str, folder: str | Path) -> Path:
    """Download a head, a detector or a cache from the hub to a new folder.

    Parameters
    ----------
    address : str
        ``hf://USER/NAME``, or ``hf://datasets/USER/NAME`` for a cache; ``@REVISION`` may follow.
    folder : path
        Folder to write.

    Raises
    ------
    UsageError
        If the folder exists and is not empty.
    DataError
        If the repository does not exist, or the hub cannot be reached.
    """
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"{place} exists; choose another folder, or delete it")
    return local_folder(address, place)


def card_data(kind: str, repo: str, head: str, rows: list[dict[str, Any]], licence: str | None) -> str:
    """Return the metadata of a card in the hub's format (YAML), with the metrics of the rows of ``score --json``."""
    from huggingface_hub import DatasetCardData, EvalResult, ModelCardData

    tags = [TASK, "featood", *([head] if head else [])]
    if kind == "cache":
        return DatasetCardData(license=licence, tags=tags).to_yaml()
    found = [
        EvalResult(
            task_type=TASK, task_name="Out-of-distribution detection", dataset_type=row["ood"],
            dataset_name=f"{row['ood']} ({row['split']})", dataset_split=row["split"], metric_type=metric,
            metric_name=name, metric_value=round(row[metric], 6),
        )
        for row in rows for metric, name in METRICS.items() if row.get(metric) is not None
    ]  # fmt: skip
    return ModelCardData(
        license=licence, library_name="featood", tags=tags,
        model_name=repo.partition("/")[2] if found else None, eval_results=found or None,
    ).to_yaml()  # fmt: skip


def _kind_of(folder: Path) -> _Kind:
    if size_of(folder / RECORD) is not None:
        record, calibration = load_record(folder), load_head(folder / "head").calibration
        assert calibration is not None
        facts = calibration.record
        about = (
            f"# Detector with `{record['head']}`\n\n"
            f"- Calibrated on: {facts['set']} ({facts['rows']} rows)\n"
            f"- False alarms on new in-distribution images: {100 * facts['alarm_rate']:g} %\n"
        )
        return _Kind("detector", record["head"], about)
    if size_of(folder / "head.json") is not None:
        return _Kind("head", load_head(folder).name, (folder / "README.md").read_text(encoding="utf-8"))
    sets = list(FeatureCache(folder).entries()) if folder.is_dir() else []
    if not sets:
        raise DataError(f"{folder} contains no fitted head, no detector and no feature cache")
    lines = [f"- {entry.key}: {entry.manifest.rows} rows" for entry in sets]
    return _Kind("cache", about="\n".join(["# Feature cache", "", *lines, ""]))


def _rows(results: str | Path, head: str) -> list[dict[str, Any]]:
    rows = read_results(results)["rows"]
    found = [row for row in rows if row["head"] == head or row["head"].startswith(f"{head}@")]
    if not found:
        raise UsageError(
            f"{results} has no rows of {head}, but of {', '.join(sorted({row['head'] for row in rows}))}"
        )
    return found


def _further_files(
    kind: _Kind, repo: str, rows: list[dict[str, Any]], benchmarks: Mapping[str, str], licence: str | None,
    results: str | Path | None,
) -> dict[str, bytes]:  # fmt: skip
    """Return the card, the results and the files that the hub's leaderboards read, by name."""
    data = card_data(kind.name, repo, kind.head, rows, licence)
    code = CODE[kind.name].format(repo=repo)
    own, _, _ = kind.about.partition("```python")  # the code of a saved head names a folder
    card = f"---\n{data}\n---\n\n{own.rstrip()}\n\n```python\nimport featood\n{code}\n```\n"
    files = {"README.md": card.encode()}
    if results is not None:
        files["results.json"] = Path(results).read_bytes()
    if entries := _entries(rows, benchmarks):
        from huggingface_hub import eval_result_entries_to_yaml

        text = json.dumps(eval_result_entries_to_yaml(entries), indent=1)  # JSON is YAML
        files[".eval_results/featood.yaml"] = text.encode()
    return files


def _entries(rows: list[dict[str, Any]], benchmarks: Mapping[str, str]) -> list[EvalResultEntry]:
    if not benchmarks:
        return []
    from huggingface_hub import EvalResultEntry  # missing in earlier versions

    found = []
    for name, text in benchmarks.items():
        dataset, _, task = text.partition("#")
        values = [row["auroc"] for row in rows if row["ood"] == name]
        if not task or "/" not in dataset:
            raise UsageError(f"a benchmark is written OWNER/DATASET#TASK, not {text}")
        if len(values) != 1:
            raise UsageError(f"the results have {len(values)} rows of the head for {name}; one is needed")
        found.append(EvalResultEntry(dataset, task, values[0], notes="AUROC"))
    return found


def _uploads(folder: Path, files: Mapping[str, bytes]) -> list[Any]:
    """Return what to upload: the files of the folder, where those of the same name do not replace them."""
    from huggingface_hub import CommitOperationAdd

    paths = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    kept = {name: path for name, path in paths.items() if not name.endswith((".lock", ".part"))}
    contents: dict[str, Path | bytes] = {**kept, **files}
    return [CommitOperationAdd(name, content) for name, content in contents.items()]
