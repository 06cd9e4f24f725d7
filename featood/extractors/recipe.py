"""Selection of the transform for an extraction, and reconstruction of backbone and transform from a manifest."""

from __future__ import annotations

__all__ = ["changed_colours", "choose_transform", "fit_channels", "rebuild"]

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from featood.cache.manifest import Manifest, differing
from featood.data import ImageSet, InputSet, get_entry
from featood.errors import CacheCorrupt, Mismatch, UsageError
from featood.extractors.backbones import CODE, RANDOM, Backbone, code_name, resolve_backbone
from featood.extractors.backbones.image_size import at_image_size
from featood.extractors.code import code_recipe
from featood.extractors.extras import extras_from_json
from featood.extractors.forward import ExtractOptions
from featood.extractors.inputs import InputTransform, transform_from_json
from featood.extractors.transform import IMAGENET, Transform
from featood.extractors.weights import weights_sha256
from featood.nets import is_net, net_defaults


def choose_transform(
    backbone: Backbone,
    images: InputSet,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    image_size: int | None = None,
    resize: int | None = None,
    max_length: int | None = None,
) -> tuple[InputTransform, str]:
    """Select the transform of the weights, or else of the in-distribution set, and apply the given changes.

    Parameters
    ----------
    backbone : Backbone
        The network, whose weights may have a transform.
    images : InputSet
        The in-distribution set.
    mean, std : sequence of float, optional
        One value, or one per channel, for pixels in [0, 1].
    image_size : int, optional
        Side of the square input in pixels; the crop keeps its ratio (:meth:`Transform.at_size`).
    resize : int, optional
        Number of pixels to which the short side is resized, before the crop.
    max_length : int, optional
        Number of tokens after which a text is cut off.

    Returns
    -------
    transform : InputTransform
    origin : str
        Description of its origin.

    Raises
    ------
    UsageError
        If a mean or standard deviation is outside [0, 1], or does not have one value per channel; if the resized images
        are smaller than the crop; if the backbone is for another kind of inputs, or a value is for another kind.
    """
    takes = Transform.takes if backbone.transform is None else backbone.transform.takes
    if images.kind != takes:
        raise UsageError(f"{images.name} is a set of {images.kind}, and {backbone.name} takes {takes}")
    of_images = {"--mean": mean, "--std": std, "--image-size": image_size, "--resize": resize}
    given = of_images if takes != Transform.takes else {}
    given = given if takes == "texts" else {**given, "--max-length": max_length}
    if wrong := [flag for flag, value in given.items() if value is not None]:
        raise UsageError(f"{wrong[0]} has no effect on {takes}; omit it")
    if backbone.transform is not None and not isinstance(backbone.transform, Transform):
        chosen = {} if max_length is None else {"max_length": max_length}
        changed = backbone.transform.like(chosen)
        return changed, f"the weights of {backbone.resolved}" + (", with your changes" if chosen else "")
    if backbone.transform is not None:
        base, origin = backbone.transform, f"the weights of {backbone.resolved}"
    else:
        assert isinstance(images, ImageSet)
        base, origin = _of_dataset(backbone, images)
    if image_size is not None:
        base = base.at_size(image_size)
    if resize is not None:
        if resize < max(base.height, base.width):
            raise UsageError(
                f"--resize {resize} is smaller than the crop of {base.height} x {base.width} pixels"
            )
        base = dataclasses.replace(base, resize=resize, fit="short")
    changed = changed_colours(base, mean, std)
    if changed is not base or image_size is not None or resize is not None:
        origin += ", with your changes"
    return changed, origin


