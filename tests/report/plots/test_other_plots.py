"""Figures of several heads, of rows and of classes."""

import itertools

import numpy as np
from pages import HOSTILE, texts

from featood.report import class_bars, image_gallery, metric_matrix, svg


def test_the_matrix_contains_the_numbers_and_is_darkest_for_the_best():
    values = [[0.5, 0.75], [0.96, np.nan]]
    for higher in (True, False):
        figure = metric_matrix(values, ["<b>knn", "msp"], ["svhn", "mnist"], higher_is_better=higher)
        (image,) = figure.axes[0].images
        assert np.nanargmax(image.get_array().filled(np.nan)) == (2 if higher else 0)
        assert {"50.0", "75.0", "96.0", "<b>knn", "msp", "svhn", "mnist"} <= set(texts(svg(figure)))


def test_bars_are_in_the_given_order():
    figure = class_bars(HOSTILE, np.linspace(0, 1, len(HOSTILE)))
    bars = figure.axes[0].patches
    np.testing.assert_allclose([bar.get_width() for bar in bars], np.linspace(0, 100, len(HOSTILE)))
    assert all(first.get_y() > second.get_y() for first, second in itertools.pairwise(bars))
    assert HOSTILE[0] in texts(svg(figure))


def test_the_gallery_shows_grey_and_colour():
    images = [np.zeros((4, 4), np.uint8), np.full((4, 6, 3), 255, np.uint8)]
    figure = image_gallery(images, ["<b>one", "two"])
    frames = figure.axes[0].child_axes
    assert [frame.images[0].get_array().shape for frame in frames] == [(4, 4), (4, 6, 3)]
    assert {"<b>one", "two"} <= set(texts(svg(figure)))
    svg(image_gallery([], []))
