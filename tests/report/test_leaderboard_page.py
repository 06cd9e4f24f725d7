"""The page of a leaderboard: many heads stay readable, and names are text."""

import re

import pytest

from featood.report import leaderboard_page


def row(head, near, cliques=(1, 1), error=None, same=()):
    area = {"near": [near, near - 0.01, near + 0.01], "mean": [near, near - 0.01, near + 0.01]}
    return {
        "head": head, "same": list(same), "seeds": 1 if error is None else 3, "auroc": area, "error": error,
        "fpr95": {"near": 1 - near, "mean": 1 - near}, "cliques": list(cliques), "fit_s": 0.123456, "score_s": 12.3456,
    }  # fmt: skip


def tables(**changes):
    names = [f"h{number}" for number in range(45)]
    body = {
        "groups": {"near": ["spam"]},
        "fitted_on": 1234,
        "divided": False,
        "rows": {"news": 4321, "spam": 10},
        "standings": [row(name, 0.95 - number / 100) for number, name in enumerate(names)],
        "left_out": {},
        "missing": [],
        **changes,
    }
    ranking = [
        {
            "head": name,
            "mean_rank": place + 1.5,
            "ranks": {"net": place + 1.0},
            "auroc": {"net": 0.9},
            "cliques": [1, 2],
        }
        for place, name in enumerate(names)
    ]
    return {
        "benchmarks": {"net": body},
        "ranking": {"heads": ranking, "p": 0.001, "benchmarks": ["net"]},
        "pending": [],
        "families": {"h0": "distances"},
        "plan": {"level": 0.95, "seeds": 3, "epochs": None, "note": "", "options": {}},
        "versions": {"torch": ["2.11", "2.13"]},
    }


def cells(text, head):
    (line,) = [line for line in text.splitlines() if line.startswith("|") and f"`{head}`" in line]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_line_has_the_numbers_of_the_head():
    standings = [row("a", 0.9, (1, 2), 0.0025, ("b",)), row("c", 0.8)]
    text = leaderboard_page(tables(standings=standings), "featood leaderboard")
    assert cells(text, "a") == [
        "1", "`a` = `b`", "", "90.00 [89.00, 91.00]", "90.00 ±0.25", "1 to 2", "10.00", "3", "0.123", "12.3",
    ]  # fmt: skip
    assert cells(text, "c")[4:6] == ["80.00", "1"] and "3 heads on 1 network," in text
    assert "Fitted on 1,234 training rows. Rows scored: news 4,321, spam 10. Near: spam." in text


def test_of_many_heads_the_first_are_shown_and_the_rest_is_folded():
    text = leaderboard_page(tables(), "featood leaderboard")
    shown, folded = text.split('<details markdown="1">')
    assert re.findall(r"`(h\d+)`", shown) == [f"h{number}" for number in range(20)]
    assert re.findall(r"`(h\d+)`", folded) == [f"h{number}" for number in range(20, 45)]
    assert "Ranks 21 to 45" in folded and folded.count("</details>") == 1


def test_the_page_says_how_to_read_it_and_what_was_not_tuned():
    found = tables(left_out={"odin": "needs a column"}, missing=["mlp"])
    text = leaderboard_page(found, "featood leaderboard plan.toml out")
    assert "featood leaderboard plan.toml out" in text and "95 % interval" in text
    assert "## What was not tuned" in text and "epochs each" not in text
    assert (
        "| `odin` | needs a column |" in text
        and "Not fitted: `mlp`." in text
        and "torch 2.11 and 2.13" in text
    )
    found["pending"] = ["a_b"]
    found["plan"] |= {"epochs": 7, "options": {"glow": {"width": 8, "members": ["a", "b x=1"]}}}
    text = leaderboard_page(found, "featood")
    assert (
        "have 7 epochs each" in text
        and "- `glow`: width=8, members=a + b x=1" in text
        and "Nothing was fitted yet on a\\_b." in text
    )


def test_several_networks_have_a_table_of_mean_ranks():
    found = tables()
    found["benchmarks"]["other"] = found["benchmarks"]["net"]
    found["ranking"]["benchmarks"].append("other")
    for line in found["ranking"]["heads"]:
        line["ranks"]["other"], line["auroc"]["other"] = 2.5, 0.8
    section = leaderboard_page(found, "x").split("## All networks")[1].split("## net")[0]
    assert cells(section, "h0") == ["1", "`h0`", "distances", "1.5", "1 to 2", "1 (90.00)", "2.5 (80.00)"]
    assert "differ (Friedman, p = 0.001)" in section
    found["ranking"]["p"] = None
    section = leaderboard_page(found, "x").split("## All networks")[1].split("## net")[0]
    assert "Friedman" not in section and len(cells(section, "h0")) == 6


@pytest.mark.parametrize("name", ["<script>x</script>", "a|b", "a\nb", "`b`", "[x](http://y)"])
def test_names_and_reasons_are_text(name):
    changes = {
        "left_out": {name: name},
        "rows": {name: 1},
        "groups": {"near": [name]},
        "standings": [row(name, 0.9)],
    }
    text = leaderboard_page(tables(**changes), "x")
    plain = re.sub(r"`[^`\n]*`", "", text)  # in code, nothing but a backtick has a meaning
    assert "<script" not in plain and not re.search(r"(?<!\\)\[x", plain)
    (scored, left_out) = text.split("## net")[1].split("<details", 1)
    for part, width in ((scored, 10), (left_out, 2)):
        lines = [line for line in part.splitlines() if line.startswith("|")]
        assert len(lines) == 3
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {width + 1}
