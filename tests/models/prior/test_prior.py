"""The prior: stream, one forward for training and decoding, the loss."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from models.prior import Prior, PriorConfig, TextTooLongError, prior_loss, text_tensor, token_nats

CONFIG = PriorConfig(
    layers=5,
    heads=2,
    head_width=16,
    text_length=6,
    text_vocabulary=50,
    grid_height=4,
    grid_width=5,
    codebook_size=32,
)


@pytest.fixture
def prior() -> Prior:
    model = Prior(CONFIG).eval()
    for parameter in model.parameters():  # larger than at initialisation, so that every path matters
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def streams(prior: Prior, captions: list[list[int]]) -> torch.Tensor:
    image_tokens = torch.randint(32, (len(captions), 20))
    return prior.layout.inputs(text_tensor(captions, prior.layout), image_tokens)


def test_stream_is_start_text_pads_start_image(prior: Prior) -> None:
    layout = prior.layout
    stream = layout.inputs(text_tensor([[7, 8]], layout), torch.arange(20)[None])[0]
    assert stream[:8].tolist() == [
        layout.start_of_text,
        7,
        8,
        50 + 2,
        50 + 3,
        50 + 4,
        50 + 5,
        layout.start_of_image,
    ]
    assert stream[8:].tolist() == [layout.image_offset + token for token in range(19)]
    assert len(stream) == layout.length


def test_a_caption_that_does_not_fit_is_refused(prior: Prior) -> None:
    with pytest.raises(TextTooLongError, match="7 tokens, the prior takes 6"):
        text_tensor([[1] * 7], prior.layout)


@torch.no_grad()
def test_cached_hidden_states_equal_the_full_forward(prior: Prior) -> None:
    captions = [(1, 2, 3), (4,)]
    stream = streams(prior, [list(caption) for caption in captions])
    full, cache, prefix = prior(stream), prior.new_cache(2, 2), prior.layout.prefix_length
    hidden = [torch.stack([prior.prefill_text(stream[i : i + 1, :prefix], cache, captions[i]) for i in range(2)])]
    cache.text.assign({captions[0]: [0], captions[1]: [1]})
    for position in range(prior.layout.image_length - 1):
        tokens = stream[:, prefix + position] - prior.layout.image_offset
        hidden.append(prior.decode(tokens, torch.full((2,), position), torch.arange(2), cache))
    torch.testing.assert_close(torch.stack(hidden, dim=1), full[:, prefix - 1 :], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("grid", [(4, 5), (8, 8), (13, 3), (2, 16)])
def test_slots_at_different_positions_share_a_step(grid: tuple[int, int]) -> None:
    """Streams of one and of two captions, begun by prefixes of any length and in slots that held others before."""
    config = replace(CONFIG, grid_height=grid[0], grid_width=grid[1])
    prior = Prior(config).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    length, n = prior.layout.prefix_length, prior.layout.image_length
    captions, begun = [(1, 2), (1, 2), (3,)], [0, n // 2, n - 3]
    image_tokens = torch.randint(32, (3, n))
    full = prior(prior.layout.inputs(text_tensor(captions, prior.layout), image_tokens))
    cache = prior.new_cache(5, 2)
    slots = [3, 0, 4]
    for _ in range(2):
        for i, slot in enumerate(slots):
            stream = prior.layout.inputs(text_tensor([captions[i]], prior.layout), image_tokens[i : i + 1])
            if captions[i] not in cache.text:
                prior.prefill_text(stream[:, :length], cache, captions[i])
            prior.prefill_image(stream[:, : length + begun[i]], cache, [slot])
        cache.text.assign({(1, 2): [slots[0], slots[1]], (3,): [slots[2]]})
        for step in range(2):
            positions = torch.zeros(5, dtype=torch.long)
            fed = torch.zeros(5, dtype=torch.long)
            for i, slot in enumerate(slots):
                positions[slot], fed[slot] = begun[i] + step, image_tokens[i, begun[i] + step]
            hidden = prior.decode(fed, positions, torch.arange(5), cache)
            for i, slot in enumerate(slots):
                expected = full[i, length + begun[i] + step]
                torch.testing.assert_close(hidden[slot], expected, rtol=1e-4, atol=1e-5)
        slots = slots[::-1]


@torch.no_grad()
@pytest.mark.parametrize("grid", [(4, 5), (8, 8), (13, 3), (2, 16)])
def test_a_step_may_feed_many_tokens_of_a_slot(grid: tuple[int, int]) -> None:
    """Two slots of five, each fed a window of tokens in rows of any order, wrong ones first, then the right ones."""
    prior = Prior(replace(CONFIG, grid_height=grid[0], grid_width=grid[1])).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    length, n = prior.layout.prefix_length, prior.layout.image_length
    captions = [(1, 2), (3,)]
    stream = prior.layout.inputs(text_tensor(captions, prior.layout), torch.randint(32, (2, n)))
    image_tokens, full, cache = stream[:, length:] - prior.layout.image_offset, prior(stream), prior.new_cache(5, 2, 3)
    for i, slot in enumerate((1, 4)):
        prior.prefill_text(stream[i : i + 1, :length], cache, captions[i])
        prior.prefill_image(stream[i : i + 1, : length + n // 2], cache, [slot])
    owners, places, which = torch.tensor([4, 1, 1, 4, 4]), torch.tensor([2, 0, 1, 1, 0]), torch.tensor([1, 0, 0, 1, 1])
    cache.text.assign({(1, 2): [1, 2], (3,): [4, 3, 0]})
    for begun in range(n // 2, n - 3):
        fed = image_tokens[which, begun + places]
        prior.decode(torch.where(places > 0, (fed + 1) % 32, fed), begun + places, owners, cache)
        hidden = prior.decode(fed, begun + places, owners, cache)
        torch.testing.assert_close(hidden, full[which, length + begun + places], rtol=1e-4, atol=1e-5)


def test_the_cache_is_a_quarter_of_a_dense_one_at_the_papers_grid() -> None:
    config = PriorConfig(layers=12, heads=2, head_width=4, text_vocabulary=50, codebook_size=32)
    prior = Prior(config)
    cache = prior.new_cache(64, 64)
    prior.prefill_text(prior.layout.prefix(text_tensor([[1]], prior.layout)), cache, (1,))
    dense = 2 * 12 * 64 * prior.layout.length * config.width * 4
    assert cache.bytes <= 0.25 * dense


@torch.no_grad()
def test_no_position_sees_the_future(prior: Prior) -> None:
    stream = streams(prior, [[1, 2, 3]])
    before = prior(stream)
    for position in range(1, prior.layout.length):
        changed = stream.clone()
        changed[0, position] = (changed[0, position] + 1) % prior.layout.vocabulary
        torch.testing.assert_close(prior(changed)[:, :position], before[:, :position], rtol=0, atol=1e-5)


def test_loss_weighs_text_and_image_one_to_seven_and_counts_words_and_the_end() -> None:
    prior = Prior(CONFIG)
    text = text_tensor([[1, 2, 3], [4]], prior.layout)
    image_tokens = torch.randint(32, (2, 20))
    loss = prior_loss(prior, text, image_tokens)
    torch.testing.assert_close(loss.loss, loss.text / 8 + loss.image * 7 / 8)
    assert loss.image.item() == pytest.approx(math.log(32), rel=0.05)
    logits = prior.text_logits(prior(prior.layout.inputs(text, image_tokens)))[:, :6].log_softmax(-1)
    first, second = [(0, 1), (1, 2), (2, 3), (3, 50 + 3)], [(0, 4), (1, 50 + 1)]
    words = [logits[0, place, token] for place, token in first] + [logits[1, place, token] for place, token in second]
    torch.testing.assert_close(loss.text, -torch.stack(words).mean())


def test_pads_as_targets_count_every_text_position() -> None:
    prior = Prior(CONFIG)
    text = text_tensor([[1, 2, 3], [4]], prior.layout)
    image_tokens = torch.randint(32, (2, 20))
    logits = prior.text_logits(prior(prior.layout.inputs(text, image_tokens)))[:, :6]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), text.flatten())
    torch.testing.assert_close(prior_loss(prior, text, image_tokens, pads_are_targets=True).text, expected)


def test_a_caption_that_fills_the_text_has_no_end() -> None:
    prior = Prior(CONFIG)
    nats = token_nats(prior, text_tensor([[1] * 6], prior.layout), torch.randint(32, (1, 20)))
    assert nats.is_text_target.all()
    assert nats.image.shape == (1, 20)


def test_masks_are_registered_in_the_layers_order_in_every_process() -> None:
    """DDP sends the first worker's buffers to the others by position: in a set's order, which differs from process to
    process, a worker's row mask would land in another's columns."""
    prior = Prior(CONFIG)
    for attentions in (prior.dense, prior.local, prior.flex):
        assert list(attentions) == list(dict.fromkeys(prior.kinds)) == ["row", "column", "conv"]
