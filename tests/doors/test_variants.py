"""The door of variants: several edits of a row, edited base rows, and what base rows hold, against PyTorch's hooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing._passes.cached_ladder import RowEdits
from layertracer.tracing._passes.row_groups import Edit, Variant
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._passes.variants import VariantLogits, run_variants
from layertracer.tracing._perturbers.protocol import LayerCall

from tests.support.models.families import build_tiny

IDS = torch.tensor([[7, 23, 9, 4, 36, 38], [12, 5, 3, 19, 31, 8]])
READ = [4, 5]


@dataclass(frozen=True)
class Scaled:
    """Values times a factor that grows with the draw."""

    site: str
    factor: float
    is_per_prompt: bool = False
    keeps_pairs: bool = False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """Each draw."""
        del call
        return torch.stack([values * (self.factor + draw) for draw in draws])


@dataclass(frozen=True)
class Restored:
    """What stands in the base row."""

    site: str
    is_per_prompt: bool = False
    keeps_pairs: bool = False

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """The same for each draw."""
        return call.base.expand(len(draws), *values.shape)


PERTURBERS = [
    Scaled("block_output", -0.5),
    Scaled("mixer_output", 0.25),
    Scaled("mlp_output", 3.0),
    Restored("block_output"),
    Restored("mixer_output"),
]
"""By number: the stream, the mixer, the MLP scaled; the stream, the mixer patched with the base row's."""


def edit(layer: int, perturber: int, draw: int = 0) -> Edit:
    """An edit."""
    return Edit(layer, draw, perturber)


VARIANTS: dict[str, list[Edit]] = {
    "one": [edit(1, 1)],
    "window of mixers": [edit(0, 1), edit(1, 1), edit(2, 1)],
    "window of streams": [edit(0, 0), edit(1, 0, 2)],
    "mixer and MLP of one layer": [edit(1, 1), edit(1, 2)],
    "mixer, MLP and stream of one layer": [edit(1, 2, 1), edit(1, 0), edit(1, 1)],
    "stream, then mixer of a later layer": [edit(0, 0), edit(2, 1)],
    "MLP, then the stream patched": [edit(0, 2), edit(2, 3)],
    "stream, then a mixer patched": [edit(0, 0), edit(2, 4)],
    "the same mixer twice": [edit(1, 1), edit(1, 1, 3)],
    "the last layer": [edit(3, 0)],
    "the stream patched": [edit(1, 3)],
    "the stream patched, then scaled": [edit(1, 3), edit(1, 0, 2)],
}
BASES: dict[str, list[Edit]] = {
    "clean": [],
    "corrupted": [edit(0, 0, 1)],
    "substituted": [edit(layer, 1, 1) for layer in range(4)],
    "stream and mixer": [edit(1, 0), edit(2, 1, 2)],
    "one stream": [edit(1, 0, 1), edit(2, 0)],
}


@cache
def model() -> lt.TracedModel:
    """A tiny model in float64."""
    return lt.wrap_model(build_tiny("llama").double(), name="llama")


def part_of(layer: nn.Module, site: str) -> nn.Module:
    """The module whose output is the site, in a llama."""
    return {"block_output": layer, "mixer_output": layer.self_attn, "mlp_output": layer.mlp}[site]  # type: ignore[return-value]  # modules


def hooked(edits: Sequence[Edit], base: dict[tuple[int, str], Tensor]) -> tuple[Tensor, dict[tuple[int, str], Tensor]]:
    """Logits of one forward with PyTorch's own hooks, and what stood at every site after the edits."""
    module, stood = model().module, {}

    def made(layer: int, site: str) -> Callable[..., Any]:
        def after(_: nn.Module, __: Any, output: Any) -> Any:
            values = output[0] if isinstance(output, tuple) else output
            for one in edits:
                perturber = PERTURBERS[one.perturber]
                if (one.layer, perturber.site) == (layer, site):
                    is_scaled = isinstance(perturber, Scaled)
                    values = values * (perturber.factor + one.draw) if is_scaled else base[layer, site]
            stood[layer, site] = values.clone()
            return (values, *output[1:]) if isinstance(output, tuple) else values

        return after

    with ExitStack() as stack, torch.no_grad():
        for number, layer in enumerate(module.model.layers):  # type: ignore[union-attr, arg-type]  # a llama
            for site in ("mixer_output", "mlp_output", "block_output"):
                stack.callback(part_of(layer, site).register_forward_hook(made(number, site)).remove)
        logits = module(IDS).logits[:, READ]
    return logits, stood


def place(one: Edit) -> tuple[int, bool]:
    """Where a row comes to an edit: a layer's inside before what leaves it."""
    return one.layer, PERTURBERS[one.perturber].site == "block_output"


