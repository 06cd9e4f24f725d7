"""The column of the entropies of attention."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from featood.errors import UsageError
from featood.extractors.attention import AttentionEntropy, attention_entropy
from featood.extractors.extras import Setting, extras_from_json, extras_to_json
from featood.extractors.vision import timm, torchvision

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 4}


def mean_entropies(queries, keys):
    """Return the mean entropy over queries of each head, by loops in float64; arguments are ``[B, H, T, E]``."""
    rows, heads, tokens, size = queries.shape
    found = np.zeros((rows, heads))
    for row in range(rows):
        for head in range(heads):
            for query in queries[row, head]:
                weights = np.exp(keys[row, head] @ query / math.sqrt(size))
                weights /= weights.sum()
                found[row, head] -= (weights * np.log(weights)).sum() / tokens
    return found


@pytest.fixture
def vit():
    torch.manual_seed(0)
    net = timm.models.VisionTransformer(**SMALL).eval()
    for block in net.blocks:
        block.attn.qkv.weight.data.mul_(20)  # far from equal weights
    return net


def test_the_entropies_of_all_heads_of_a_timm_network_against_loops(vit):
    inside = []
    for block in vit.blocks:
        block.attn.qkv.register_forward_hook(lambda _, __, output: inside.append(output.detach()))
    found = attention_entropy(vit, IMAGES)
    expected = []
    for output in inside:
        parts = output.double().reshape(3, 17, 3, 3, 8).permute(2, 0, 3, 1, 4).numpy()
        expected.append(mean_entropies(parts[0], parts[1]))
    assert found.dtype == torch.float32 and found.shape == (3, 6)
    assert found.numpy() == pytest.approx(np.concatenate(expected, 1), rel=1e-4, abs=1e-5)
    assert found.std() > 0.05 and (found < math.log(17)).all()


def test_with_equal_products_the_entropy_is_the_logarithm_of_the_tokens(vit):
    for block in vit.blocks:
        block.attn.qkv.weight.data.zero_()
        block.attn.qkv.bias.data.zero_()
    assert attention_entropy(vit, IMAGES).numpy() == pytest.approx(np.full((3, 6), math.log(17)))


def test_layers_of_torch_are_seen_and_rows_do_not_depend_on_others():
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(
        32, 8, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=16
    ).eval()
    whole = attention_entropy(net, IMAGES)
    assert whole.shape == (3, 8)
    expected = []

    def keep(layer, inputs, output):
        expected.append(layer.forward(*inputs, average_attn_weights=False)[1])

    hooks = [block.self_attention.register_forward_hook(keep) for block in net.encoder.layers]
    net(IMAGES)
    for hook in hooks:
        hook.remove()
    naive = [torch.distributions.Categorical(weights.detach()).entropy().mean(2) for weights in expected]
    assert torch.allclose(whole, torch.cat(naive, 1), atol=1e-5)
    alone = torch.cat([attention_entropy(net, image[None]) for image in IMAGES])
    assert torch.allclose(whole, alone, atol=1e-5)


class Masked(nn.Module):
    """Attention in two windows of four tokens, in which no query sees the last key."""

    def __init__(self, mask=None, causal=False):
        super().__init__()
        self.mask, self.causal = mask, causal

    def forward(self, x):
        x = x.reshape(-1, 1, 4, 8)
        return nn.functional.scaled_dot_product_attention(
            x, x, x, self.mask, is_causal=self.causal, scale=0.5
        )


@pytest.mark.parametrize("kind", ["bool", "float", "causal"])
def test_masks_scales_and_windows(kind):
    x = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(1))
    seen = torch.ones(4, 4, dtype=torch.bool)
    seen = seen.tril() if kind == "causal" else seen & (torch.arange(4) < 3)
    mask = {"bool": seen, "float": torch.zeros(4, 4).masked_fill(~seen, -math.inf), "causal": None}[kind]
    found = attention_entropy(Masked(mask, kind == "causal"), x)
    expected = np.zeros((2, 2, 4))
    for row in range(2):
        for window in range(2):
            tokens = x[row, 4 * window : 4 * window + 4].double().numpy()
            for query in range(4):
                weights = np.exp(0.5 * tokens @ tokens[query])[seen[query].numpy()]
                weights /= weights.sum()
                expected[row, window, query] = -(weights * np.log(weights)).sum()
    assert found.numpy()[:, 0] == pytest.approx(expected.mean((1, 2)), rel=1e-5)


def test_a_network_without_attention_is_refused():
    with pytest.raises(UsageError, match="this network has none"):
        attention_entropy(nn.Flatten(), IMAGES)


def test_the_extra_makes_its_column(vit):
    (extra,) = extras_from_json(extras_to_json([AttentionEntropy()]))
    columns = extra(vit, IMAGES, 0, Setting())
    with pytest.raises(UsageError, match="for networks of images"):
        extra(vit, torch.zeros(2, 5, dtype=torch.long), 0, Setting())
    assert list(columns) == ["attention"] and torch.equal(
        columns["attention"], attention_entropy(vit, IMAGES)
    )
