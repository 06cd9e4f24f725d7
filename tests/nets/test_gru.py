"""The recurrent classifier of texts."""

import pytest
import torch

from featood.nets.gru import GruClassifier, GruOptions
from featood.nets.padded import PADDING, joined, real_tokens


def rows(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(20, (length,), generator=generator) for length in lengths]


def padded(texts):
    longest = max(map(len, texts))
    return torch.stack([torch.cat([text, text.new_full((longest - len(text),), PADDING)]) for text in texts])


@pytest.mark.parametrize("options", [GruOptions(), GruOptions(layers=1, hidden=5, embedding=3)])
def test_logits_are_of_the_state_after_the_last_token(options):
    torch.manual_seed(0)
    net = GruClassifier(4, 20, options).eval()
    texts = rows(3, 7, 1)
    with torch.no_grad():
        for text, found in zip(texts, net(padded(texts)), strict=True):
            state = torch.zeros(options.layers, 1, options.hidden)
            for token in text:  # one token at a time
                _, state = net.gru(net.embedding(token)[None, None], state)
            torch.testing.assert_close(found, net.fc(state[-1, 0]), rtol=1e-5, atol=1e-6)


def test_an_empty_text_is_one_unknown_word():
    net = GruClassifier(2, 5).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            net(torch.full((1, 3), PADDING)), net(torch.zeros(1, 1, dtype=torch.int64))
        )


def test_batches_of_tokens_are_joined_and_masked():
    both = joined([torch.tensor([[1, 2, 3]]), torch.tensor([[4], [5]])])
    assert both.tolist() == [[1, 2, 3], [4, PADDING, PADDING], [5, PADDING, PADDING]]
    ids, mask = real_tokens(both, 9)
    assert ids.tolist() == [[1, 2, 3], [4, 9, 9], [5, 9, 9]] and mask.sum(1).tolist() == [3, 1, 1]
    images = [torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4)]
    assert torch.equal(joined(images), torch.cat(images))
