"""Results with hostile names, and parsers of what the report writes."""

import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np

from featood.cache import FeatureSet
from featood.metrics import METRICS, detection_metrics

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=y>',
    "a$b$ \\frac{",
    "_hidden",
    "\x1b[31m\x00",
    "[red]b[/red]",
]
ID_INFO = {"dataset": "mnist", "split": "test", "n": 10_000, "accuracy": 0.9906}


def row(head, ood, auroc=0.5, **values):
    metrics = dict.fromkeys(METRICS, 0.25) | {"auroc": auroc}
    numbers = {"n_id": 100, "n_ood": 50, **metrics, "fit_s": 1.5, "score_s": 0.5}
    return {"head": head, "ood": ood, "split": "test", **numbers, **values}


def made_results(heads=("msp", "heat-gmm"), sets=("svhn", "textures"), seed=0):
    rng = np.random.default_rng(seed)
    scores, rows = {}, []
    for h, head in enumerate(heads):
        scores[head, "mnist"] = rng.normal(size=200)
        for s, name in enumerate(sets):
            scores[head, name] = rng.normal(1 + h + s / 2, 1, 100)
            metrics = detection_metrics(scores[head, "mnist"], scores[head, name])
            rows.append({"head": head, "ood": name, "split": "test", "n_id": 200, "n_ood": 100, **metrics})
            rows[-1] |= {"fit_s": 1.0, "score_s": 0.1}
    results = {
        "schema": 1,
        "backbone": "resnet50",
        "fingerprint": "0123abcd",
        "id": dict(ID_INFO),
        "rows": rows,
    }
    return results, scores


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    void = frozenset({"meta", "br", "img", "input", "link"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links, self.rows, self.text = [], [], [], [], ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("href", "src", "xlink:href", "srcset", "data", "action")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def made_sets(results, scores, seed=0):
    """Sets and predictions for made results: three classes, ids that are hostile names, and five features."""
    rng = np.random.default_rng(seed)
    sets, predictions = {}, {}
    for name in dict.fromkeys(name for _, name in scores):
        n = len(next(values for (_, one), values in scores.items() if one == name))
        sets[name] = FeatureSet(
            {"avg": rng.normal(size=(n, 5)).astype("f4")},
            labels=rng.integers(0, 3, n),
            ids=np.array([HOSTILE[row % 4] + str(row) for row in range(n)]),
            classes=tuple(HOSTILE[:3]),
            name=f"net/{name}",
        )
    for head, name in scores:
        predictions[head, name] = rng.integers(0, 3, len(sets[name]))
    return sets, predictions


def data_of(html):
    """The data block of a page."""
    return json.loads(
        html.partition('<script type="application/json" id="data">')[2].partition("</script>")[0]
    )
