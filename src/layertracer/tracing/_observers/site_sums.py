"""Sums over what stands at a site in unperturbed runs: means, values to resample from, dominant dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._types import Site
from layertracer.models import Network
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.memory_budget import PassPlan
from layertracer.tracing._batching.on_devices import OnDevices, to_host
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._batching.rows import stream_positions
from layertracer.tracing._observers.protocol import CleanCall, observing
from layertracer.tracing._perturbers.protocol import Fills
from layertracer.tracing._sites.protocol import SITES

_BANK_SIZE = 256
_Chosen = dict[tuple[int, int], int]
"""Entry in the bank for each prompt and position that stands in it."""


class SiteSums:
    """Sums over what stood at the site of each layer, in float64, where it stands.

    Taken at once: the model may go on to add to the same tensor in place.

    Attributes:
        name: What they are called.

    Args:
        site: Where it looks.
        n_layers: How many layers the model has.
        width: Width of its stream.
    """

    name = "site_sums"

    def __init__(self, site: Site, *, n_layers: int, width: int) -> None:
        self.site: Site = site
        self._shape = (n_layers, width)
        self._sums: dict[int, tuple[Tensor, Tensor, int]] = {}

    @classmethod
    def of(cls, network: Network, site: Site) -> SiteSums:
        """Sums over a site of a model, of which nothing was seen yet."""
        return cls(site, n_layers=network.anatomy.n_layers, width=SITES[site].width(network))

    def fresh(self) -> SiteSums:
        """Sums over the same site, of which nothing was seen yet."""
        return SiteSums(self.site, n_layers=self._shape[0], width=self._shape[1])

    def see(self, call: CleanCall, leaving: Float[Tensor, "*place width"]) -> None:
        """Take in what stands at a layer's site."""
        flat = leaving.flatten(0, -2).double()
        self._take(call.layer.index, flat.sum(dim=0), flat.square().sum(dim=0), len(flat))

    def add(self, other: SiteSums, *, times: int = 1) -> None:
        """Take in what another one saw, as if it had seen it that many times."""
        for layer, (total, squares, count) in other._sums.items():
            self._take(layer, times * total, times * squares, times * count)

    def per_prompt(self) -> None:
        """Nothing: the sums are over all prompts."""

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
    sums = SiteSums.of(network, site)
    bank = torch.zeros(network.anatomy.n_layers, len(chosen), SITES[site].width(network))
    for bucket in bucket_prompts(prompts):
        for _, (seen, entries) in run_batches(
            network, bucket, plan_of(bucket), lambda batch, _: _see_batch(network, batch, site, chosen)
        ):
            sums.add(seen)
            for layer, values in entries.fetched().items():
                bank[layer, entries.numbers] = values
    return sums, Fills.of(sums.means(), bank)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """What stood at some positions of the site in one clean run, for the bank.

    Attributes:
        site: Where it looks.
        where: Row and position in the stream of each entry, [2, entry].
        numbers: Where they stand in the bank.
    """

    site: Site
    where: OnDevices
    numbers: list[int]
    _by_layer: dict[int, Tensor] = field(default_factory=dict)

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Copy the values at those positions."""
        rows, positions = self.where.on(leaving.device)
        self._by_layer[call.layer.index] = leaving[rows, positions].unsqueeze(1).flatten(1, -2)[:, 0].float()

    def fetched(self) -> dict[int, Tensor]:
        """The values of each layer, on the CPU."""
        return dict(zip(self._by_layer, to_host(list(self._by_layer.values())), strict=True))


def _see_batch(network: Network, batch: Sequence[Prompt], site: Site, chosen: _Chosen) -> tuple[SiteSums, _Entries]:
    """What stands at the site of every layer, in one clean run."""
    wiring = network.anatomy.layers[0].wiring
    places = [
        (row, stream_positions(wiring, [position], length=len(prompt.ids))[0], chosen[prompt.index, position])
        for row, prompt in enumerate(batch)
        for position in range(len(prompt.ids))
        if (prompt.index, position) in chosen
    ]
    where = OnDevices(torch.tensor(places, dtype=torch.long).reshape(-1, 3)[:, :2].T)
    sums = SiteSums.of(network, site)
    entries = _Entries(site=site, where=where, numbers=[number for _, _, number in places])
    bound, ids = bind_batch(network, batch)
    with observing(network, [sums, entries]):
        bound.call(ids)
    return sums, entries


def _choose_entries(prompts: Sequence[Prompt], *, seed: int) -> _Chosen:
    """Which (prompt, position) stand in the bank, and where; independent of the prompts' order."""
    by_content = sorted(prompts, key=lambda prompt: (prompt.ids, prompt.index))
    places = [(prompt.index, position) for prompt in by_content for position in range(len(prompt.ids))]
    generator = np.random.default_rng([seed, len(places)])
    picks = generator.permutation(len(places))[:_BANK_SIZE]
    return {places[pick]: entry for entry, pick in enumerate(picks.tolist())}