def by_hooks(variant: Sequence[Edit], base_edits: Sequence[Edit]) -> Tensor:
    """A variant's logits: what was done to base rows before its first edit, then its own edits alone."""
    _, stood = hooked(sorted(base_edits, key=place), {})
    before = [one for one in base_edits if place(one) < min(map(place, variant))]
    return hooked(sorted([*before, *variant], key=place), stood)[0]


def run(base: str, method: str, names: Sequence[str] = tuple(VARIANTS)) -> VariantLogits:
    """Some variants beside some base rows."""
    with torch.no_grad():
        return run_variants(
            model().network,
            IDS,
            read=READ,
            perturbers=PERTURBERS,
            variants=[VARIANTS[name] for name in names],
            base_edits=BASES[base],
            axes=model().axes,
            method=method,  # type: ignore[arg-type]  # one of the two
        )


@pytest.mark.parametrize("method", ["ladder", "plain"])
@pytest.mark.parametrize("base", BASES)
def test_variants_agree_with_hooks(base: str, method: str) -> None:
    """Windows, several sites of a layer, patches from base rows, whatever is done to these: as by hooks, in float64."""
    found = run(base, method)
    torch.testing.assert_close(found.base, hooked(sorted(BASES[base], key=place), {})[0], rtol=0, atol=1e-12)
    for name, logits in zip(VARIANTS, found.variants, strict=True):
        expected = by_hooks(VARIANTS[name], BASES[base])
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("method", ["ladder", "plain"])
@pytest.mark.parametrize("site", ["block_output", "mixer_output"])
def test_an_edit_sees_base_rows_after_theirs(site: str, method: str) -> None:
    """A patch from base rows that are edited at the same place makes a row that is theirs, bit for bit."""
    stream = site == "block_output"
    base, patch = edit(1, 0 if stream else 1, 1), edit(1, 3 if stream else 4)
    with torch.no_grad():
        found = run_variants(
            model().network,
            IDS,
            read=READ,
            perturbers=PERTURBERS,
            variants=[[patch]],
            # A patch of the base rows from themselves leaves them as the edit before it did.
            base_edits=[base, patch],
            axes=model().axes,
            method=method,  # type: ignore[arg-type]  # one of the two
        )
        clean = model().network.call.logits(IDS)[:, READ]
    torch.testing.assert_close(found.variants[0], found.base, rtol=0, atol=1e-12)
    assert (found.base - clean).abs().max() > 1e-3


def test_the_order_of_variants_changes_nothing() -> None:
    """Rows come in as they are first edited, and come back as they were asked for."""
    names = list(VARIANTS)
    turned = run("corrupted", "ladder", names[::-1]).variants.flip(0)
    torch.testing.assert_close(turned, run("corrupted", "ladder", names).variants, rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", BASES)
def test_variants_go_on_from_a_cache(base: str) -> None:
    """Edited at every position, rows give after a prefix that they remember what they give in one piece."""
    shared = IDS.clone()
    shared[:, :3] = shared[0, :3]
    network, ladder = model().network, model().prefix_proof.ladder("mixer_output")
    edits = RowEdits(
        perturbers=PERTURBERS,
        variants=[Variant(tuple(sorted(one, key=place)), (number, 0)) for number, one in enumerate(VARIANTS.values())],
        base_edits=BASES[base],
    )
    with torch.no_grad():
        cache = ladder.read(shared[:1, :3], edits, before=None)
        rows = ladder.run(shared[:, 3:], edits, before=cache, read=[2])
        tail = Tail(network)
        found = torch.stack([tail(one[:, 0]) for one in (rows.lens_rows[-1], *rows.perturbed)])
        whole = run_variants(
            network,
            shared,
            read=[5],
            perturbers=PERTURBERS,
            variants=list(VARIANTS.values()),
            base_edits=BASES[base],
            axes=model().axes,
        )
    torch.testing.assert_close(found[0], whole.base[:, 0], rtol=0, atol=1e-10)
    for (number, _), logits in zip(rows.variants, found[1:], strict=True):
        torch.testing.assert_close(logits, whole.variants[number, :, 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ([], "A variant has no edit"),
        ([Edit(1, 0, 9)], "a perturber that there is not: 5 were given"),
        ([Edit(4, 0, 0)], r"without the site 'block_output'. Layers that have it: \[0, 1, 2, 3\]"),
    ],
)
def test_misplaced_edits_are_refused(variant: list[Edit], said: str) -> None:
    """An edit of a layer or by a perturber that there is not is no edit of another."""
    with pytest.raises(lt.UsageError, match=said):
        run_variants(model().network, IDS, read=READ, perturbers=PERTURBERS, variants=[variant], axes=model().axes)


def test_what_layers_remember_is_no_part_of_variants() -> None:
    """The pass over the layers' caches is another one."""
    with pytest.raises(lt.UsageError, match="perturbed by a pass of its own"):
        run_variants(
            model().network, IDS, read=READ, perturbers=[Scaled("state", 0)], variants=[[Edit(0)]], axes=model().axes
        )
