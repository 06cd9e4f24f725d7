import xml.etree.ElementTree as ET

import numpy as np

from featood.report import learning_curves, png, svg

CURVES = {
    "random": {"labels": [20, 25], "accuracy": [0.5, 0.625], "standard_error": [0.0625, 0.125]},
    "gmm@ridge=1 $x$ <b>": {"labels": [20], "accuracy": [0.25], "standard_error": [None]},
}


def test_lines_are_means_and_bands_standard_errors():
    (axes,) = learning_curves(CURVES, "mnist").axes
    first, second = axes.lines
    np.testing.assert_array_equal(first.get_xydata(), [[20, 50], [25, 62.5]])
    np.testing.assert_array_equal(second.get_xydata(), [[20, 25]])
    corners = axes.collections[0].get_paths()[0].vertices
    for corner in ([20, 43.75], [20, 56.25], [25, 50], [25, 75]):
        assert (corners == corner).all(1).any()
    assert axes.get_title() == "mnist" and first.get_color() != second.get_color()


def test_the_figure_has_the_names_and_the_title():
    drawn = svg(learning_curves(CURVES, "mnist-1000+interpolated-mnist, lenet"))
    texts = ["".join(node.itertext()) for node in ET.fromstring(drawn).iter() if node.tag.endswith("text")]
    assert {"random", "gmm@ridge=1 $x$ <b>", "mnist-1000+interpolated-mnist, lenet", "labels"} <= set(texts)
    assert png(learning_curves(CURVES)).startswith(b"\x89PNG")
