"""The passes of a trace over a batch: all of its prompts' tokens, or what follows a prefix that was read before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._batching.rows import stream_positions
from layertracer.tracing._observers.site_sums import SiteSums
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.cached_ladder import CachedLadder, RowEdits
from layertracer.tracing._passes.ladder import LadderPass, LadderRows, Variants, run_pass
from layertracer.tracing._passes.row_cache import RowCache
from layertracer.tracing._perturbers.perturbers import LastPosition, Perturber


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was read once for several prompts.

    Attributes:
        n_tokens: How many tokens.
        passes: The variants of each pass.
        caches: What the rows of each pass remember of them; a single one for all passes where nothing was perturbed.
        sums: What stood at the site there, for one prompt; None where nobody asks.
    """

    n_tokens: int = 0
    passes: tuple[Variants, ...] = ()
    caches: tuple[RowCache, ...] = ()
    sums: SiteSums | None = None

    def of(self, number: int) -> RowCache | None:
        """What the rows of a pass remember."""
        return self.caches[min(number, len(self.caches) - 1)] if self.caches else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPasses:
    """What is done to which rows of a trace.

    Attributes:
        network: The model.
        axes: Batch axes of its layers' arguments.
        perturber: What is done to its layers; None for the lens rows alone.
        last_only: Whether only the prompt's last position is perturbed.
        cached: How rows go on from what they remember; None where they never do.
        sees_site: Whether what stands at the site in clean rows is wanted.
    """

    network: Network
    axes: ArgumentAxes
    perturber: Perturber | None
    last_only: bool
    cached: CachedLadder | None = None
    sees_site: bool = False

    def read(self, ids: Tensor, before: Before) -> Before:
        """What the rows of each pass remember after a span that all prompts of a group share.

        Args:
            ids: Token ids [1, position] of the span.
            before: What they remember of the tokens before it, and the variants of each pass.
        """
        assert self.cached is not None  # nothing is shared without
        anatomy, caches = self.network.anatomy, []
        sums = SiteSums(anatomy.n_layers, anatomy.d_model) if self.sees_site else None
        for number, variants in enumerate([{}] if self.last_only else before.passes):
            see = sums.see if sums is not None and number == 0 else None
            edits = RowEdits(perturber=self.perturber, variants=variants, see=see)
            caches.append(self.cached.read(ids, edits, before=before.of(number)))
        if sums is not None and before.sums is not None:
            sums.add(before.sums)
        return replace(before, n_tokens=before.n_tokens + ids.shape[1], caches=tuple(caches), sums=sums)

    def run(
        self,
        network: Network,
        ids: Tensor,
        *,
        read: Sequence[int],
        before: Before,
        sums: SiteSums | None,
    ) -> Iterator[LadderRows]:
        """The rows of each pass over a batch.

        Args:
            network: The model, its encoder reading what belongs to the batch.
            ids: Token ids [prompt, position] of whole prompts.
            read: Positions that are read.
            before: What was read before, and the variants of each pass.
            sums: Takes in what stands at the site in the clean rows, counted once.
        """
        see = None if sums is None else sums.see
        if sums is not None and before.sums is not None:
            sums.add(before.sums, times=len(ids))
        if self.last_only and self.cached is not None:
            before = self._read_own(ids, read, before, sums)
        perturber = self.at(network, ids, read)
        for number, variants in enumerate(before.passes):
            edits = RowEdits(perturber=perturber, variants=variants, see=see if number == 0 else None)
            cache = before.of(number)
            if cache is None or self.cached is None:
                yield self._run_whole(network, ids, edits, read)
            else:
                first = before.n_tokens
                own = [position - first for position in read]
                yield self.cached.run(ids[:, first:], edits, before=cache, read=own)

    def _read_own(self, ids: Tensor, read: Sequence[int], before: Before, sums: SiteSums | None) -> Before:
        """Each prompt's own tokens before its last, which nothing is done to."""
        assert self.cached is not None  # as the caller knows
        end = min(read[0], ids.shape[1] - self.cached.continuation.shortest)
        if end - before.n_tokens < self.cached.continuation.shortest:
            return before
        edits = RowEdits(perturber=self.perturber, variants={}, see=None if sums is None else sums.see)
        cache = self.cached.read(ids[:, before.n_tokens : end], edits, before=before.of(0))
        return replace(before, n_tokens=end, caches=(cache,))

    def at(self, network: Network, ids: Tensor, read: Sequence[int]) -> Perturber | None:
        """The perturber; at the prompt's last position alone, the first that is read, where only that is perturbed."""
        if not self.last_only or self.perturber is None:
            return self.perturber
        wiring = network.anatomy.layers[0].wiring
        last = stream_positions(wiring, read[:1], length=ids.shape[1])
        return LastPosition(perturber=self.perturber, positions=last)

    def _run_whole(self, network: Network, ids: Tensor, edits: RowEdits, read: Sequence[int]) -> LadderRows:
        return run_pass(
            LadderPass(
                network=network,
                ids=ids,
                read=read,
                perturber=edits.perturber,
                variants=edits.variants,
                axes=self.axes,
                see=edits.see,
            )
        )
