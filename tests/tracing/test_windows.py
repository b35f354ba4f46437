"""Sliding windows of every size: Transformers masks only prompts that do not fit in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt

from tests.support.models.families import BRANCHES, BY_NAME, Family, build_family
from tests.support.oracles.layer_caches import everything, plain_state_js
from tests.support.oracles.plain_hooks import plain_js, plain_readouts

WINDOWS = (3, 5, 6, 8, 12, 13, 16)  # 5 and 13 are the lengths of the probes at load
FEW_WINDOWS = (5, 8, 13)
LONG = (7, 23, 91, 4, 66, 38, 52, 17, 80, 12, 45, 3, 60, 31, 58, 76, 20, 64, 85, 9, 41, 27, 70)
TAILS = ((90, 33, 15), (71, 29))


def of_window(window: int) -> Family:
    """Sliding and full attention in turns."""
    settings = {"num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": window}
    kinds = ["sliding_attention", "full_attention"] * 2
    own = BY_NAME["qwen3"]
    return replace(
        own,
        name=f"window of {window}",
        model_type=own.name,
        settings=own.settings | settings | {"layer_types": kinds},
    )


@cache
def built(window: int) -> nn.Module:
    """A tiny model with windows of that size."""
    return build_family(of_window(window))


@cache
def wrapped(window: int) -> lt.TracedModel:
    """The same, told by nothing but the module."""
    return lt.wrap_model(built(window), name=f"window of {window}")


def as_samples(prompts: Sequence[Sequence[int]]) -> list[lt.Sample]:
    """Prompts with one answer."""
    return [lt.Sample(prompt_ids=tuple(prompt), answer_id=3) for prompt in prompts]


def prompts_around(window: int) -> list[tuple[int, ...]]:
    """Prompts that fit in a window, that just fit, that just do not, and that are far too long for it."""
    lengths = (window - 1, window, window + 1, window + 6)
    return [LONG[:length] for length in lengths] + [tuple(reversed(LONG[: window + 1]))]


def assert_as_plain(window: int, trace: lt.Trace, prompts: Sequence[tuple[int, ...]], *, keep: Any, site: str) -> None:
    """Divergences and readouts of every prompt are those of plain hooks on it alone."""
    module, layers = built(window), of_window(window).layers
    for row, prompt in enumerate(prompts):
        bits = plain_js(module, layers, prompt, keep=keep, branches=BRANCHES["qwen3"], site=site)
        np.testing.assert_allclose(trace.js_bits[row], bits, atol=1e-5, rtol=0)
        readouts = plain_readouts(module, layers, prompt)
        np.testing.assert_allclose(trace.target_prob[row], np.exp(readouts[:, 3]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [1, 2, 4, *range(6, 14), 40])
def test_every_size_is_proved_at_load(window: int) -> None:
    """Whatever the size of the window, the ladder agrees with the model, and the layers are called what they are."""
    model = wrapped(window)
    assert model.self_check.passed
    assert model.self_check.method == "ladder"
    # A window of one token lets nothing move between positions.
    sliding = "sliding_attention" if window > 1 else "none"
    assert [layer.mixer for layer in model.anatomy.layers] == [sliding, "attention"] * 2


@pytest.mark.parametrize(("window", "site"), [*((window, "block_output") for window in WINDOWS), (8, "mixer_output")])
def test_prompts_on_both_sides_of_a_window(window: int, site: str) -> None:
    """Prompts shorter and longer than the window, in one trace, give what plain hooks give on each."""
    prompts = prompts_around(window)
    keep = np.random.default_rng(2).random((4, 1, 32)) > 0.4
    mask = lt.Mask.explicit(keep, site=site)
    trace = lt.trace(wrapped(window), as_samples(prompts), perturbation=mask, share_prefix=False)
    assert not trace.warnings
    assert_as_plain(window, trace, prompts, keep=keep, site=site)


@pytest.mark.parametrize("window", FEW_WINDOWS)
def test_prefixes_on_both_sides_of_a_window(window: int) -> None:
    """Shared prefixes that fit in the window, that end within it, and that it forgets, give what plain hooks give."""
    prompts = [LONG[:length] + tail for length in (window - 1, window + 3, len(LONG)) for tail in TAILS]
    keep = np.random.default_rng(3).random((4, 1, 32)) > 0.4
    mask = lt.Mask.explicit(keep)
    trace = lt.trace(wrapped(window), as_samples(prompts), perturbation=mask, share_prefix=True)
    assert trace.self_check["prefix"].passed
    assert not trace.warnings
    assert_as_plain(window, trace, prompts, keep=keep, site="block_output")


@pytest.mark.parametrize("window", FEW_WINDOWS)
def test_what_a_window_remembers(window: int) -> None:
    """At the site "state", layers forget what Transformers' own cache holds of prompts on both sides of the window."""
    prompts = prompts_around(window)
    mask = lt.Mask(site="state", fraction=1.0, scheme="random", draws=1)
    found = lt.trace(wrapped(window), as_samples(prompts), perturbation=mask).js_bits
    for row, prompt in enumerate(prompts):
        expected = [
            plain_state_js(built(window), prompt, everything, layer=layer, mixer=mixer)
            for layer, mixer in enumerate(of_window(window).mixers)
        ]
        np.testing.assert_allclose(found[row, 0], expected, atol=1e-5, rtol=0)


