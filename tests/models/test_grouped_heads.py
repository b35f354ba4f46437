"""Attention is given keys as they are, not a copy for each query head."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import layertracer as lt
from layertracer.models import grouped_heads

from tests.support.models import registry

_SWITCH = "TRANSFORMERS_SDPA_FORCE_GQA"
_CPU = torch.device("cpu")


class _KeyHeads(TorchFunctionMode):
    """Writes down how many heads the keys of every fused attention have whose rows go on from a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def __torch_function__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Look at the call, and make it."""
        if func is torch.nn.functional.scaled_dot_product_attention and args[1].shape[2] > args[0].shape[2]:
            self.seen.append(args[1].shape[1])
        return func(*args, **(kwargs or {}))


def test_keys_of_a_cache_are_not_repeated_for_each_query_head() -> None:
    """Rows that go on from a shared prefix attend with as many key heads as the model has."""
    model = lt.wrap_model(registry.build("llama"))
    config = model.network.module.config
    assert config.num_key_value_heads < config.num_attention_heads  # else nothing would be repeated in any case
    samples = [lt.Sample(prompt_ids=(*range(30, 50), own, own + 1), answer_id=3) for own in range(5, 13)]
    mask = lt.Mask(site="block_output", draws=1, scheme="random", fraction=0.5)
    lt.trace(model, samples, perturbation=mask, share_prefix=True)  # with what is proved before the first time
    with _KeyHeads() as heads:
        lt.trace(model, samples, perturbation=mask, share_prefix=True)
    assert heads.seen, "no row went on from a cache"
    assert set(heads.seen) == {config.num_key_value_heads}


def test_the_switch_is_as_it_was_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is the same after as before, also where the model fails."""
    monkeypatch.delenv(_SWITCH, raising=False)
    seen = []

    def fail() -> None:
        with grouped_heads(_CPU):
            seen.append(os.environ.get(_SWITCH))
            raise ValueError("of the model")

    with pytest.raises(ValueError, match="of the model"):
        fail()
    assert seen == ["1"]
    assert _SWITCH not in os.environ


def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that the user set is neither changed nor removed."""
    monkeypatch.setenv(_SWITCH, "0")
    with grouped_heads(_CPU):
        assert os.environ[_SWITCH] == "0"
    assert os.environ[_SWITCH] == "0"


def test_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU nothing is switched: its kernels do not group heads where there is a mask."""
    monkeypatch.delenv(_SWITCH, raising=False)
    with grouped_heads(torch.device("cuda")):
        assert _SWITCH not in os.environ
