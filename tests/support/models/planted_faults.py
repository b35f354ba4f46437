"""Models that do otherwise with many rows, long prompts or certain tokens than a short probe shows.

Each fault is a `FaultCase`: a module, and prompts at which reading it in batches, in stretches or out of the stream
goes wrong by far more than rounding. What is right is what a plain hook gives on one prompt at a time, in whole, on a
fresh module: `module(ids)[0, -1]` (`["logits"][0, -1]` of a `CachingDecoder`) with a forward hook on one of
`module.layers`, which take the stream first and return it alone. Sites inside a layer are its `mixer` and its `mlp`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from tests.support.models.planted_decoder import PAD, CachingDecoder, Decoder, Layer, drawn
from tests.support.models.planted_fault_models import (
    BEYOND,
    MANY_ROWS,
    N_CHOSEN,
    RARE,
    ROOM,
    SURE,
    BatchExit,
    BatchStatisticsLayer,
    ChosenKeysAttention,
    ChunkedAttention,
    CoarseLongAttention,
    CoarseLongTail,
    DynamicRotary,
    Experts,
    ForgettingAttention,
    InPlaceDecoder,
    LargeBatchLayer,
    LateRowsLayer,
    LongRotary,
    LongTail,
    LongWindowAttention,
    NoisyLayer,
    OnceDecoder,
    PadCounting,
    PoolingFeedForward,
    PositionTail,
    RememberingLayer,
    RescalingDecoder,
    RowExit,
    SkippingDecoder,
    SwappingDecoder,
    SwitchingDecoder,
    made_sure,
)


@dataclass(frozen=True, kw_only=True)
class FaultCase:
    """One fault, and prompts that show it.

    Attributes:
        name: What it is called.
        build: Makes a fresh module, gradients on, in evaluation mode, that has not run.
        prompts: Token ids of each prompt.
        n_draws: Perturbations of each layer that it takes.
        needs: What it takes to see it, in words.
        share_prefix: Whether it shows only where prompts go on from a prefix that was read once.
    """

    name: str
    build: Callable[[], Decoder]
    prompts: tuple[tuple[int, ...], ...]
    n_draws: int
    needs: str
    share_prefix: bool = False


def prompt(length: int, seed: int, *, first: tuple[int, ...] = (), last: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Random tokens without a meaning between some that are given."""
    generator = torch.Generator().manual_seed(1000 * seed + length)
    middle = torch.randint(1, RARE, (length - len(first) - len(last),), generator=generator)
    return (*first, *middle.tolist(), *last)


def _with_layers(make_layer: Callable[[int], Layer], base: type[Decoder] = Decoder) -> Callable[[], Decoder]:
    def build() -> Decoder:
        module = type("PlantedDecoder", (base,), {"make_layer": lambda _, index: make_layer(index)})()
        return drawn(module)

    return build


def _caching(mixer: Callable[[int], nn.Module]) -> Callable[[], Decoder]:
    return _with_layers(partial(Layer, mixer=mixer), CachingDecoder)


def _whole(kind: type[Decoder]) -> Callable[[], Decoder]:
    return lambda: drawn(kind())


_SHORT = tuple(prompt(12, seed) for seed in range(8))
_LONG = tuple(prompt(length, seed) for seed, length in enumerate((9, 40, 40, 33, 12, 40)))
_EQUAL = (*_LONG, _LONG[2])
_PREFIX = prompt(18, 90)
_GOING_ON = tuple(prompt(length, seed, first=_PREFIX) for seed, length in enumerate((20, 20, 22, 30, 30, 30, 36, 36)))
_PADDED = tuple(
    prompt(26, seed, first=(*prompt(9, 80 + seed % 2), *((PAD,) * 5 if seed % 2 else (5, 6, 7, 8, 9)), *prompt(6, 3)))
    for seed in range(8)
)
_SURE_ENDS = tuple(prompt(10, seed, last=(SURE,) if seed % 2 else ()) for seed in range(6))
_SWITCHED = tuple(prompt(16, seed, first=(RARE, RARE) if seed == 4 else ()) for seed in range(6))
_ROWS = f"more than {MANY_ROWS} rows in a batch"
_TOKENS = f"prompts of more than {BEYOND} tokens"
_SPANS = f"{_TOKENS} behind a shared prefix of fewer"