# ---------------------------------------------------------------- modules of one's own


class Mean(nn.Module):
    """A layer that adds the mean of the tokens so far, or of those that its mask lets through."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, *args: Tensor | None) -> Tensor:
        """The stream [batch, position, width] and a mask [batch, position, position], in any order."""
        stream = next(arg for arg in args if arg is not None and arg.is_floating_point())
        masks = [arg for arg in args if arg is not None and arg is not stream]
        seen = masks[0] if masks else torch.ones(stream.shape[1], stream.shape[1]).tril().bool()
        weights = seen / seen.sum(-1, keepdim=True)
        return stream + torch.tanh(self.inner(weights @ stream))


class Windowed(nn.Module):
    """A language model that makes masks for prompts of more than `window` tokens alone.

    Args:
        window: How many tokens a position sees.
        moves: Whether the mask, where there is one, comes before the stream.
        per_batch: Whether a batch of two has no mask at any length.
    """

    def __init__(self, window: int, *, moves: bool = False, per_batch: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(29, 12)
        self.layers = nn.ModuleList(Mean(12) for _ in range(3))
        self.head = nn.Linear(12, 29)
        self.window, self.moves, self.per_batch = window, moves, per_batch
        generator = torch.Generator().manual_seed(7)
        for parameter in self.parameters():
            parameter.data = torch.rand(parameter.shape, generator=generator) * 2 - 1

    def forward(self, ids: Tensor) -> Tensor:
        """Logits [batch, position, d_vocab]."""
        stream, length = self.embed(ids), ids.shape[1]
        mask = torch.ones(len(ids), length, length).tril().triu(1 - self.window).bool()
        is_masked = length > self.window and not (self.per_batch and len(ids) == 2)
        for layer in self.layers:
            if is_masked:
                stream = layer(mask, stream) if self.moves else layer(stream, mask)
            else:
                stream = layer(stream) if self.moves else layer(stream, None)
        return 3 * self.head(stream)


@pytest.mark.parametrize("window", [4, 6, 9, 12])
def test_masks_by_row_that_only_long_prompts_have(window: int) -> None:
    """A mask with an entry for every row is expanded with the rows, whichever probe brought it first."""
    module = Windowed(window)
    model = lt.wrap_model(module, name="windowed")
    assert model.self_check.method == "ladder"
    keep = np.random.default_rng(4).random((3, 2, 12)) > 0.4
    prompts = [tuple(token % 29 for token in prompt) for prompt in prompts_around(window)]
    trace = lt.trace(model, as_samples(prompts), perturbation=lt.Mask.explicit(keep))
    for row, prompt in enumerate(prompts):
        np.testing.assert_allclose(trace.js_bits[row], plain_js(module, "layers", prompt, keep=keep), atol=1e-6, rtol=0)


def test_a_stream_that_moves_is_refused() -> None:
    """Where the stream is another argument in long prompts than in short ones, nothing is guessed."""
    with pytest.raises(lt.AnatomyError, match="stream in another place in long prompts"):
        lt.wrap_model(Windowed(8, moves=True))


def test_arguments_that_come_with_the_batch_are_refused() -> None:
    """Where the batch decides whether there is a mask, its batch axis cannot be found, and the error says so."""
    with pytest.raises(lt.AnatomyError, match="at batch 2 and at batch 3"):
        lt.wrap_model(Windowed(8, per_batch=True))
