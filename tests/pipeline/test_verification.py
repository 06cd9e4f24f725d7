import json
import shutil

import numpy as np
import pytest
from test_comparison import fitted, selection  # noqa: F401

from featood.cache import FeatureCache
from featood.cache.transfer import import_arrays
from featood.heads.distances.knn import KNN
from featood.pipeline.verification import CONFIRMED, DIFFERENT, ROUNDED, verify_results

SCORE = ("score", "--head", "knn", "--head", "msp", "--ood", "spam,junk", "--intervals", "delong")


@pytest.fixture
def results(fitted, featood, tmp_path):  # noqa: F811
    path = tmp_path / "results.json"
    code, _, err = featood(*SCORE, "--json", path)
    assert code == 0, err
    return path


def edit(path, change):
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


def other_values(root, key):
    cache = FeatureCache(root)
    there = cache[key]
    values = np.asarray(there.features["avg"][:]) + np.float32(0.5)
    import_arrays(
        cache, key, {"avg": values}, np.asarray(there.logits[:]), np.asarray(there.labels[:]), there.classifier,
        run={"role": "ood"}, overwrite=True,
    )  # fmt: skip


def test_results_are_confirmed_row_by_row(results, featood, tmp_path):
    code, out, err = featood("verify", results)
    assert code == 0, err
    rows = [f"confirmed: {head} on {ood}" for head in ("knn", "msp") for ood in ("spam", "junk")]
    assert out.splitlines() == [*rows, "confirmed: id", "confirmed: comparison"]
    # the cache may have been moved, and the head fitted again
    shutil.move(tmp_path / "cache", tmp_path / "moved")
    assert featood("fit", "knn", "--cache", tmp_path / "moved")[0] == 0
    code, out, _ = featood("verify", results, "--cache", tmp_path / "moved", "--json")
    assert code == 0 and {part["outcome"] for part in json.loads(out)} == {CONFIRMED}


@pytest.mark.parametrize("key", ["auroc", "fpr95", "auroc_low", "n_ood", "ccr_fpr10", "aurra"])
def test_an_edited_row_is_reported_with_both_values(results, featood, key):
    def change(body):
        body["rows"][1][key] += 1 if key == "n_ood" else 1e-6

    edit(results, change)
    code, out, err = featood("verify", results)
    assert code == 5 and "knn on junk" in err
    (line,) = [line for line in out.splitlines() if line.startswith("different")]
    assert line.startswith(f"different: knn on junk: {key} is ") and "computed again" in line


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda body: body["rows"].pop(0), "knn on spam: was scored, but its row is not in the file"),
        (lambda body: body["rows"][0].pop("auroc"), "knn on spam: auroc is missing"),
        (lambda body: body["rows"][0].update(best=True), "knn on spam: best is True"),
        (
            lambda body: body["rows"].append({**body["rows"][0], "head": "mine"}),
            "mine on spam: the evidence does not contain",
        ),
        (lambda body: body["id"].update(accuracy=1.0), "id: accuracy is 1.0"),
        (
            lambda body: body["comparison"]["tests"][0].update(p_holm=0.5),
            "comparison: tests[0].p_holm is 0.5",
        ),
        (lambda body: body.update(backbone="other"), "backbone: "),
    ],
)
def test_other_edits_are_reported(results, featood, change, what):
    edit(results, change)
    code, out, err = featood("verify", results)
    assert code == 5 and f"different: {what}" in out, out + err


def test_a_head_fitted_with_other_options_is_reported(results, featood, tmp_path):
    assert featood("fit", "knn", "--k", "3", "--overwrite")[0] == 0
    code, out, err = featood("verify", results)
    assert code == 5 and "heads/knn has other options" in out and "confirmed: msp on spam" in out, out + err
    shutil.rmtree(tmp_path / "cache" / "net" / "news" / "heads" / "knn")
    code, out, _ = featood("verify", results)
    assert code == 5 and "knn on spam" in out and "no fitted head" in out


def test_a_damaged_head_gives_exit_code_4(results, featood, tmp_path):
    path = tmp_path / "cache" / "net" / "news" / "heads" / "knn" / "head.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    code, out, _ = featood("verify", results)
    assert code == 4 and "different: knn on spam: " in out and "fit the head again" in out


def test_a_changed_set_is_reported_and_the_others_are_confirmed(results, featood, tmp_path):
    other_values(tmp_path / "cache", "net/junk/test")
    code, out, _ = featood("verify", results)
    assert code == 5
    assert "different: knn on junk: the values of net/junk/test have changed since it was scored" in out
    assert "confirmed: knn on spam" in out
    shutil.rmtree(tmp_path / "cache" / "net" / "junk")
    code, out, _ = featood("verify", results)
    assert code == 5 and "net/junk/test is not in the cache" in out and "confirmed: knn on spam" in out


def test_nothing_is_confirmed_if_the_id_set_changed(results, featood, tmp_path):
    other_values(tmp_path / "cache", "net/news/test")
    code, out, _ = featood("verify", results)
    assert code == 5 and out.count("the values of net/news/test have changed") == 4 and "confirmed" not in out


def test_a_damaged_set_gives_exit_code_4_and_names_the_block(results, featood, tmp_path):
    record = next((tmp_path / "cache" / "net" / "junk" / "test" / "commits").iterdir())
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b'"failed": []', b'"failed": [1]'))
    code, out, err = featood("verify", results)
    assert code == 4 and "knn on junk" in out and "checksum" in out, out + err
    record.write_bytes(whole)
    block = next(
        path for path in (tmp_path / "cache/net/junk/test/columns/avg/c").rglob("*") if path.is_file()
    )
    content = bytearray(block.read_bytes())
    content[8] ^= 1
    block.write_bytes(content)
    code, _, err = featood("verify", results)
    assert code == 4 and "net/junk/test: block 0" in err


