"""Text about cliques: few heads are listed, many that follow each other in rank are named by their ends."""

from featood.report.comparison import comparison_lines


def lines(ranks, *cliques):
    ranking = {
        "sets": ["a", "b", "c"],
        "p": 1e-5,
        "mean_ranks": ranks,
        "cliques": [list(clique) for clique in cliques],
    }
    comparison = {"level": 0.95, "method": "delong", "tests": [], "ranking": ranking, "untested": []}
    return comparison_lines({"comparison": comparison})[2:]


def test_few_heads_are_listed():
    assert lines({"knn": 1.0, "msp": 2.5, "vim": 3}, ["knn", "msp"]) == ["  knn 1.0, msp 2.5"]


def test_many_heads_are_named_by_their_ends_unless_some_between_them_differ():
    ranks = {f"h{number}": float(number) for number in range(12)}
    heads = list(ranks)
    assert lines(ranks, heads[:10]) == ["  10 heads, from h0 0.0 to h9 9.0"]
    assert lines(ranks, heads[:8] + heads[9:11]) == [
        "  h0 0.0, h1 1.0, h2 2.0, h3 3.0, h4 4.0, h5 5.0, h6 6.0, h7 7.0, h9 9.0, h10 10.0"
    ]
