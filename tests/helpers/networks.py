"""Small networks with random weights, and recording of their columns."""

import torch
from torch import nn

from featood.extractors.outputs import class_outputs

IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
CLASSES = 5


def randomised(net, script):
    """Set all parameters and statistics to random values, so that no head is zero and no check trivial."""
    script("architectures").randomise(net)
    assert all(bool(parameter.abs().max() > 0) for parameter in net.parameters())
    return net.eval()


def record(net, plan, images=IMAGES):
    with plan.recording(net) as forward, torch.inference_mode():
        return forward(images)


def relative_error(net, plan, images=IMAGES):
    columns = record(net, plan, images)
    weight, bias = (torch.from_numpy(part) for part in plan.classifier(net))
    with torch.inference_mode():
        logits = class_outputs(net(images))
    assert torch.equal(columns["logits"], logits)
    assert logits.std(0).min() > 0
    made = columns[plan.main] @ weight.T + bias
    return ((made - logits).abs().max() / logits.abs().max()).item()


class Net(nn.Module):
    """A convolution to 8 channels, and a head that is a function of the network and its map."""

    def __init__(self, head, **layers):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.act = nn.ReLU()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run_head = head

    def forward(self, x):
        return self.run_head(self, self.act(self.conv(x)))


def mean(x):
    return x.mean((2, 3))


def linear(width=8):
    return nn.Linear(width, CLASSES)


def timm_model(script, name, **how):
    from featood.extractors.vision import timm

    return randomised(timm.create_model(name, **how), script)
