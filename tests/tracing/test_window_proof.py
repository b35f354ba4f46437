"""Which mixers can be given a window: sound attention in every form people write it, and faults that must be seen."""

from __future__ import annotations

import copy
import math
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import layertracer as lt
from layertracer.tracing import JudgedRow, make_substituter
from layertracer.tracing._sites.attention_reach import AttentionWatcher, group_rows

from tests.support.models.carrying_mixers import (
    CARRYING,
    LONG,
    N_EXPERTS,
    Routed,
    TwiceIfLong,
    WrittenOutIfLong,
    decoder_of,
)
from tests.support.models.families import build_tiny
from tests.support.models.planted_decoder import Attention
from tests.support.models.planted_faults import FAULTS, FaultCase
from tests.support.oracles.substituted import Change, log_probs, masking, replacing_output, said_between, window_mask
from tests.support.tiny import tiny

WINDOW = lt.Window(5, sinks=2)


def row(length: int, *, seed: int = 0) -> JudgedRow:
    """A row of random tokens, read everywhere."""
    ids = torch.randint(1, 90, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return JudgedRow(ids=ids, read=range(length))  # type: ignore[arg-type]


# ---------------------------------------------------------------- attention in the forms people write it


def allowing(module: Any, layers: list[int]) -> ExitStack:
    """Windows through what decoders of `planted_decoder` ask for which keys a query sees."""
    stack = ExitStack()
    for index in layers:
        mixer, own = module.layers[index].mixer, module.layers[index].mixer.allowed

        def allowed(stream: Tensor, *, n_keys: int, own: Any = own) -> Tensor:
            seen: Tensor = own(stream, n_keys=n_keys) & window_mask(n_keys, WINDOW.size, WINDOW.sinks)
            return seen

        mixer.allowed = allowed
        stack.callback(delattr, mixer, "allowed")
    return stack


def by_hand(module: Any, layers: list[int]) -> ExitStack:
    """Windows in the attention of the plain GPT, written out entry by entry."""
    stack = ExitStack()
    for index in layers:
        attention = module.transformer["h"][index].attn

        def attend(stream: Tensor, attention: Any = attention) -> Tensor:
            n, d_head = stream.shape[1], stream.shape[2] // attention.n_heads
            parts = attention.c_attn(stream)[0].view(n, 3, attention.n_heads, d_head)
            seen = window_mask(n, WINDOW.size, WINDOW.sinks)
            mixed = torch.zeros(n, attention.n_heads, d_head, dtype=stream.dtype)
            for query in range(n):
                for head in range(attention.n_heads):
                    keys = [key for key in range(n) if seen[query, key]]
                    scores = parts[keys, 1, head] @ parts[query, 0, head] / math.sqrt(d_head)
                    mixed[query, head] = torch.exp(scores - scores.logsumexp(0)) @ parts[keys, 2, head]
            added: Tensor = attention.c_proj(mixed.flatten(1))[None]
            return added

        attention.forward = attend
        stack.callback(delattr, attention, "forward")
    return stack


def multi_head(module: Any, layers: list[int]) -> ExitStack:
    """Windows through the mask of PyTorch's own multi-head attention."""
    stack = ExitStack()

    def mask(_: nn.Module, args: Any, kwargs: Any) -> Any:
        hidden = ~window_mask(args[0].shape[1], WINDOW.size, WINDOW.sinks)
        return args, kwargs | {"attn_mask": hidden, "is_causal": False}

    for index in layers:
        attention = module.encoder.layers[index].self_attn
        stack.callback(attention.register_forward_pre_hook(mask, with_kwargs=True).remove)
    return stack


def built(name: str) -> tuple[nn.Module, Change]:
    """A module, and how windows get into it the slow way."""
    if name == "planted":
        return decoder_of(Attention), allowing
    module = build_tiny(name)
    ways: dict[str, Change] = {"nanogpt": by_hand, "torch_encoder": multi_head}
    return module, ways.get(name) or masking("model.layers", WINDOW.size, WINDOW.sinks)


@pytest.mark.parametrize("name", ["planted", "nanogpt", "torch_encoder"])
def test_every_form_of_attention_obeys(name: str) -> None:
    """A softmax written out, PyTorch's attention, and its multi-head attention: as worked out by hand in float64."""
    module, change = built(name)
    exact = copy.deepcopy(module).double()
    substituter = make_substituter(lt.wrap_model(module), WINDOW)
    assert substituter.placeable == (0, 1, 2, 3)
    rows = [row(19), row(19, seed=1), row(33)]
    kept: list[tuple[int, ...]] = [(), (0,), (1, 2), (0, 1, 3)]
    for one, found in zip(rows, substituter.measure(rows, kept), strict=True):
        full = log_probs(exact, one.ids)
        for number, placement in enumerate(kept):
            with change(exact, [layer for layer in range(4) if layer not in placement]):
                said = said_between(full, log_probs(exact, one.ids), one.ids)
            np.testing.assert_allclose(found.kl_nats[number], said.kl_nats, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.nll_nats[number], said.nll_nats, rtol=1e-5, atol=1e-5)


def test_a_router_is_no_attention() -> None:
    """Where an MLP chooses among as many experts as a row has tokens, that choice is not narrowed."""
    module = decoder_of(Attention, Routed)
    substituter = make_substituter(lt.wrap_model(module), WINDOW)
    (found,) = substituter.measure([row(N_EXPERTS)], [(), (1,)])
    full = log_probs(module, row(N_EXPERTS).ids)
    for number, layers in enumerate(([0, 1, 2, 3], [0, 2, 3])):
        with allowing(module, layers):
            said = said_between(full, log_probs(module, row(N_EXPERTS).ids), row(N_EXPERTS).ids)
        np.testing.assert_allclose(found.kl_nats[number], said.kl_nats, atol=1e-5)


# ---------------------------------------------------------------- what must be refused


@pytest.mark.parametrize("mixer", CARRYING, ids=lambda mixer: mixer.__name__)
def test_what_a_window_does_not_narrow_is_refused(mixer: type[Attention]) -> None:
    """A mixer by which tokens reach others past the mask is refused with the reason; its sound neighbours are not."""
    substituter = make_substituter(lt.wrap_model(decoder_of(mixer)), WINDOW)
    assert substituter.placeable == (0, 2)
    assert all(CARRYING[mixer] in substituter.refused[layer] for layer in (1, 3))


@pytest.mark.parametrize("mixer", [WrittenOutIfLong, pytest.param(TwiceIfLong, marks=pytest.mark.slow)])
def test_what_changes_its_ways_on_long_texts_is_refused_there(mixer: type[Attention]) -> None:
    """Attention that goes another way on rows longer than the proof's is seen there, and measured on shorter ones."""
    substituter = make_substituter(lt.wrap_model(decoder_of(mixer)), WINDOW)
    assert substituter.placeable == (0, 1, 2, 3)
    substituter.measure([row(LONG)], [()])
    with pytest.raises(
        lt.SiteError, match=rf"A window of 5 tokens and the first 2 in layer 1 .* not on one of {LONG + 30}"
    ):
        substituter.measure([row(LONG + 30)], [()])


def without_mixers(module: nn.Module, layers: list[int]) -> ExitStack:
    """What mixers add is zero."""
    return replacing_output("layers.{}.mixer", lambda _, own: 0 * own)(module, layers)


QUICK = ("rows_beyond_forty", "layer_skipped")


@pytest.mark.parametrize("substitute", [WINDOW, lt.NoMixer()], ids=["window", "none"])
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case.name in QUICK else pytest.mark.slow, id=case.name) for case in FAULTS]
)
def test_faults_that_no_probe_shows_give_no_wrong_number(case: FaultCase, substitute: Any) -> None:
    """A model that does otherwise with many rows or long texts is measured as it is by itself, or refused."""
    rows = [JudgedRow(ids=ids, read=(len(ids) - 1,)) for ids in case.prompts]
    try:
        substituter = make_substituter(lt.wrap_model(case.build()), substitute)
        layers = substituter.placeable
        kept = [(), layers[:1], layers[1::2], layers[:-1]]
        found = substituter.measure(rows, kept)
    except (lt.SiteError, lt.SelfCheckError):
        return
    change = allowing if substitute == WINDOW else without_mixers
    for ids, own in zip(case.prompts, found, strict=True):
        full = log_probs(case.build(), ids)
        for number, placement in enumerate(kept):
            module = case.build()
            with change(module, [layer for layer in layers if layer not in placement]):
                said = said_between(full, log_probs(module, ids), ids)
            assert own.kl_nats[number, 0] == pytest.approx(said.kl_nats[-1], abs=2e-5)


