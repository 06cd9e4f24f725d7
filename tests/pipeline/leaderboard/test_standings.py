"""Places of heads and networks, compared with naive computations."""

import itertools
import math

import numpy as np
import pytest

from featood.pipeline.leaderboard.results import Fit
from featood.pipeline.leaderboard.standings import mean_ranks, standings


def made_up(head, scores, seed=None):
    """Return a fit with given scores by set."""
    rows = []
    known = scores["id"]
    for name, odd in scores.items():
        if name != "id":
            fpr = float(np.mean(odd <= np.quantile(known, 0.95)))
            rows.append({"ood": name, "auroc": auroc(known, odd), "fpr95": fpr, "fit_s": 1.0, "score_s": 2.0})
    body = {"ranks_sha256": f"{head} {seed} {float(known[0])}"}
    return Fit({"head": head, "seed": seed, "rows": rows, "evidence": {"heads": {head: body}}}, scores)


def auroc(known, odd):
    return float(np.mean([(a > b) + (a == b) / 2 for a in odd for b in known]))


def test_standings_against_a_naive_computation():
    rng = np.random.default_rng(0)
    groups = {"near": ["a", "b"], "far": ["c"]}
    base = {
        "id": rng.normal(0, 1, 60),
        "a": rng.normal(0.8, 1, 40),
        "b": rng.normal(1, 1, 30),
        "c": rng.normal(2, 1, 20),
    }
    fits_ = []
    for head, noise, seeds in (("x", 0.1, 2), ("y", 0.15, 1), ("z", 3.0, 1), ("w", 6.0, 1)):
        for seed in range(seeds):
            scores = {name: values + rng.normal(0, noise, len(values)) for name, values in base.items()}
            fits_.append(made_up(head, scores, seed))
    found = standings(fits_, groups)
    by_head = {row["head"]: row for row in found}
    means, differences = {}, {}
    for head in by_head:
        own = [fit.ranks for fit in fits_ if fit.line["head"] == head]
        values = {name: np.mean([auroc(scores["id"], scores[name]) for scores in own]) for name in "abc"}
        near, far = (values["a"] + values["b"]) / 2, values["c"]
        assert by_head[head]["auroc"]["near"][0] == pytest.approx(near)
        assert by_head[head]["auroc"]["far"][0] == pytest.approx(far)
        assert by_head[head]["auroc"]["mean"][0] == pytest.approx((near + far) / 2)
        means[head] = (near + far) / 2
        # each row with its influence on the mean, of which sets of a group and groups have equal shares
        known = np.mean(
            [[sum(w * np.mean((s[n] > r) + (s[n] == r) / 2) for n, w in zip("abc", (0.25, 0.25, 0.5), strict=True))
              for r in s["id"]] for s in own], 0)  # fmt: skip
        odd = [w * np.mean([[np.mean(s["id"] < r) for r in s[n]] for s in own], 0)
               for n, w in zip("abc", (0.25, 0.25, 0.5), strict=True)]  # fmt: skip
        differences[head] = [known, *odd]
    assert [row["head"] for row in found] == sorted(means, key=lambda head: -means[head])
    pairs, p_values = list(itertools.combinations([row["head"] for row in found], 2)), []
    for one, two in pairs:
        parts = [a - b for a, b in zip(differences[one], differences[two], strict=True)]
        error = math.sqrt(sum(part.var(ddof=1) / len(part) for part in parts))
        p_values.append(math.erfc(abs(means[one] - means[two]) / error / math.sqrt(2)))
    order = np.argsort(p_values)
    floor, differ = 0.0, set()
    for step, place in enumerate(order):
        floor = max(floor, (len(pairs) - step) * p_values[place])
        if floor < 0.05:
            differ.add(pairs[place])
    assert 0 < len(differ) < len(pairs)
    for one, two in pairs:
        spans = [range(row["cliques"][0], row["cliques"][1] + 1) for row in (by_head[one], by_head[two])]
        if (one, two) in differ:
            assert not set(spans[0]) & set(spans[1])
    heads = [row["head"] for row in found]
    for one, two in itertools.pairwise(heads):
        shares = by_head[one]["cliques"][1] >= by_head[two]["cliques"][0]
        assert shares == ((one, two) not in differ)
    assert by_head["x"]["seeds"] == 2 and by_head["x"]["error"] > 0 and by_head["y"]["error"] is None


def test_heads_with_equal_ranks_share_a_place():
    rng = np.random.default_rng(1)
    scores = {"id": rng.normal(size=30), "a": rng.normal(1, 1, 30)}
    twin = made_up("second", scores)
    twin.line["evidence"]["heads"]["second"]["ranks_sha256"] = f"first None {float(scores['id'][0])}"
    (row,) = standings([made_up("first", scores), twin], {"near": ["a"]})
    assert (row["head"], row["same"]) == ("first", ["second"])


def rows(**values):
    return [{"head": head, "same": [], "auroc": {"mean": [value, 0, 1]}} for head, value in values.items()]


def test_mean_ranks_are_over_the_heads_that_all_networks_have():
    first, second = rows(a=0.9, b=0.8, c=0.8, d=0.1), rows(c=0.9, b=0.7, a=0.6, e=0.5)
    found = mean_ranks({"one": first, "two": second})
    assert found["p"] is None
    assert {row["head"]: row["mean_rank"] for row in found["heads"]} == {"a": 2, "b": 2.25, "c": 1.75}
    assert [row["head"] for row in found["heads"]] == ["c", "a", "b"]
    third = mean_ranks({name: rows(a=0.9, b=0.8, c=0.7) for name in ("one", "two", "three", "four")})
    assert third["p"] < 0.05 and [row["cliques"] for row in third["heads"]] == [[1, 1], [2, 2], [3, 3]]
