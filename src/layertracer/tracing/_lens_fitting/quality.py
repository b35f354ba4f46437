"""What lenses are worth: how far what they read is from the final output, layer by layer, beside the logit lens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from layertracer.models import without_gradients
from layertracer.tracing._distributions.kl_divergence import DivergenceFrom
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._lens_fitting.lens_bench import LensBench, lens_bench
from layertracer.tracing._lens_fitting.text_split import PassageSizes, as_text_source, gather_rows_of_text
from layertracer.tracing._lenses.affine import AffineLens
from layertracer.tracing._lenses.logit import LogitLens
from layertracer.tracing._lenses.protocol import Lens, take_lenses, translated, unreadable
from layertracer.tracing._lenses.report import LensReport
from layertracer.tracing._model import TracedModel, refuse_untranslatable
from layertracer.tracing._readings import Progress
from layertracer.tracing._texts.text_rows import TextSource

OnProgress = Callable[[Progress], None]


@without_gradients()
def measure_lens_quality(  # noqa: PLR0913 - takes its settings by name, as `read_layers` does
    model: TracedModel,
    texts: TextSource | Sequence[Sequence[int]],
    lenses: Any = (),
    *,
    n_rows: int = 8,
    row_tokens: int | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> tuple[LensReport, ...]:
    """How well lenses read a model on some text: KL(final ‖ lens), bias, and how often the top token is the same.

    For every layer, and the embeddings, over all tokens from the second of each passage on. Whether the text is one
    that a lens was fitted on is not known here: give text that it was not.

    Laws: after the last layer KL and bias are 0 to rounding and the top token is the same; bias ≤ KL, as KL is convex.

    Args:
        model: From `load_model` or `wrap_model`.
        texts: A file, a text, texts, rows of token ids, samples, a task, or None for text that the model writes itself.
        lenses: A lens, or several, by name or themselves.
        n_rows: How many passages are read, drawn by the seed where there are more.
        row_tokens: Tokens of a passage; None for 128, or fewer where the text is short.
        seed: Seed of what is drawn, and of text that the model writes itself.
        on_progress: Told how far it is.

    Returns:
        One for each lens, the logit lens first.

    Raises:
        UnknownNameError: If there is no such lens.
        UsageError: If a lens is none for this model, the model has an encoder, or a text has no tokenizer.
        TaskError: If the text is too short.
        NonFiniteError: If the output, or what a lens makes of a layer, is not finite.
        SelfCheckError: If the model's tail does not read single positions as the model does.
        ModelError: If the model's own code raises anything else.
    """
    taken = take_lenses(lenses)
    refuse_untranslatable(model.network, taken)
    with lens_bench(model, doing="while lenses were measured") as bench:
        sizes = PassageSizes(n_rows=n_rows, row_tokens=row_tokens)
        rows = gather_rows_of_text(model, as_text_source(texts), sizes, seed=seed).rows
        return report_on(bench, bench.gather(rows), taken, on_progress=on_progress)


def report_on(
    bench: LensBench,
    streams: Float[Tensor, "lens_row token width"],
    lenses: Sequence[Lens],
    *,
    on_progress: OnProgress | None = None,
) -> tuple[LensReport, ...]:
    """Reports of some streams, the logit lens first."""
    readers: list[Lens] = [LogitLens(), *lenses]
    sums = [_Sums.empty(len(streams), bench.model.anatomy.d_vocab) for _ in readers]
    final = torch.zeros(bench.model.anatomy.d_vocab, dtype=torch.float64)
    n_tokens = streams.shape[1]
    for part in bench.parts(n_tokens):
        rows = streams[:, part].to(bench.model.device)
        log_p = log_probs_of(bench.tail(rows[-1]))
        output, top = DivergenceFrom(log_p), log_p.argmax(dim=-1)
        final += log_p.exp().sum(dim=0, dtype=torch.float64).cpu()
        for lens_row, own in enumerate(rows):
            for number, (reader, of_reader) in enumerate(zip(readers, sums, strict=True)):
                layer = lens_row - 1
                log_q = log_probs_of(bench.tail(translated(reader, own, layer=layer, n_layers=bench.n_layers)))
                if number and bool(log_q.isnan().any()):
                    raise unreadable(reader.name, layer)
                of_reader.add(lens_row, log_q, output, top)
        if on_progress is not None:
            on_progress(Progress(part.stop, n_tokens, "reporting"))
    return tuple(
        one.report(reader, final / n_tokens, n_tokens=n_tokens) for reader, one in zip(readers, sums, strict=True)
    )


def kl_by_row(bench: LensBench, streams: Float[Tensor, "lens_row token width"], lens: Lens) -> NDArray[np.float64]:
    """KL(final ‖ lens) of every layer but the last, the embeddings first, the mean over tokens."""
    sums = np.zeros(len(streams) - 1)
    for part in bench.parts(streams.shape[1]):
        rows = streams[:, part].to(bench.model.device)
        output = DivergenceFrom(log_probs_of(bench.tail(rows[-1])))
        for lens_row in range(len(sums)):
            made = translated(lens, rows[lens_row], layer=lens_row - 1, n_layers=bench.n_layers)
            sums[lens_row] += float(output.to(log_probs_of(bench.tail(made))).sum())
    return sums / streams.shape[1]


class _Sums:
    """What is added up over tokens for one lens."""

    def __init__(self, kl: NDArray[np.float64], top1: NDArray[np.float64], mean: Tensor) -> None:
        self._kl, self._top1, self._mean = kl, top1, mean

    @classmethod
    def empty(cls, n_lens_rows: int, d_vocab: int) -> _Sums:
        mean = torch.zeros(n_lens_rows, d_vocab, dtype=torch.float64)
        return cls(np.zeros(n_lens_rows), np.zeros(n_lens_rows), mean)

    def add(self, lens_row: int, log_q: Tensor, output: DivergenceFrom, top: Tensor) -> None:
        """Take in what the lens reads of one layer at some tokens."""
        self._kl[lens_row] += float(output.to(log_q).sum())
        self._top1[lens_row] += int((log_q.argmax(dim=-1) == top).sum())
        self._mean[lens_row] += log_q.exp().sum(dim=0, dtype=torch.float64).cpu()

    def report(self, lens: Lens, final: Tensor, *, n_tokens: int) -> LensReport:
        """The report over all tokens."""
        mean = self._mean / n_tokens
        terms = torch.special.xlogy(final, final) - torch.special.xlogy(final, mean)
        return LensReport(
            lens=lens.name,
            kl_nats=self._kl / n_tokens,
            bias_nats=np.asarray(terms.sum(dim=-1).clamp(min=0.0).numpy(), dtype=np.float64),
            top1=self._top1 / n_tokens,
            fallback=lens.fallback if isinstance(lens, AffineLens) else (),
            n_tokens=n_tokens,
        )
