"""Cells of causal tracing: one layer and position of one run patched into the other, all layers in one pass.

For each position the base run of all tokens before it is read once, into the model's own cache, and goes on from what
was read for the position before. Then one ladder pass reads what is left of the prompts: its base rows are the base
run, its variants the layers, whose rows come in where they are patched. So a cell computes neither what comes before
its position nor what comes below its layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._passes.argument_axes import ArgumentAxes, UnfamiliarArguments
from layertracer.tracing._passes.cached_ladder import CachedLadder, RowEdits
from layertracer.tracing._passes.ladder import LadderPass, LadderRows, run_pass
from layertracer.tracing._passes.plain import PlainEdits, plain_logits
from layertracer.tracing._passes.row_cache import RowCache
from layertracer.tracing._passes.row_groups import Edit, Variant
from layertracer.tracing._patching.answers import AnswerReader, answers_of
from layertracer.tracing._patching.patch import DonorValues, Patch, window_of
from layertracer.tracing._patching.prompts import CausalPrompt
from layertracer.tracing._patching.two_runs import Case, Corruption, Run, TwoRuns
from layertracer.tracing._sites.protocol import layers_with

Layers = tuple[int, ...]
"""The layers that one cell patches together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Which layers are patched together.

    Attributes:
        of_layer: Those of each layer that has the site, by the layer.
        distinct: Each of them once: at the ends of the stack several may be the same.
    """

    of_layer: Mapping[int, Layers]
    distinct: tuple[Layers, ...]

    @classmethod
    def of(cls, network: Network, *, site: str, width: int) -> Windows:
        """The windows of a width in a model."""
        having, n_layers = layers_with(site, network), network.anatomy.n_layers
        of_layer = {layer: tuple(one for one in window_of(layer, width, n_layers) if one in having) for layer in having}
        return cls(of_layer=of_layer, distinct=tuple(dict.fromkeys(of_layer.values())))


class FoundCells(NamedTuple):
    """What one position says of every case.

    Attributes:
        position: The position.
        base: Log-probabilities of answer and contrast answer in the base rows beside the cells, [case, 2]; None where
            none ran.
        patched: With each of some windows patched, [window, case, 2].
        windows: Which windows.
    """

    position: int
    base: np.ndarray | None
    patched: np.ndarray
    windows: Sequence[Layers]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPasses:
    """How cells are computed.

    Attributes:
        network: The model.
        axes: Batch axes of its layers' arguments.
        site: Where values are put in.
        reader: From rows to numbers.
        corruption: How prompts are corrupted.
        windows: Which layers are patched together.
        is_plain: Whether each cell is a hooked forward of its own.
        cached: How rows go on from what they remember; None where whole prompts are run.
    """

    network: Network
    axes: ArgumentAxes
    site: str
    reader: AnswerReader
    corruption: Corruption
    windows: Windows
    is_plain: bool
    cached: CachedLadder | None

    def read(self, run: Run, prompts: Sequence[CausalPrompt]) -> np.ndarray:
        """Log-probabilities of answers and contrast answers in one run, [case, 2]."""
        return self._run_whole(run, prompts, ())

    def cells(self, cases: Sequence[Case], *, n_windows: int) -> Iterator[FoundCells]:
        """All cells of some cases of one length, position by position.

        Args:
            cases: The cases, corrupted from one position on.
            n_windows: How many windows are patched in one pass, at most.
        """
        runs, prompts = self.corruption.two_runs(cases), [case.prompt for case in cases]
        length, first = runs.base.ids.shape[1], cases[0].prompt.first
        donors = DonorValues(site=self.site, first=first, length=length)
        self._run_whole(runs.donor, prompts, (donors,))
        before: RowCache | None = None
        n_before = 0
        for position in range(first, length):
            patch = self.patch({position: donors}, length=length)
            start = self._start(position, length)
            if start > n_before:
                before = self._read_on(runs.base, before, n_before, start)
                n_before = start
            for windows in _chunks(self.windows.distinct, n_windows):
                if self.is_plain:
                    base, patched = None, self._patched_plainly(runs.base, prompts, patch, windows)
                else:
                    rows = self._patched(runs.base, patch, windows, before=before, n_before=n_before)
                    base, patched = self._read_rows(rows, prompts)
                yield FoundCells(position, base, patched, windows)

    def patch(self, donors: Mapping[int, DonorValues], *, length: int) -> Patch:
        """What puts a donor's values in at some positions."""
        values = {position: donor.at(position) for position, donor in donors.items()}
        return Patch(site=self.site, values=values, length=length, wiring=self.network.anatomy.layers[0].wiring)

    def _start(self, position: int, length: int) -> int:
        """How many tokens are read before the span in which a position is patched."""
        if self.cached is None:
            return 0
        shortest = self.cached.continuation.shortest
        start = min(position, length - shortest)
        return start if start >= shortest else 0

    def _read_on(self, run: Run, before: RowCache | None, n_before: int, end: int) -> RowCache:
        """What the base run remembers of more tokens than before."""
        assert self.cached is not None  # nothing is read before the span without
        if before is not None and end - n_before < self.cached.continuation.shortest:
            before, n_before = None, 0
        with run.entering():
            return self.cached.read(run.ids[:, n_before:end], RowEdits.nothing(), before=before)

    def _patched(
        self, run: Run, patch: Patch, windows: Sequence[Layers], *, before: RowCache | None, n_before: int
    ) -> LadderRows:
        """The rows of the base run and of each window patched into it, at the last position."""
        variants = [Variant(tuple(Edit(layer) for layer in layers), (n, 0)) for n, layers in enumerate(windows)]
        ids = run.ids[:, n_before:]
        with run.entering():
            if self.cached is not None and before is not None:
                edits = RowEdits(perturbers=(patch,), variants=variants)
                return self.cached.run(ids, edits, before=before, read=[ids.shape[1] - 1])
            return run_pass(
                LadderPass(
                    network=self.network,
                    ids=ids,
                    read=[ids.shape[1] - 1],
                    perturbers=(patch,),
                    variants=variants,
                    axes=self.axes,
                )
            )

    def _read_rows(self, rows: LadderRows, prompts: Sequence[CausalPrompt]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of base rows [case, 2] and of variants in their order [window, case, 2]."""
        found = self.reader.of_rows(torch.cat([rows.lens_rows[-1][None], rows.perturbed])[:, :, 0], prompts)
        patched = np.empty_like(found[1:])
        for (number, _), own in zip(rows.variants, found[1:], strict=True):
            patched[number] = own
        return found[0], patched

    def _run_whole(self, run: Run, prompts: Sequence[CausalPrompt], observers: Sequence[DonorValues]) -> np.ndarray:
        """What one run says, observed where it is to be."""
        last = [run.ids.shape[1] - 1]
        with run.entering():
            if self.is_plain:
                with observing(self.network, observers):
                    return answers_of(plain_logits(self.network, run.ids, read=last)[:, 0], prompts)
            ladder = LadderPass(
                network=self.network,
                ids=run.ids,
                read=last,
                perturbers=(),
                variants=(),
                axes=self.axes,
                observers=observers,
            )
            try:
                rows = replace(ladder).run()
            except UnfamiliarArguments as unfamiliar:
                for one in observers:
                    one.kept.clear()  # of layers that had run by then
                self.axes.look_into(unfamiliar.length)
                rows = run_pass(ladder)
        found: np.ndarray = self.reader.of_rows(rows.lens_rows[-1][None, :, 0], prompts)[0]
        return found

    def _patched_plainly(
        self, run: Run, prompts: Sequence[CausalPrompt], patch: Patch, windows: Sequence[Layers]
    ) -> np.ndarray:
        found = [answers_of(plain_patched(self.network, run, patch, layers)[:, 0], prompts) for layers in windows]
        return np.stack(found)


def plain_patched(network: Network, run: Run, patch: Patch, layers: Layers) -> Tensor:
    """Logits [case, 1, d_vocab] at the last position of a run with some layers patched, in a forward of its own."""
    made = PlainEdits(perturbers=[patch], edits=[Edit(layer) for layer in layers])
    with run.entering(), made.made_in(network.anatomy.layers):
        return plain_logits(network, run.ids, read=[run.ids.shape[1] - 1])


def plain_runs(network: Network, runs: TwoRuns, donors: DonorValues) -> tuple[Tensor, Tensor]:
    """Logits [case, 1, d_vocab] of both runs, each in a forward of its own; the donor's values are copied."""
    read = [runs.base.ids.shape[1] - 1]
    with runs.base.entering():
        base = plain_logits(network, runs.base.ids, read=read)
    with runs.donor.entering(), observing(network, [donors]):
        return base, plain_logits(network, runs.donor.ids, read=read)


def _chunks(windows: Sequence[Layers], size: int) -> list[Sequence[Layers]]:
    """As many windows as go into a pass; late layers come together, since their rows ride the shortest way."""
    return [windows[start : start + size] for start in range(0, len(windows), size)]