def with_noise(monkeypatch, size):
    plain = KNN.score_block

    def noisy(self, block, index):
        scores = plain(self, block, index).double()
        return scores * (1 + size * np.where(np.arange(len(scores)) % 2, 1, -1))

    monkeypatch.setattr(KNN, "score_block", noisy)


def test_rounding_is_a_separate_outcome(results, featood, monkeypatch):
    with_noise(monkeypatch, 3e-7)
    code, out, err = featood("verify", results)
    assert code == 0 and "confirmed up to rounding, not bit-identical" in err
    line = out.splitlines()[0]
    assert line.startswith(
        "rounding: knn on spam: scores differ by up to 3e-07 relative at their octiles; metrics"
    )
    assert "confirmed: msp on spam" in out and "rounding: comparison: not compared" in out
    # larger differences are still reported
    edit(results, lambda body: body["rows"][0].update(auroc=body["rows"][0]["auroc"] - 0.05))
    code, out, _ = featood("verify", results)
    assert code == 5 and "different: knn on spam: auroc is" in out


def test_different_scores_are_not_rounding(results, tmp_path, monkeypatch):
    with_noise(monkeypatch, 1e-2)
    verdicts = verify_results(results, FeatureCache(tmp_path / "cache"))
    by_row = {verdict.what: verdict for verdict in verdicts}
    assert by_row["knn on spam"].outcome == DIFFERENT and "the scores differ" in by_row["knn on spam"].why
    assert by_row["msp on spam"].outcome == CONFIRMED and ROUNDED not in {
        verdict.outcome for verdict in verdicts
    }


def test_other_versions_are_reported(results, featood):
    edit(results, lambda body: body["versions"].update(torch="1.0", lost="2"))
    code, _, err = featood("verify", results)
    assert (
        code == 0
        and "computed with torch 1.0; the installed version is" in err
        and "lost 2" in err
        and "none" in err
    )


NO_EVIDENCE = [
    "",
    "[]",
    "{}",
    "null",
    '{"evidence": 3, "rows": []}',
    '{"rows": [], "evidence": {"sets": {"a": 1, "b": 2}, "heads": {}, "force": false}}',
    '{"rows": [3], "evidence": {"sets": {"a": {}, "b": {}}, "heads": {}, "force": 0}}',
]


@pytest.mark.parametrize("text", NO_EVIDENCE)
def test_other_files_give_one_line(featood, tmp_path, text):
    path = tmp_path / "r.json"
    path.write_text(text)
    code, _, err = featood("verify", path)
    assert code == 3 and len(err.strip().splitlines()) == 1, err
    assert featood("verify", tmp_path / "none.json")[0] == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["comparison"].update(method="wald"),
        lambda body: body["comparison"].update(level="high"),
        lambda body: body["evidence"]["heads"]["knn"].update(options=[]),
        lambda body: body["evidence"]["heads"]["knn"].update(artefact=3),
        lambda body: body["evidence"]["heads"]["knn"]["scores"]["spam"].update(octiles=["a"] * 9),
        lambda body: body["evidence"]["heads"]["knn"]["scores"].pop("spam"),
        lambda body: body["evidence"]["sets"]["spam"].update(key=None),
        lambda body: body["rows"][0].update(head=["knn"]),
    ],
)
def test_malformed_evidence_gives_one_line(results, featood, change):
    edit(results, change)
    code, _, err = featood("verify", results)
    assert code == 3 and "has no complete evidence" in err


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["evidence"]["heads"]["msp"]["options"].update(k=3),
        lambda body: body["evidence"]["heads"]["msp"].update(head="nothing"),
        lambda body: body["evidence"]["heads"]["knn"].update(artefact="../elsewhere"),
        lambda body: body["evidence"]["heads"]["knn"].update(tensors_sha256=None),
        lambda body: body["evidence"]["sets"]["spam"].update(key="net/spam"),
        lambda body: body["evidence"]["sets"]["spam"].update(rows=1.5),
    ],
)
def test_evidence_that_cannot_be_resolved_is_a_mismatch(results, featood, change):
    edit(results, change)
    code, out, err = featood("verify", results)
    assert code == 5 and "different: " in out and "unexpected" not in err


def test_heads_that_were_never_saved_cannot_be_verified(selection, tmp_path):  # noqa: F811
    from featood.heads import create_head
    from featood.pipeline.scoring import score
    from featood.report import write_json

    head = create_head("knn").fit(selection.open("train"))
    others = {
        "spam": selection.cache["net/spam/test"],
        "part": selection.cache["net/spam/test"].rows(slice(0, 9)),
    }
    scoring = score({"knn": head, "msp": create_head("msp")}, selection.open("test"), others)
    write_json(tmp_path / "r.json", scoring.results)
    found = {verdict.what: verdict for verdict in verify_results(tmp_path / "r.json", selection.cache)}
    assert "not saved" in found["knn on spam"].why and found["msp on spam"].outcome == CONFIRMED
    assert "only some rows" in found["msp on part"].why


def test_a_set_with_another_number_of_rows_than_were_scored_is_named(results, featood):
    def change(body):
        body["evidence"]["sets"]["junk"]["rows"] += 1

    edit(results, change)
    code, out, _ = featood("verify", results)
    rows = json.loads(results.read_text())["evidence"]["sets"]["junk"]["rows"]
    assert code == 5 and f"has {rows - 1} rows, but {rows} were scored" in out
