"""What a model makes of whole answers: whether it gives them, and how likely those are that need rows of their own.

The ladder follows one continuation of a prompt. Whether an answer goes on as the model would is seen in one more
forward of the clean prompt with the answer behind it, run only where the tokens that are followed leave that open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from layertracer._errors import NonFiniteError, OutOfMemoryError
from layertracer._types import EncodedAnswer, EncodedSample, Method
from layertracer.models import Network
from layertracer.tracing._batching.batches import run_batches
from layertracer.tracing._batching.followed_tokens import Ids
from layertracer.tracing._batching.memory_budget import PassPlan, fast_bytes, plan_pass
from layertracer.tracing._batching.prompts import Prompt, bind_batch, bucket_prompts, split_source
from layertracer.tracing._distributions.readout_statistics import LensStatistics
from layertracer.tracing._lenses.protocol import Lens
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.ladder import run_ladder
from layertracer.tracing._passes.measure import measure_plain, measure_rows, own_top, top_tokens
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._passes.tail import make_reduction

Tops = dict[Ids, int]
"""The model's own top token behind some tokens."""


LogProbAndRank = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Of what is followed: after the embeddings and each layer, [1 + layer], and after each layer."""


class AnswersRead(NamedTuple):
    """What a model makes of a prompt's answers.

    Attributes:
        begins: Whether its top token is the first followed one of an answer; None where there is no answer.
        solved: Whether it gives the whole of an answer, each token the top one; None where there is no answer, or the
            model cannot read it.
        more: Of continuations beside the first, by the lenses' names: their log-probability, [1 + layer], and their
            best rank, [layer]; empty without any.
    """

    begins: bool | None = None
    solved: bool | None = None
    more: Mapping[str, LogProbAndRank] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerReader:
    """Answers read behind clean prompts.

    Attributes:
        network: The model.
        axes: Batch axes of its layers' arguments.
        samples: All samples of the trace.
        method: How it is traced.
        row_by_row: Whether prompts must run one at a time.
        budget_bytes: What may be live in a pass beyond the weights.
        row_bytes: What one row of a number of tokens takes.
        lenses: Lenses beside the logit lens.
    """

    network: Network
    axes: ArgumentAxes
    samples: Sequence[EncodedSample]
    method: Method
    row_by_row: bool
    budget_bytes: int
    row_bytes: Callable[[int], int]
    lenses: Sequence[Lens] = ()

    def read(self, batch: Sequence[Prompt], lens: LensStatistics) -> dict[int, AnswersRead]:
        """What the model makes of the answers of a batch, by the prompts' indices.

        Args:
            batch: Prompts that were read.
            lens: What was read behind them, [prompt, read, 1 + layer].
        """
        tops = dict(zip((prompt.index for prompt in batch), _tops_of(batch, lens), strict=True))
        more = self._read_more([one for prompt in batch for one in prompt.more], tops)
        rows = [row for prompt in batch for row in self._open_rows(prompt, tops[prompt.index])]
        behind = self._read_tops(rows)
        read = {}
        for prompt in batch:
            before, answers = self._prompt_ids(prompt.index), self.samples[prompt.index].answers
            own = tops[prompt.index]
            # How it begins is read behind the prompt alone; the whole of an answer in one forward with it behind the
            # prompt, where there was one: a model may read a longer text otherwise.
            rows_of = [behind.get((prompt.index, answer.ids[:-1]), own) for answer in answers]
            begins = [_judge(before, [answer], {**row, **own})[0] for answer, row in zip(answers, rows_of, strict=True)]
            solved = [_judge(before, [answer], {**own, **row})[1] for answer, row in zip(answers, rows_of, strict=True)]
            read[prompt.index] = AnswersRead(_any(begins), _any(solved), more.get(prompt.index, {}))
        return read

    def _prompt_ids(self, index: int) -> Ids:
        """What the layers that are traced read before an answer."""
        return split_source(index, self.samples[index], self.network)[1]

    def _open_rows(self, prompt: Prompt, tops: Tops) -> Iterator[Prompt]:
        """The prompt with each of its answers that is still to be read behind it."""
        before, sample = self._prompt_ids(prompt.index), self.samples[prompt.index]
        begins, solved = _judge(before, sample.answers, tops)
        if begins is not None and solved is not None:
            return
        for answer in sample.answers:
            ids = before + answer.ids[:-1]
            if None in _judge(before, [answer], tops) and self._can_read(ids):
                read = tuple(range(len(before) + answer.n_blank - 1, len(ids)))
                yield Prompt(index=prompt.index, ids=ids, read=read, target_ids=(), source_ids=prompt.source_ids)

    def _can_read(self, ids: Ids) -> bool:
        """Whether tokens fit into the context, and the model knows them."""
        longest = self.network.max_length
        fits = longest is None or len(ids) <= longest
        return fits and all(0 <= token < self.network.anatomy.n_input_tokens for token in ids)

    def _read_tops(self, rows: Sequence[Prompt]) -> dict[tuple[int, Ids], Tops]:
        """The top tokens of further rows, by prompt and answer; nothing where memory does not allow it."""
        behind: dict[tuple[int, Ids], Tops] = {}
        for bucket in bucket_prompts(rows):
            try:
                for batch, found in run_batches(
                    self.network, bucket, self._plan(bucket), lambda rows, _: self._top(rows)
                ):
                    for row, own in zip(batch, found.tolist(), strict=True):
                        answer = row.ids[len(self._prompt_ids(row.index)) :]
                        behind[row.index, answer] = dict(_by_context(row, own))
            except OutOfMemoryError:
                continue  # what was traced stays; of these answers it is not known whether they are given
        return behind

    def _read_more(self, rows: Sequence[Prompt], tops: Mapping[int, Tops]) -> dict[int, dict[str, LogProbAndRank]]:
        """Log-probability and rank of continuations beside the first, by the prompts' indices and the lenses' names."""
        found: dict[int, dict[str, LogProbAndRank]] = {}
        for bucket in bucket_prompts(rows):
            plan = self._plan(bucket)
            for batch, lenses in run_batches(self.network, bucket, plan, lambda rows, _: self._lenses(rows)):
                for row, own in zip(batch, _tops_of(batch, lenses["logit"]), strict=True):
                    tops[row.index].update(own)
                for name, lens in lenses.items():
                    log_prob = lens.log_prob.sum(dim=1).cpu().numpy()
                    _refuse_nan(log_prob, batch)
                    rank = lens.rank[:, :, 1:].amax(dim=1).cpu().numpy().astype(np.int32)
                    for row, *numbers in zip(batch, log_prob, rank, strict=True):
                        by_lens = found.setdefault(row.index, {})
                        by_lens[name] = _joined(by_lens.get(name), (numbers[0], numbers[1]))
        return found

    def _plan(self, bucket: Sequence[Prompt]) -> PassPlan:
        anatomy, n_scored = self.network.anatomy, len(bucket[0].read)
        kept = n_scored * anatomy.d_model * (1 + anatomy.n_layers) * torch.finfo(self.network.dtype).bits // 8
        return plan_pass(
            self.row_bytes(len(bucket[0].ids)) + kept,
            n_variants=0,
            n_prompts=1 if self.row_by_row else len(bucket),
            # What is remembered of a shared prefix is there beside it.
            budget_bytes=fast_bytes(self.network, self.budget_bytes // 2),
        )

    def _lenses(self, rows: Sequence[Prompt]) -> dict[str, LensStatistics]:
        """Lens statistics [row, read, 1 + layer] of what is followed in some rows, by the lenses' names."""
        network, ids = bind_batch(self.network, rows)
        if self.method == "plain":
            return measure_plain(network, ids, rows, edits={}, lenses=self.lenses).by_lens
        ladder_rows = run_ladder(network, ids, read=rows[0].read, perturber=None, variants={}, axes=self.axes)
        reduction = make_reduction(network, self.budget_bytes)
        return measure_rows([ladder_rows], rows, ids, reduction=reduction, lenses=self.lenses).by_lens

    def _top(self, rows: Sequence[Prompt]) -> Tensor:
        """The model's own top tokens [row, read]."""
        network, ids = bind_batch(self.network, rows)
        if self.method == "plain":
            return top_tokens(plain_logits(network, ids, read=rows[0].read))
        ladder_rows = run_ladder(network, ids, read=rows[0].read, perturber=None, variants={}, axes=self.axes)
        return own_top(ladder_rows.lens_rows[-1], make_reduction(network, self.budget_bytes))


