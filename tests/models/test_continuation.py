"""Continuations: how tokens are read after a cache, and which of them a model's own clean reading rules out."""

from __future__ import annotations

import pytest
import torch

import layertracer as lt
from layertracer.models import CallForm, Continuation
from layertracer.tracing._proofs.continuations import UnderstoodCache

from tests.support.models import registry


def test_each_token_has_a_call_of_its_own_or_all_have_one() -> None:
    """The calls of a continuation cover all tokens once, in order."""
    assert list(Continuation(stepwise=True).calls(3)) == [(0, 1), (1, 2), (2, 3)]
    assert list(Continuation().calls(3)) == [(0, 3)]


def test_too_few_tokens_are_filled_up() -> None:
    """Where a call must have two tokens, a second one that nobody reads goes with a single one."""
    assert Continuation(shortest=2).filled(torch.tensor([[5], [8]])).tolist() == [[5, 5], [8, 8]]
    assert Continuation(shortest=2).filled(torch.tensor([[5, 6, 7]])).tolist() == [[5, 6, 7]]
    assert Continuation(stepwise=True).filled(torch.tensor([[5]])).tolist() == [[5]]


def test_a_continuation_makes_calls_of_one_token_or_of_several_or_both() -> None:
    """Its forms are those of the calls that it may make."""
    assert Continuation(stepwise=True, with_positions=True).forms == {CallForm(has_several=False, with_positions=True)}
    assert {form.has_several for form in Continuation(shortest=2).forms} == {True}
    assert {form.has_several for form in Continuation().forms} == {False, True}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("llama", [Continuation(), Continuation(stepwise=True)], []),
        ("mamba", [Continuation(stepwise=True)], [Continuation(), Continuation(shortest=2)]),
        ("rwkv", [Continuation(shortest=2)], [Continuation(), Continuation(stepwise=True)]),
        ("bamba", [Continuation(with_positions=True)], [Continuation(), Continuation(stepwise=True)]),
    ],
)
def test_what_reads_clean_prompts_otherwise_is_ruled_out(
    name: str, right: list[Continuation], wrong: list[Continuation]
) -> None:
    """Mamba forgets its state where several tokens follow, RWKV and Bamba take a single one for the first."""
    cache = UnderstoodCache(lt.wrap_model(registry.build(name), name=name).network)
    with torch.no_grad():
        assert not [one for one in right if cache.rules_out(one)]
        assert not [one for one in wrong if not cache.rules_out(one)]
