"""Every head whose fit is a sum, by copies of its work that were sent as bytes; and the options of the command."""

import pickle

import numpy as np
import pytest

from featood.cache import FeatureSet
from featood.engines import LOCAL, open_engine
from featood.errors import UsageError
from featood.heads import FitContext, create_head, head_class, list_heads
from featood.heads.base.summed_head import SummedHead
from featood.pipeline.fitting import fit
from featood.reporter import Reporter

RNG = np.random.default_rng(0)
LABELS = RNG.integers(-1, 5, 2 * 4096 + 5)
ROWS = (RNG.normal(size=(len(LABELS), 6)) + 2 * LABELS[:, None].clip(0)).astype(np.float32)
WEIGHT = RNG.normal(size=(5, 6)).astype(np.float32)
DATA = FeatureSet(
    {"avg": ROWS, "log-density": ROWS[:, :1], "mahalanobis-odin": ROWS / 2},
    logits=ROWS @ WEIGHT.T,
    labels=LABELS,
    classifier=(WEIGHT, np.zeros(5)),
)
SUMMED = [name for name in list_heads() if issubclass(head_class(name), SummedHead)]


class Copies:
    """An engine that computes each item by a copy of the function, as another process does, and counts them."""

    count = 0

    def map(self, work, items):
        sent = pickle.dumps(work)
        for item in items:
            self.count += 1
            (result,) = pickle.loads(sent)([item])
            yield pickle.loads(pickle.dumps(result))


@pytest.mark.parametrize("name", SUMMED)
def test_copies_fit_and_score_to_the_same_bits(name):
    options, copies = head_class(name).testing_options, Copies()
    one, other = (
        create_head(name, **options).fit(DATA, context=FitContext(engine=engine))
        for engine in (LOCAL, copies)
    )
    # of three blocks, the first determines the shift; neco also reads the logits of all three
    assert copies.count == (5 if name == "neco" else 2)
    assert one.state.keys() == other.state.keys() and one.record == other.record
    for key, values in one.state.items():
        assert values.numpy().tobytes() == other.state[key].numpy().tobytes(), key
    assert np.array_equal(one.score(DATA), other.score(DATA, engine=Copies()))


def test_the_list_has_the_heads_whose_fit_is_a_sum():
    assert {"mahalanobis", "gmm", "she", "pnml", "kl-matching", "dice", "typicality"} <= set(SUMMED)
    assert "knn" not in SUMMED and "vim" not in SUMMED


def test_spaces_and_classifiers_are_the_same_by_copies():
    for name, options in (("mahalanobis", {"space": "pca", "components": 3}), ("knn", {"k": 3})):
        copies = Copies()
        head = create_head(name, **options).fit(DATA, context=FitContext(engine=copies))
        assert copies.count == (2 if name == "mahalanobis" else 0)
        alone = create_head(name, **options).fit(DATA)
        assert np.array_equal(alone.score(DATA), head.score(DATA, engine=Copies()))
    head = create_head("temperature-scaling").fit(DATA)
    assert np.array_equal(head.score(DATA), head.score(DATA, engine=Copies()))


def test_a_head_that_one_process_fits_says_so():
    lines = []

    class Lines(Reporter):
        def line(self, text):
            lines.append(text)

    fit(create_head("knn", k=3), DATA, engine=Copies(), reporter=Lines())
    assert lines == ["knn is fitted by one process, as its fit is not a sum over rows"]
    fit(create_head("cosine"), DATA, engine=Copies(), reporter=Lines())
    assert len(lines) == 1


def test_engines_by_name():
    assert open_engine("local") is LOCAL
    with LOCAL as engine:
        assert list(engine.map(lambda items: (2 * item for item in items), [1, 2])) == [2, 4]
    with pytest.raises(UsageError, match="no engine 'dask'; choose one of local, ray, torchrun"):
        open_engine("dask")


def test_options_of_ray_need_ray(featood):
    code, _, error = featood("score", "--ood", "noise", "--ray-gpus", "0.5")
    assert code == 2 and "go with --engine ray" in error
