"""What stands at a site in unperturbed runs: means, values to resample from, and dominant dimensions."""

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
from layertracer.models import Layer, Network, Role, take_apart
from layertracer.tracing._batches import run_batches
from layertracer.tracing._branches import role_at, watching
from layertracer.tracing._memory import plan_pass
from layertracer.tracing._on_devices import OnDevices, to_host
from layertracer.tracing._prompts import Prompt, bind_batch, bucket_prompts
from layertracer.tracing._rows import stream_positions, to_rows_first
from layertracer.tracing._tail import replacing_forward

_BANK_SIZE = 256
_Chosen = dict[tuple[int, int], int]
"""Entry in the bank for each prompt and position that stands in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteValues:
    """Values at a site over all prompts and positions of a trace.

    Attributes:
        mean: Mean of each dimension.
        rms: Root mean square of each dimension.
        bank: Values at up to 256 positions, chosen by a seed.
    """

    mean: Float[Tensor, "layer width"]
    rms: Float[Tensor, "layer width"]
    bank: Float[Tensor, "layer entry width"]


@torch.inference_mode()
def collect_site_values(
    network: Network, prompts: Sequence[Prompt], site: Site, *, seed: int, budget_bytes: int, row_by_row: bool = False
) -> SiteValues:
    """Statistics of a site from one clean run over all prompts.

    They do not depend on how prompts are batched, nor on their order.
    """
    chosen = _choose_entries(prompts, seed=seed)
    totals = _Totals(network, n_entries=len(chosen))
    for bucket in bucket_prompts(prompts):
        length = len(bucket[0].ids)
        plan = plan_pass(
            network,
            length=length,
            n_variants=0,
            n_prompts=1 if row_by_row else len(bucket),
            budget_bytes=budget_bytes,
        )
        for _, seen in run_batches(network, bucket, plan, lambda batch, _: _see_batch(network, batch, site, chosen)):
            totals.add(seen)
    return totals.values()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """Sums over what stood at one layer's site, and the values for the bank with their entries there.

    Taken at once: the model may go on to add to the same tensor in place.
    """

    layer: int
    total: Tensor
    squares: Tensor
    count: int
    entries: Tensor
    numbers: list[int]


def _see_batch(network: Network, batch: Sequence[Prompt], site: Site, chosen: _Chosen) -> list[_Seen]:
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
    seen: list[_Seen] = []

    def see(layer: int, values: Tensor) -> None:
        flat = values.flatten(0, -2).double()
        rows, positions = wanted.on(values.device)
        seen.append(
            _Seen(
                layer=layer,
                total=flat.sum(dim=0),
                squares=flat.square().sum(dim=0),
                count=len(flat),
                entries=values[rows, positions].unsqueeze(1).flatten(1, -2)[:, 0].float(),
                numbers=numbers,
            )
        )

    bound, ids = bind_batch(network, batch)
    with observing_site(network, site, see):
        bound.call(ids)
    return _on_host(seen)


def _on_host(seen: Sequence[_Seen]) -> list[_Seen]:
    """What was seen, on the CPU; fetched together when the run has ended."""
    copies = iter(to_host([tensor for one in seen for tensor in (one.total, one.squares, one.entries)]))
    return [replace(one, total=next(copies), squares=next(copies), entries=next(copies)) for one in seen]


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
            see(layer.index, to_rows_first(take_apart(output).values[wiring.stream_out], wiring))
            return output
        wanted = role_at(site)

        def note(added: Tensor, role: Role) -> None:
            if role == wanted:
                see(layer.index, to_rows_first(added, wiring))

        with watching(layer, take_apart((args, kwargs)).values[wiring.stream_in], note):
            return forward(*args, **kwargs)

    return observed


def _choose_entries(prompts: Sequence[Prompt], *, seed: int) -> _Chosen:
    """Which (prompt, position) stand in the bank, and where; independent of the prompts' order."""
    by_content = sorted(prompts, key=lambda prompt: (prompt.ids, prompt.index))
    places = [(prompt.index, position) for prompt in by_content for position in range(len(prompt.ids))]
    generator = np.random.default_rng([seed, len(places)])
    picks = generator.permutation(len(places))[:_BANK_SIZE]
    return {places[pick]: entry for entry, pick in enumerate(picks.tolist())}


class _Totals:
    """Sums over positions, and the bank, as batches come in."""

    def __init__(self, network: Network, *, n_entries: int) -> None:
        shape = (network.anatomy.n_layers, network.anatomy.d_model)
        self._sum = torch.zeros(shape, dtype=torch.float64)
        self._squares = torch.zeros(shape, dtype=torch.float64)
        self._count = torch.zeros(shape[0], 1, dtype=torch.float64)
        self._bank = torch.zeros(shape[0], n_entries, shape[1])

    def add(self, seen: Sequence[_Seen]) -> None:
        """Take in what was seen of one batch."""
        for one in seen:
            self._sum[one.layer] += one.total
            self._squares[one.layer] += one.squares
            self._count[one.layer] += one.count
            self._bank[one.layer, one.numbers] = one.entries

    def values(self) -> SiteValues:
        """The statistics."""
        count = self._count.clamp(min=1)
        return SiteValues(mean=(self._sum / count).float(), rms=(self._squares / count).sqrt().float(), bank=self._bank)