def _refuse_nan(log_prob: NDArray[np.float32], rows: Sequence[Prompt]) -> None:
    """Raise where the log-probability [row, 1 + layer] of a continuation is no number."""
    bad = np.flatnonzero(np.isnan(log_prob).any(axis=1))
    if len(bad):
        raise NonFiniteError(
            f"The readout of another answer of sample {rows[bad[0]].index} is not finite. Check the weights, or load "
            "the model with dtype='float32'."
        )


def _tops_of(batch: Sequence[Prompt], lens: LensStatistics) -> list[Tops]:
    """The model's own top tokens at the positions that were read, for each prompt."""
    every = lens.top_ids[:, :, -1, 0].tolist()
    return [dict(_by_context(prompt, own)) for prompt, own in zip(batch, every, strict=True)]


def _by_context(prompt: Prompt, tops: Sequence[int]) -> Iterator[tuple[Ids, int]]:
    for position, top in zip(prompt.read, tops, strict=True):
        yield prompt.ids[: position + 1], top


def _judge(before: Ids, answers: Sequence[EncodedAnswer], tops: Tops) -> tuple[bool | None, bool | None]:
    """Whether the model begins with one of some answers, and whether it gives all of one; None where that is open."""
    begins = [_agrees(before, answer, tops, range(answer.n_lead, answer.n_lead + 1)) for answer in answers]
    # White space before an answer is no part of what must be given; pieces of a character are.
    solved = [_agrees(before, answer, tops, range(answer.n_blank, len(answer.ids))) for answer in answers]
    return _any(begins), _any(solved)


def _agrees(before: Ids, answer: EncodedAnswer, tops: Tops, places: range) -> bool | None:
    """Whether the model's own top tokens are an answer's at some places; None where that is open."""
    found = [tops.get(before + answer.ids[:place]) for place in places]
    if any(top is not None and top != answer.ids[place] for place, top in zip(places, found, strict=True)):
        return False
    return None if None in found else True


def _any(found: Sequence[bool | None]) -> bool | None:
    """Whether one of some is true; None where there is none, or none is and some are not known."""
    if True in found:
        return True
    return None if None in found or not found else False


def _joined(one: LogProbAndRank | None, other: LogProbAndRank) -> LogProbAndRank:
    """Log-probability and rank of either of two continuations."""
    if one is None:
        return other
    return np.logaddexp(one[0], other[0]), np.minimum(one[1], other[1])