# ---------------------------------------------------------------- the site


def test_rows_that_see_everything_take_the_call_that_they_take_otherwise() -> None:
    """Beside rows with windows, the others come out of attention to the last bit as they do without any."""
    layer = tiny("llama").anatomy.layers[0]
    generator = torch.Generator().manual_seed(5)
    query, key, value = (torch.randn(6, 2, 11, 8, generator=generator) for _ in range(3))
    scores = torch.randn(6, 2, 11, 11, generator=generator).masked_fill(~torch.ones(11, 11).tril().bool(), -torch.inf)
    whole = functional.scaled_dot_product_attention(query[[0, 2, 3]], key[[0, 2, 3]], value[[0, 2, 3]], is_causal=True)

    def reach_of(full: Tensor) -> Tensor:
        narrowed = full.clone()
        narrowed[[1, 4]], narrowed[5] = torch.tensor((3, 1)), torch.tensor((2, 0))
        return narrowed[1:]

    with AttentionWatcher(layer, n_rows=6, n_positions=11, reach_of=reach_of) as watcher:
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        weights = torch.softmax(scores, dim=-1)
    assert watcher.n_seen == 2
    assert torch.equal(mixed[[0, 2, 3]], whole)
    assert torch.equal(weights[[0, 2, 3]], torch.softmax(scores[[0, 2, 3]], dim=-1))
    for rows, seen in (([1, 4], window_mask(11, 3, 1)), ([5], window_mask(11, 2))):
        hidden = scores[rows].double().masked_fill(~seen, -torch.inf)
        torch.testing.assert_close(weights[rows].double(), hidden.softmax(-1), rtol=0, atol=1e-6)
        own = (query[rows].double() @ key[rows].double().transpose(-1, -2) / math.sqrt(8)).masked_fill(
            ~seen, -torch.inf
        )
        torch.testing.assert_close(mixed[rows].double(), own.softmax(-1) @ value[rows].double(), rtol=0, atol=1e-5)


