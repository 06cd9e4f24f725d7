"""Heads from a single file that the user names, and the search in the list of heads."""

import pytest
from test_score_tables import cifar  # noqa: F401

from featood.heads import registry

HEAD = '''
import torch
from featood.heads import FeatureHead, option, register

@register("file-norm", title="Scaled norm", paper="A, T, V", year=2020, needs=("features",), learns=False)
class FileNorm(FeatureHead):
    """Score the scaled norm. Higher means more out-of-distribution."""

    factor: float = option(1.0, "factor of the norm")

    def fit_state(self, train):
        return {}

    def score_block(self, block, fitted):
        return self.factor * self.vectors(block).double().norm(dim=1)
'''


@pytest.fixture
def head_file(tmp_path):
    path = tmp_path / "my_head.py"
    path.write_text(HEAD)
    yield path
    registry._REGISTRY.pop("file-norm", None)


def test_a_head_of_a_file_is_scored_only_if_the_file_is_named(cifar, head_file):  # noqa: F811
    words = ("score", "--head", "file-norm", "--head", "msp", "--ood", "svhn")
    code, _, err = cifar(*words)
    assert code == 2 and "there is no head 'file-norm'" in err
    code, out, err = cifar(*words, "--head-file", head_file)
    assert code == 0 and "file-norm" in out, err
    assert "file-norm" in cifar("heads", "scaled", "--head-file", head_file)[1]


def test_fit_finds_a_head_of_a_file_named_before_or_after_it(cifar, head_file):  # noqa: F811
    for words in (("--head-file", head_file, "file-norm"), ("file-norm", f"--head-file={head_file}")):
        code, out, err = cifar("fit", *words, "--factor", "2", "--split", "test")
        assert code == 0 and "file-norm" in out, err


@pytest.mark.parametrize(
    ("text", "message"), [("x = 1", "registers no head"), ("1 / 0", "cannot be used: ZeroDivisionError")]
)
def test_a_file_without_heads_is_an_error_of_one_line(featood, head_file, text, message):
    head_file.write_text(text)
    code, _, err = featood("heads", "--head-file", head_file)
    assert code == 2 and message in err and err.count("\n") == 1


def test_words_search_names_titles_papers_and_inputs(featood):
    assert "Start here" in featood("heads")[1]
    code, out, _ = featood("heads", "mahalanobis", "2021")
    assert code == 0 and "relative-mahalanobis" in out and "\n  knn " not in out and "Start here" not in out
    assert "0 heads that match zzz" in featood("heads", "zzz")[2]
