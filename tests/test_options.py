"""Options of heads and models."""

import dataclasses
import inspect

import pytest

from featood.extractors.models import list_models, model_class
from featood.heads import head_class, list_heads
from featood.options import inherit_options, option


@dataclasses.dataclass(kw_only=True)
class Sampled:
    steps: int = option(20, "steps")
    size: float = option(0.1, "size", low=0)


@dataclasses.dataclass(kw_only=True)
class Objective(Sampled):
    weight: float = option(1.0, "weight")


@dataclasses.dataclass(kw_only=True)
class OnImages(Sampled):
    size: float = option(10.0, "size on images", low=0)


def test_of_two_bases_the_one_that_declares_an_option_counts():
    class Plain(Objective, OnImages):
        steps: int = option(5, "steps")

    found = dataclasses.dataclass(kw_only=True)(inherit_options(Plain))
    assert found() == found(steps=5, size=10.0, weight=1.0)
    (size,) = [field for field in dataclasses.fields(found) if field.name == "size"]
    assert size.metadata["help"] == "size on images" and size.metadata["low"] == 0


@pytest.mark.parametrize(
    "cls", [*list_models().values(), *map(head_class, list_heads())], ids=lambda cls: cls.__name__
)
def test_defaults_follow_the_order_of_the_classes(cls):
    for field in dataclasses.fields(cls):
        owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
        assert field.default == owner.__dataclass_fields__[field.name].default, field.name


def test_energies_of_images_sample_images():
    for name in ("cd", "jem", "epn-m"):
        sampling = model_class(name)().sampling
        assert (sampling["step_size"], sampling["noise"]) == (10.0, 0.005), name