def test_rows_are_grouped_by_what_they_see() -> None:
    """Rows of equal reach are one group; those that see every token before them have no mask."""
    reach = torch.tensor([[9, 0], [2, 1], [9, 0], [5, 4], [2, 1]])[:, None].expand(5, 9, 2)
    groups = {group.rows: group.visible for group in group_rows(reach)}
    assert set(groups) == {(0, 2), (1, 4), (3,)}
    assert groups[0, 2] is None
    assert groups[3,] is None  # five of the last and four of the first: all nine
    assert groups[1, 4] is not None
    assert torch.equal(groups[1, 4].tril(), window_mask(9, 2, 1))


@pytest.mark.parametrize("substitute", [WINDOW, lt.NoMixer()], ids=str)
def test_nothing_is_left_behind_after_an_exception(substitute: Any) -> None:
    """When the model raises in the middle of a pass, its layers and PyTorch's functions are as they were."""
    name = "torch_encoder" if substitute == WINDOW else "nanogpt"
    module = build_tiny(name)
    model = lt.wrap_model(module)
    substituter = make_substituter(model, substitute)
    last, raised = model.anatomy.layers[-1].module, RuntimeError("planted")

    def fail(*_: Any) -> None:
        raise raised

    hook = last.register_forward_pre_hook(fail)
    before = functional.softmax, functional.scaled_dot_product_attention
    with pytest.raises(lt.ModelError, match="planted"):
        substituter.measure([row(15)], [()])
    hook.remove()
    assert (functional.softmax, functional.scaled_dot_product_attention) == before
    assert all("forward" not in vars(part) for part in module.modules())
    fresh = make_substituter(
        lt.wrap_model(build_tiny("torch_encoder" if substitute == WINDOW else "nanogpt")), substitute
    )
    (one,), (other,) = (made.measure([row(15)], [()]) for made in (substituter, fresh))
    np.testing.assert_allclose(one.kl_nats, other.kl_nats, atol=2e-6)
