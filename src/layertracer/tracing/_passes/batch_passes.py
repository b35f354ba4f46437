"""The passes of a trace over a batch: all of its prompts' tokens, or what follows a prefix that was read before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._batching.rows import stream_positions
from layertracer.tracing._observers.protocol import BatchObserver, add_each, fresh
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.cached_ladder import CachedLadder, RowEdits
from layertracer.tracing._passes.ladder import LadderPass, LadderRows, Variants, run_pass
from layertracer.tracing._passes.row_cache import RowCache
from layertracer.tracing._passes.row_groups import DrawAxis
from layertracer.tracing._perturbers.last_position import LastPosition
from layertracer.tracing._perturbers.protocol import Perturber


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What was read once for several prompts.

    Attributes:
        n_tokens: How many tokens.
        passes: The variants of each pass.
        caches: What the rows of each pass remember of them; a single one for all passes where nothing was perturbed.
        observers: What was seen there, of one prompt, in the order of those of the passes.
    """

    n_tokens: int = 0
    passes: tuple[Variants, ...] = ()
    caches: tuple[RowCache, ...] = ()
    observers: tuple[BatchObserver, ...] = ()

    def of(self, number: int) -> RowCache | None:
        """What the rows of a pass remember."""
        return self.caches[min(number, len(self.caches) - 1)] if self.caches else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPasses:
    """What is done to which rows of a trace.

    Attributes:
        network: The model.
        axes: Batch axes of its layers' arguments.
        perturbers: What is done to its layers; None in the place of what another pass does to the layers' caches.
        draws: The draws of all of them.
        last: Which of them perturb the prompt's last position alone.
        cached: How rows go on from what they remember; None where they never do.
        observers: What looks at the clean rows; each batch and each prefix has fresh ones.
    """

    network: Network
    axes: ArgumentAxes
    perturbers: tuple[Perturber | None, ...]
    draws: DrawAxis
    last: tuple[bool, ...]
    cached: CachedLadder | None = None
    observers: tuple[BatchObserver, ...] = ()

    @property
    def last_only(self) -> bool:
        """Whether nothing is done to any token before the prompt's last position."""
        in_passes = [last for last, one in zip(self.last, self.perturbers, strict=True) if one is not None]
        return bool(in_passes) and all(in_passes)

    def read(self, ids: Tensor, before: Before) -> Before:
        """What the rows of each pass remember after a span that all prompts of a group share.

        Args:
            ids: Token ids [1, position] of the span.
            before: What they remember of the tokens before it, and the variants of each pass.
        """
        assert self.cached is not None  # nothing is shared without
        caches, observers = [], self.fresh_observers()
        for number, variants in enumerate([{}] if self.last_only else before.passes):
            edits = RowEdits(
                perturbers=self._at(()),
                variants=self.draws.variants(variants),
                observers=observers if number == 0 else (),
            )
            caches.append(self.cached.read(ids, edits, before=before.of(number)))
        add_each(observers, before.observers)
        return replace(before, n_tokens=before.n_tokens + ids.shape[1], caches=tuple(caches), observers=observers)

    def fresh_observers(self) -> tuple[BatchObserver, ...]:
        """Observers of a batch or a prefix, which have seen nothing."""
        return fresh(self.observers)

    def run(
        self,
        network: Network,
        ids: Tensor,
        *,
        read: Sequence[int],
        before: Before,
        observers: Sequence[BatchObserver],
        prompts: tuple[int, ...] = (),
    ) -> Iterator[LadderRows]:
        """The rows of each pass over a batch.

        Args:
            network: The model, its encoder reading what belongs to the batch.
            ids: Token ids [prompt, position] of whole prompts.
            read: Positions that are read.
            before: What was read before, and the variants of each pass.
            observers: Fresh ones, which see the clean rows once.
            prompts: The prompts' indices in the task.
        """
        add_each(observers, before.observers, times=len(ids))
        if self.last_only and self.cached is not None:
            before = self._read_own(ids, read, before, observers)
        perturbers = self.at(network, ids, read)
        for number, variants in enumerate(before.passes):
            edits = RowEdits(
                perturbers=perturbers,
                variants=self.draws.variants(variants),
                observers=observers if number == 0 else (),
                prompts=prompts,
            )
            cache = before.of(number)
            if cache is None or self.cached is None:
                yield self._run_whole(network, ids, edits, read)
            else:
                first = before.n_tokens
                own = [position - first for position in read]
                yield self.cached.run(ids[:, first:], edits, before=cache, read=own)

    def _read_own(self, ids: Tensor, read: Sequence[int], before: Before, observers: Sequence[BatchObserver]) -> Before:
        """Each prompt's own tokens before its last, which nothing is done to."""
        assert self.cached is not None  # as the caller knows
        end = min(read[0], ids.shape[1] - self.cached.continuation.shortest)
        if end - before.n_tokens < self.cached.continuation.shortest:
            return before
        edits = replace(RowEdits.nothing(), observers=observers)
        cache = self.cached.read(ids[:, before.n_tokens : end], edits, before=before.of(0))
        return replace(before, n_tokens=end, caches=(cache,))

    def at(self, network: Network, ids: Tensor, read: Sequence[int]) -> tuple[Perturber | None, ...]:
        """The perturbers; those of the prompt's last position alone at the first that is read."""
        wiring = network.anatomy.layers[0].wiring
        return self._at(stream_positions(wiring, read[:1], length=ids.shape[1]))

    def _at(self, positions: Sequence[int]) -> tuple[Perturber | None, ...]:
        return tuple(
            LastPosition(perturber=one, positions=positions) if last and one is not None else one
            for last, one in zip(self.last, self.perturbers, strict=True)
        )

    def _run_whole(self, network: Network, ids: Tensor, edits: RowEdits, read: Sequence[int]) -> LadderRows:
        return run_pass(
            LadderPass(
                network=network,
                ids=ids,
                read=read,
                perturbers=edits.perturbers,
                variants=edits.variants,
                axes=self.axes,
                observers=edits.observers,
                prompts=edits.prompts,
            )
        )
