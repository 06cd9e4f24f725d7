"""Pictures of what networks generate."""

import base64

import numpy as np
import pytest
import torch
from PIL import Image

import featood
from featood.extractors.models.between import PAIRS, between
from featood.extractors.trainer import load_extractor
from featood.flows import PixelDensity, image_glow


def test_points_between_codes_begin_and_end_with_them():
    codes = torch.tensor([[0.0, 0.0], [1.0, 1.0], [7.0, 14.0], [1.0, 1.0]])
    points = between(codes)
    assert points.shape == (2 * PAIRS, 2)
    torch.testing.assert_close(points[:PAIRS, 0], torch.arange(8.0))
    torch.testing.assert_close(points[:PAIRS, 1], 2 * torch.arange(8.0))
    assert bool((points[PAIRS:] == 1).all())


def test_the_flows_of_classes_invert_their_own_latents():
    generator = torch.Generator().manual_seed(0)
    flows = [image_glow((1, 4, 4), 1, 2, 8, generator) for _ in range(3)]
    density = PixelDensity(flows, (0.5,), (0.25,)).double()
    levels = torch.randint(256, (6, 1, 4, 4), generator=generator)
    images = (levels.double() / 255 - 0.5) / 0.25
    density.initialize(images)
    classes = torch.tensor([2, 0, 0, 2, 1, 2])
    latents = density.latents(images, classes)
    torch.testing.assert_close(density.images(latents, classes), images)
    own = flows[2](density.pixels(images[[0, 3, 5]])[0])[0]
    torch.testing.assert_close(latents[[0, 3, 5]], own)


def test_a_report_shows_them_as_long_as_the_folder_has_the_same_weights(featood, tmp_path):
    options = ["--dataset", "digits", "--image-size", "16", "--limit", "64", "--epochs", "1", "--seed"]
    train = ["train", "vae", "--arch", "conv4-4", "--decoder", "upsampling", "--latent", "4", *options]
    pages = []
    for seed in ("0", "1"):
        assert featood(*train, seed, "--out", tmp_path / "net", *["--overwrite"][: int(seed)])[0] == 0
        if not pages:
            extract = [
                "extract",
                "--backbone",
                tmp_path / "net",
                "--dataset",
                "noise:uniform,n=30",
                "--split",
                "test",
            ]
            code, _, err = featood(*extract, "--without", "gradient-norm")
            assert code == 0, err
        code, _, err = featood(
            "score", "--head", "likelihood", "--ood", "noise:gaussian,n=20", "--report", tmp_path / "r.html"
        )
        assert code == 0, err
        pages.append((tmp_path / "r.html").read_text())
        if not int(seed):
            assert base64.b64encode((tmp_path / "net" / "samples.png").read_bytes()).decode() in pages[0]
    assert "What the network generates" in pages[0] and pages[0].count("data:image/png") == 2
    assert "What the network generates" not in pages[1]


@pytest.mark.parametrize(
    ("model", "options", "names"),
    [
        ("glow", {"levels": 1, "steps": 2, "width": 8}, {"samples", "interpolations"}),
        ("vae", {"latent": 4, "draws": 1, "decoder": "upsampling"}, {"samples", "interpolations"}),
        ("autoencoder", {"latent": 4, "decoder": "upsampling"}, {"interpolations"}),
        ("cd", {"sgld_steps": 1, "buffer_size": 20}, {"samples", "chains"}),
        ("nce", {}, set()),
    ],
)
def test_a_folder_has_the_pictures_of_its_model(tmp_path, model, options, names):
    arch = "" if model == "glow" else "conv4-4"
    featood.train(
        model, out=tmp_path / "net", dataset="digits", arch=arch, image_size=8 if model == "glow" else 16,
        limit=64, epochs=1, batch_size=32, options=options,
    )  # fmt: skip
    pictures = {path.stem: path for path in tmp_path.glob("net/*.png")}
    assert pictures.keys() == names
    for path in pictures.values():
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
    if model != "glow":
        return
    # an end of an interpolation is an image, which the flow inverts; held-out images are shown
    with Image.open(pictures["interpolations"]) as picture:
        corner = np.asarray(picture)[1:9, 1:9, 0]
    found = load_extractor(tmp_path / "net")
    from featood.data import open_dataset
    from featood.extractors.trainer.trainer import held_out_rows

    held = open_dataset("digits", "train").subset(range(64)).subset(held_out_rows(64, 0.1, 0))
    pixels = found.facts.transform([held.read(0)])
    shown = (255 * (pixels[0, 0] * 0.5 + 0.5)).round().numpy()
    np.testing.assert_allclose(corner, shown, atol=1)
