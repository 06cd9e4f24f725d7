"""Columns of vision transformers without a classifier, compared with timm's own functions."""

import pytest
import torch
from networks import mean, record, timm_model
from small_timm import SMALL, require_models

from featood.errors import UsageError
from featood.extractors.pooling import pool
from featood.extractors.taps import plan_taps

IMAGES = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(1))
LARGER = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
LARGEST = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
MODELS = {
    "dinov2": ("vit_small_patch14_dinov2", {}, IMAGES, "token", "they are the class token"),
    "registers": ("vit_small_patch14_reg4_dinov2", {}, IMAGES, "token", "they are the class token"),
    "dinov3": ("vit_small_patch16_dinov3", {}, LARGER, "avg", "they are the mean over positions"),
    "clip": ("vit_base_patch16_clip_224.openai", {}, LARGER, "output", "from the class token by 'head'"),
    "quickgelu": ("vit_base_patch32_clip_quickgelu_224.openai", {}, LARGEST, "output", "shared with text"),
    "eva-clip": ("eva02_base_patch16_clip_224", {}, LARGER, "output", "shared with text"),
    "perception": ("vit_pe_core_tiny_patch16_384", {}, LARGER, "output", "by attention in 'attn_pool'"),
    "siglip": ("vit_base_patch16_siglip_224", {}, LARGER, "output", "by attention in 'attn_pool'"),
    "siglip-mean": ("vit_base_patch16_siglip_gap_224", {}, LARGER, "avg", "they are the mean over positions"),
    "fc-norm": (
        "vit_base_patch16_224.mae", {"global_pool": "avg"}, LARGER, "output",
        "from the mean over positions by 'fc_norm'",
    ),
}  # fmt: skip


def build(script, name, **how):
    model, own, images, *_ = MODELS[name]
    require_models(model)
    return timm_model(script, model, img_size=images.shape[-1], **SMALL, **own, **how), images


@pytest.mark.parametrize("name", MODELS)
def test_columns_are_those_of_timm(name, script):
    from featood.extractors.vision import timm

    net, images = build(script, name)
    *_, main, note = MODELS[name]
    has_token = getattr(net, "cls_token", None) is not None
    pools = ("avg", "std", *(("token", "token_avg") if has_token else ()))
    plan = plan_taps(net, images, ("blocks.0",), pools)
    columns = record(net, plan, images)
    assert (plan.outputs, plan.main, plan.classifier(net)) == ("features", main, None) and note in plan.note
    prefix, first = net.num_prefix_tokens, []
    net.blocks[0].register_forward_hook(lambda module, inputs, output: first.append(output))
    with torch.inference_mode():
        tokens = net.forward_features(images)
        torch.testing.assert_close(columns[main], net.forward_head(tokens))
    for stage, seen in (("", tokens), ("blocks.0.", first[0])):
        patches = timm.layers.global_pool_nlc(seen, "avg", prefix)
        torch.testing.assert_close(columns[f"{stage}avg"], patches)
        torch.testing.assert_close(columns[f"{stage}std"], seen[:, prefix:].std(1))
        if has_token:
            token = timm.layers.global_pool_nlc(seen, "token", prefix)
            torch.testing.assert_close(columns[f"{stage}token"], token)
            torch.testing.assert_close(columns[f"{stage}token_avg"], torch.cat([token, patches], 1))


def test_without_pooling_the_output_is_the_only_column(script):
    net, images = build(script, "registers")
    plan = plan_taps(net, images)
    assert plan.columns_json() == {"output": ["", "output", "avg"]}  # as in earlier versions
    with torch.inference_mode():
        torch.testing.assert_close(record(net, plan, images)["output"], net(images))


def test_tokens_that_are_not_pooled_by_the_network(script):
    net, images = build(script, "registers", global_pool="")
    plan = plan_taps(net, images, (), ("avg", "token"))
    columns = record(net, plan, images)
    with torch.inference_mode():
        tokens = net(images)
    torch.testing.assert_close(columns["avg"], tokens[:, 5:].mean(1))
    torch.testing.assert_close(columns["token"], tokens[:, 0])


def test_register_tokens_are_left_out_unless_named(script):
    net, images = build(script, "registers")
    left_out = plan_taps(net, images, (), ("token", "avg"))
    assert "the 4 register tokens are not pooled" in left_out.note
    plan = plan_taps(net, images, ("blocks.1",), ("avg", "registers"))
    assert "not pooled" not in plan.note
    columns = record(net, plan, images)
    with torch.inference_mode():
        torch.testing.assert_close(columns["registers"], net.forward_features(images)[:, 1:5].mean(1))
    assert plan.columns_json()["registers"][3] == {"channels": 2, "prefix": 5, "registers": 4}
    assert plan.columns_json()["avg"][3] == {"channels": 2, "prefix": 5}


def test_tokens_that_do_not_exist_are_refused(script):
    only_registers = timm_model(script, "vit_betwixt_patch16_reg4_gap_256", img_size=32, **SMALL)
    for how in ("token", "token_avg"):
        with pytest.raises(UsageError, match="there is no class token") as error:
            plan_taps(only_registers, LARGER, (), (how,))
        assert "\n" not in str(error.value)
    plan = plan_taps(only_registers, LARGER, (), ("registers",))
    with torch.inference_mode():
        expected = only_registers.forward_features(LARGER)[:, :4].mean(1)
    torch.testing.assert_close(record(only_registers, plan, LARGER)["registers"], expected)
    net, images = build(script, "dinov2")
    with pytest.raises(UsageError, match="there are no register tokens"):
        plan_taps(net, images, (), ("registers",))
    with pytest.raises(UsageError, match="needs tokens"):
        pool(torch.randn(2, 3, 4, 4), "token_avg")


def test_a_classifier_on_attention_pooling_has_the_patches_as_its_map(script):
    net, images = build(script, "siglip", num_classes=5)
    columns = record(net, plan_taps(net, images), images)  # not the keys and values of the pooling
    with torch.inference_mode():
        tokens = net.forward_features(images)
        torch.testing.assert_close(columns["penultimate"], net.forward_head(tokens, pre_logits=True))
    torch.testing.assert_close(columns["avg"], tokens.mean(1))


def test_pooling_of_a_convolutional_network_without_a_classifier(script):
    net = timm_model(script, "test_resnet", num_classes=0)
    images = torch.randn(2, 3, 96, 96)
    plan = plan_taps(net, images, (), ("avg", "std"))
    assert plan.main == "avg" and "the mean over positions" in plan.note
    columns = record(net, plan, images)
    with torch.inference_mode():
        maps = net.forward_features(images)
    torch.testing.assert_close(columns["avg"], mean(maps))
    torch.testing.assert_close(columns["std"], maps.flatten(2).std(2))


def test_pixels_are_not_the_last_map(script):
    net = timm_model(script, "vit_base_patch16_clip_224.openai", img_size=16, **SMALL)  # a single patch
    plan = plan_taps(net, IMAGES[:, :, :16, :16], (), ("avg",))
    assert list(plan.columns) == ["output"] and "--pool does not apply" in plan.note


def test_pooling_without_a_map_is_said():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 6)).eval()
    plan = plan_taps(net, torch.randn(2, 3, 4, 4), (), ("avg",), outputs="features")
    assert list(plan.columns) == ["output"] and "--pool does not apply" in plan.note
