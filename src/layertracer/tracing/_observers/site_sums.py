"""Sums over what stands at a site in unperturbed runs: means, values to resample from, dominant dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import Site
from layertracer.models import Layer, Network, Role, flatten, replacing_forward
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import PassPlan
from layertracer.tracing._batching.on_devices import OnDevices, to_host
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._batching.rows import stream_positions, to_rows_first
from layertracer.tracing._perturbers.perturbers import Fills
from layertracer.tracing._sites.branch_output import role_at, watching

_BANK_SIZE = 256
_Chosen = dict[tuple[int, int], int]
"""Entry in the bank for each prompt and position that stands in it."""


class SiteSums:
    """Sums over what stood at the site of each layer, in float64, where it stands.

    Taken at once: the model may go on to add to the same tensor in place.

    Args:
        n_layers: How many layers the model has.
        width: Width of its stream.
    """

    def __init__(self, n_layers: int, width: int) -> None:
        self._shape = (n_layers, width)
        self._sums: dict[int, tuple[Tensor, Tensor, int]] = {}

    def see(self, layer: int, values: Float[Tensor, "*place width"]) -> None:
        """Take in what stands at a layer's site."""
        flat = values.flatten(0, -2).double()
        self._take(layer, flat.sum(dim=0), flat.square().sum(dim=0), len(flat))

    def add(self, other: SiteSums, *, times: int = 1) -> None:
        """Take in what another one saw, as if it had seen it that many times."""
        for layer, (total, squares, count) in other._sums.items():
            self._take(layer, times * total, times * squares, times * count)

    def _take(self, layer: int, total: Tensor, squares: Tensor, count: int) -> None:
        if layer in self._sums:
            before = self._sums[layer]
            total, squares, count = before[0] + total, before[1] + squares, before[2] + count
        self._sums[layer] = total, squares, count

    def means(self) -> Float[Tensor, "layer width"]:
        """Mean of each dimension; 0 where nothing was seen."""
        return self._over_counts(0)

    def rms(self) -> Float[Tensor, "layer width"]:
        """Root mean square of each dimension; 0 where nothing was seen."""
        return self._over_counts(1).sqrt()

    def _over_counts(self, which: int) -> Tensor:
        result = torch.zeros(self._shape, dtype=torch.float64)
        for layer, sums in self._sums.items():
            result[layer] = (sums[0] if which == 0 else sums[1]).cpu() / sums[2]
        return result.float()


def bank_bytes(network: Network) -> int:
    """What is kept of a site for masks to be filled with, while it is gathered and afterwards."""
    return 2 * 4 * _BANK_SIZE * network.anatomy.n_layers * network.anatomy.d_model


def collect_site_values(
    network: Network,
    prompts: Sequence[Prompt],
    site: Site,
    *,
    seed: int,
    plan_of: Callable[[Sequence[Prompt]], PassPlan],
) -> tuple[SiteSums, Fills]:
    """Sums over a site from one clean run over all prompts, and what masked dimensions may become.

    They do not depend on how prompts are batched, nor on their order.
    """
    chosen = _choose_entries(prompts, seed=seed)
    n_layers, width = network.anatomy.n_layers, network.anatomy.d_model
    sums, bank = SiteSums(n_layers, width), torch.zeros(n_layers, len(chosen), width)
    for bucket in bucket_prompts(prompts):
        for _, seen in run_batches(
            network, bucket, plan_of(bucket), lambda batch, _: _see_batch(network, batch, site, chosen)
        ):
            sums.add(seen.sums)
            for layer, values in seen.entries.items():
                bank[layer, seen.numbers] = values
    return sums, Fills.of(sums.means(), bank)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What stood at the site in one clean run: sums, and for each layer the values for the bank."""

    sums: SiteSums
    numbers: list[int]
    entries: dict[int, Tensor]


def _see_batch(network: Network, batch: Sequence[Prompt], site: Site, chosen: _Chosen) -> _Seen:
    """What stands at the site of every layer, in one clean run."""
    wiring = network.anatomy.layers[0].wiring
    places = [
        (row, stream_positions(wiring, [position], length=len(prompt.ids))[0], chosen[prompt.index, position])
        for row, prompt in enumerate(batch)
        for position in range(len(prompt.ids))
        if (prompt.index, position) in chosen
    ]
    wanted = OnDevices(torch.tensor(places, dtype=torch.long).reshape(-1, 3)[:, :2].T)
    numbers = [number for _, _, number in places]
    seen = _Seen(sums=SiteSums(network.anatomy.n_layers, network.anatomy.d_model), numbers=numbers, entries={})

    def see(layer: int, values: Tensor) -> None:
        seen.sums.see(layer, values)
        rows, positions = wanted.on(values.device)
        seen.entries[layer] = values[rows, positions].unsqueeze(1).flatten(1, -2)[:, 0].float()

    bound, ids = bind_batch(network, batch)
    with observing_site(network, site, see):
        bound.call(ids)
    fetched = to_host(list(seen.entries.values()))
    return replace(seen, entries=dict(zip(seen.entries, fetched, strict=True)))


@contextmanager
def observing_site(network: Network, site: Site, see: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Calls `see(layer, values [prompt, position, …, width])` for every layer that runs in the block."""
    with ExitStack() as stack:
        for layer in network.anatomy.layers:
            stack.enter_context(replacing_forward(layer.module, _observed(layer, site, see)))
        yield


def _observed(layer: Layer, site: Site, see: Callable[[int, Tensor], None]) -> Callable[..., Any]:
    forward, wiring = layer.module.forward, layer.wiring

    def observed(*args: Any, **kwargs: Any) -> Any:
        if site == "block_output":
            output = forward(*args, **kwargs)
            see(layer.index, to_rows_first(flatten(output).values[wiring.stream_out], wiring))
            return output
        wanted = role_at(site)

        def note(added: Tensor, role: Role) -> None:
            if role == wanted:
                see(layer.index, to_rows_first(added, wiring))

        with watching(layer, flatten((args, kwargs)).values[wiring.stream_in], note):
            return forward(*args, **kwargs)

    return observed


def _choose_entries(prompts: Sequence[Prompt], *, seed: int) -> _Chosen:
    """Which (prompt, position) stand in the bank, and where; independent of the prompts' order."""
    by_content = sorted(prompts, key=lambda prompt: (prompt.ids, prompt.index))
    places = [(prompt.index, position) for prompt in by_content for position in range(len(prompt.ids))]
    generator = np.random.default_rng([seed, len(places)])
    picks = generator.permutation(len(places))[:_BANK_SIZE]
    return {places[pick]: entry for entry, pick in enumerate(picks.tolist())}