def changed_colours(
    transform: Transform, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Transform:
    """Return a transform with another normalisation, if one is given.

    Raises
    ------
    UsageError
        If a mean or standard deviation is outside [0, 1], or does not have one value per channel.
    """
    given = {name: tuple(values) for name, values in (("mean", mean), ("std", std)) if values is not None}
    for name, values in given.items():
        if not 0 <= min(values) <= max(values) <= 1:
            text = ",".join(f"{value:g}" for value in values)
            raise UsageError(f"--{name} is for pixels in [0, 1], not {text}; divide values up to 255 by 255")
    return dataclasses.replace(transform, **given) if given else transform  # type: ignore[arg-type]


def _of_dataset(backbone: Backbone, images: ImageSet) -> tuple[Transform, str]:
    channels = backbone.channels
    try:
        entry = get_entry(images.name.partition(":")[0])
    except UsageError:
        entry = None
    mean, std, shape = (None, None, None) if entry is None else (entry.mean, entry.std, entry.shape)
    if mean is None or std is None:
        mean, std = IMAGENET.mean, IMAGENET.std
    if shape is None and not is_net(backbone.name):
        return dataclasses.replace(
            IMAGENET, channels=channels, mean=fit_channels(mean, channels), std=fit_channels(std, channels)
        ), f"{images.name}, as usual for photographs"
    height, width = shape[:2] if shape is not None else (net_defaults(backbone.name).image_size,) * 2
    transform = Transform(
        channels, height, width, 0, fit_channels(mean, channels), fit_channels(std, channels)
    )
    return transform, images.name


def fit_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Repeat grey statistics for RGB, and average RGB statistics for grey."""
    if len(values) == channels:
        return tuple(values)
    return (sum(values) / len(values),) * channels


def rebuild(
    origin: Manifest, code: Sequence[str | nn.Module] = ()
) -> tuple[Backbone, InputTransform, ExtractOptions]:
    """Reconstruct from a manifest what is needed to extract another set in the same way.

    Parameters
    ----------
    origin : Manifest
        The manifest of an extracted set.
    code : sequence of str or Module
        Names of code that may be run, ``python:MODULE:CALLABLE``, and networks. Since manifests are not trusted, a
        backbone made by a callable is taken only from these.

    Raises
    ------
    UsageError
        If the set was imported and therefore has no backbone, or its backbone is code that is not named.
    Mismatch
        If the weights differ from those in the manifest, or the images were resized by an earlier version.
    CacheCorrupt
        If the manifest does not describe an extraction.
    """
    recipe, run = origin.recipe, origin.run
    if "transform" not in recipe:
        raise UsageError("these features were imported, so other sets cannot be extracted; import those too")
    if recipe["transform"].get("resize") and "fit" not in recipe["transform"]:
        raise Mismatch(
            f"{origin.dataset} was extracted by an old version, which rounds image sizes differently from timm and "
            "torchvision; extract it again with --overwrite"
        )
    if any("gram" in entry for entry in recipe.get("columns", {}).values()):
        raise Mismatch(
            f"the Gram sums of {origin.dataset} have the powers 1 to 5 of an earlier version, not 1 to 10; "
            "extract it again with --overwrite"
        )
    try:
        options = ExtractOptions(
            taps=tuple(run["taps"]),
            pools=run["pools"] and tuple(run["pools"]),
            maps="map_shape" in recipe,
            outputs=run.get("outputs", "auto"),
            extras=extras_from_json(recipe.get("extras", {}), run.get("paths", {})),
            dtype=recipe["dtype"],
            precision=recipe["precision"],
            batch_size=run["batch_size"],
            block_rows=origin.block_rows,
            store=origin.store,
        )
        sha256, name = recipe["weights_sha256"], run["name"]
    except (KeyError, TypeError) as error:
        raise CacheCorrupt(
            f"the manifest of {origin.dataset} lacks an entry of an extraction ({error}); extract it again"
        ) from None
    backbone = _backbone_of(origin, name, code)
    transform = transform_from_json(recipe["transform"], backbone.transform)
    if isinstance(transform, Transform):
        backbone = at_image_size(backbone, transform.height, transform.width)
    if backbone.sha256 not in (sha256, run.get("resampled_sha256")):  # a detector has the resampled weights
        raise Mismatch(
            f"{name} no longer has the weights with which the cache was made "
            f"({backbone.weights}: {backbone.sha256[:12]}, not {sha256[:12]}); extract again"
        )
    if "code_sha256" in recipe and differing(
        now := code_recipe(backbone.module)[0], {k: recipe.get(k) for k in now}
    ):
        raise Mismatch(f"the code of {name} has changed since the cache was made; extract again")
    return backbone, transform, options


def _options(origin: Manifest) -> Mapping[str, Any] | None:
    """Return the options given for the network, or for one of timm, those that it has by its ``config.json``."""
    if origin.recipe["backbone"].startswith("timm:"):
        return origin.recipe.get("backbone_options")
    return origin.run.get("arch_options")


def _backbone_of(origin: Manifest, name: str, code: Sequence[str | nn.Module]) -> Backbone:
    recipe, run = origin.recipe, origin.run
    given = run.get("weights_file", "") or (RANDOM if run.get("weights") == RANDOM else "")
    if name.startswith(CODE):
        for module in code:
            if isinstance(module, nn.Module) and weights_sha256(module) == recipe["weights_sha256"]:
                weights = run.get("weights", "")
                return Backbone(
                    name, recipe["backbone"], module.eval(), weights, None, recipe["weights_sha256"]
                )
        named = [text for text in code if isinstance(text, str) and code_name(text) == code_name(name)]
        if not named:
            raise UsageError(
                f"the features in the cache were made by the code {name!r}, which is run only if you name it: "
                f"add --code {shlex.quote(name)} if you trust it"
            )
        name = named[0]
    classes = origin.columns["logits"].shape[0] if "logits" in origin.columns else None
    try:
        return resolve_backbone(name, given, classes, run.get("seed", 0), _options(origin))
    except Exception as error:
        if given and not isinstance(error, Mismatch):
            raise type(error)(f"{error}; the weights were read from {given}") from error
        raise