def _case(name: str, build: Callable[[], Decoder], prompts: Any, needs: str, **options: Any) -> FaultCase:
    return FaultCase(name=name, build=build, prompts=prompts, needs=needs, **({"n_draws": 4} | options))


def _experts(order: str, fraction: float) -> Callable[[], Decoder]:
    return _with_layers(partial(Layer, mlp=partial(Experts, order=order, fraction=fraction)))


_CHOICE = f"prompts of more than {N_CHOSEN} tokens"
_OVERFULL = f"more than {ROOM} tokens for one expert in a batch"
FAULTS: tuple[FaultCase, ...] = (
    _case("rows_beyond_forty", _with_layers(LateRowsLayer), _SHORT, _ROWS),
    _case("large_batch", _with_layers(LargeBatchLayer), _SHORT, _ROWS),
    _case("batch_statistics", _with_layers(BatchStatisticsLayer), _SHORT, _ROWS),
    _case("room_first_come", _experts("first", 0.0), _SHORT, _OVERFULL),
    _case("room_surest_first", _experts("surest", 0.0), _SHORT, _OVERFULL),
    _case("room_by_fraction", _experts("first", 0.25), _SHORT, _OVERFULL),
    _case("tail_scaled_by_length", _whole(LongTail), _LONG, _TOKENS, n_draws=2),
    _case("tail_scaled_by_position", _whole(PositionTail), _LONG, _TOKENS, n_draws=2),
    _case("tail_in_eight_bits", _whole(CoarseLongTail), _LONG, _TOKENS, n_draws=2),
    _case("mlp_pools_positions", _with_layers(partial(Layer, mlp=PoolingFeedForward)), _LONG, _TOKENS, n_draws=2),
    _case(
        "chosen_keys",
        _with_layers(partial(Layer, mixer=ChosenKeysAttention)),
        _LONG,
        f"more tokens than {N_CHOSEN}",
        n_draws=2,
    ),
    _case("in_place_read_later", _whole(InPlaceDecoder), _LONG, _TOKENS, n_draws=2),
    _case("changed_between_layers", _whole(RescalingDecoder), _LONG, f"{_TOKENS}; lens rows", n_draws=2),
    _case("layer_skipped", _whole(SkippingDecoder), _LONG, _TOKENS, n_draws=2),
    _case("layers_swapped", _whole(SwappingDecoder), _LONG, _TOKENS, n_draws=2),
    _case("batch_exits_early", lambda: made_sure(drawn(BatchExit())), _SURE_ENDS, "prompts that are sure early"),
    _case("rows_exit_early", lambda: made_sure(drawn(RowExit())), _SURE_ENDS, "prompts that are sure early"),
    _case("rare_tokens_switch_the_batch", _whole(SwitchingDecoder), _SWITCHED, "a prompt with them in the batch"),
    _case(
        "equal_prompts_read_once",
        _whole(OnceDecoder),
        (*_LONG, _LONG[2]),
        f"{_TOKENS}, equal ones among them",
        n_draws=2,
    ),
    _case("kept_between_prompts", _with_layers(RememberingLayer), _LONG, f"{_TOKENS}, then others", n_draws=2),
    _case("noise", _with_layers(NoisyLayer), _LONG, f"{_TOKENS}; to be refused", n_draws=2),
    _case("rotary_of_long_contexts", _whole(LongRotary), _GOING_ON, _SPANS, share_prefix=True),
    _case("rotary_of_growing_base", _whole(DynamicRotary), _GOING_ON, _SPANS, share_prefix=True),
    _case("cache_forgets", _caching(ForgettingAttention), _GOING_ON, _SPANS, share_prefix=True),
    _case("window_if_long", _caching(LongWindowAttention), _GOING_ON, _SPANS, share_prefix=True),
    _case("eight_bits_if_long", _caching(CoarseLongAttention), _GOING_ON, _SPANS, share_prefix=True),
    _case("chunks_from_each_call", _caching(ChunkedAttention), _GOING_ON, _SPANS, share_prefix=True),
    _case("padding_not_counted", _whole(PadCounting), _PADDED, "padding in a second prefix", share_prefix=True),
)
