"""What a trace measures, filled in as batches of prompts are finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from layertracer._errors import NonFiniteError
from layertracer.tracing._batching.on_devices import to_host
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._distributions.readout_statistics import LensStatistics
from layertracer.tracing._distributions.row_measures import ROW_MEASURES
from layertracer.tracing._lenses.protocol import unreadable
from layertracer.tracing._observers.protocol import LAYER_MEASURES
from layertracer.tracing._whole_answers import AnswersRead


class Progress(NamedTuple):
    """How far a trace is.

    Attributes:
        done: Prompts that are finished.
        total: Prompts asked for.
        stage: What is being done, in words.
    """

    done: int
    total: int
    stage: str = "tracing"


@dataclass(slots=True, kw_only=True)
class LensReadings:
    """What a lens reads after each layer.

    Attributes:
        log_prob: Log-probability of the target, [prompt, 1 + layer]; entry 0 is read from the embeddings.
        rank: Rank of the target, [prompt, layer].
        entropy_bits: Entropy, [prompt, layer].
        top_ids: Most probable tokens, [prompt, layer, k].
        top_prob: Their probabilities.
    """

    log_prob: NDArray[np.float32]
    rank: NDArray[np.int32]
    entropy_bits: NDArray[np.float32]
    top_ids: NDArray[np.int32]
    top_prob: NDArray[np.float32]

    @classmethod
    def empty(cls, *, n_prompts: int, n_layers: int, n_top: int) -> LensReadings:
        """Room for that many numbers."""
        return cls(
            log_prob=np.full((n_prompts, 1 + n_layers), np.nan, np.float32),
            rank=np.zeros((n_prompts, n_layers), np.int32),
            entropy_bits=np.full((n_prompts, n_layers), np.nan, np.float32),
            top_ids=np.zeros((n_prompts, n_layers, n_top), np.int32),
            top_prob=np.full((n_prompts, n_layers, n_top), np.nan, np.float32),
        )

    def keep(self, where: Sequence[int], read: LensStatistics) -> None:
        """Take over statistics [prompt, read, 1 + layer], on the CPU, of prompts by their indices."""
        self.log_prob[where] = read.log_prob.sum(dim=1).numpy()
        self.rank[where] = read.rank[:, :, 1:].amax(dim=1).numpy()
        self.entropy_bits[where] = read.entropy_bits[:, :, 1:].mean(dim=1).numpy()
        self.top_ids[where] = read.top_ids[:, 0, 1:].numpy()
        self.top_prob[where] = read.top_log_prob[:, 0, 1:].exp().numpy()


@dataclass(slots=True, kw_only=True)
class Readings:
    """What was measured so far, prompts in the order of the task; `finished` says which ones are.

    Attributes:
        lenses: What each lens reads, by its name; the logit lens first.
        rows: Row measures by name, [prompt, draw, layer]; NaN where a layer has not the perturbed site.
        measures: Layer measures by name, [prompt, layer]; NaN where a layer has none.
        target_ids: Tokens that were followed, one tuple a prompt.
        top1_ids: The model's own top token at each position that was read.
        finished: Whether a prompt's numbers are there.
        answers: What the model makes of whole answers, by the prompts' indices.
    """

    lenses: dict[str, LensReadings]
    rows: dict[str, NDArray[np.float32]]
    measures: dict[str, NDArray[np.float32]]
    target_ids: list[tuple[int, ...]]
    top1_ids: list[tuple[int, ...]]
    finished: NDArray[np.bool_]
    answers: dict[int, AnswersRead] = field(default_factory=dict)

    @classmethod
    def empty(cls, *, n_prompts: int, n_layers: int, n_draws: int, n_top: int, lenses: Sequence[str] = ()) -> Readings:
        """Room for that many numbers, of the logit lens and of further lenses by name."""
        sizes = {"n_prompts": n_prompts, "n_layers": n_layers, "n_top": n_top}
        return cls(
            lenses={name: LensReadings.empty(**sizes) for name in ("logit", *lenses)},
            rows={name: np.full((n_prompts, n_draws, n_layers), np.nan, np.float32) for name in ROW_MEASURES},
            measures={name: np.full((n_prompts, n_layers), np.nan, np.float32) for name in LAYER_MEASURES},
            target_ids=[()] * n_prompts,
            top1_ids=[()] * n_prompts,
            finished=np.zeros(n_prompts, bool),
        )

    @property
    def logit(self) -> LensReadings:
        """What the logit lens reads."""
        return self.lenses["logit"]

    @property
    def js_bits(self) -> NDArray[np.float32]:
        """JS divergence, [prompt, draw, layer], bits."""
        return self.rows["js_bits"]

    def forget(self, prompts: Sequence[Prompt]) -> None:
        """Some prompts are not finished: what was measured of them is not to be believed."""
        self.finished[[prompt.index for prompt in prompts]] = False

    def keep(
        self,
        batch: Sequence[Prompt],
        lenses: Mapping[str, LensStatistics],
        rows: Mapping[str, Tensor],
        *,
        cells: Sequence[tuple[int, int]],
        measures: Mapping[str, Mapping[int, Tensor]],
    ) -> None:
        """Take over one batch.

        Args:
            batch: Its prompts.
            lenses: Statistics [prompt, read, 1 + layer] by the lenses' names; entry 0 is read from the embeddings.
            rows: Row measures by name, [prompt, draw, layer].
            cells: The layers and draws that were perturbed, those whose layer has the site.
            measures: Layer measures by name and layer, [prompt].

        Raises:
            NonFiniteError: If a log-probability of a lens or a JS divergence is NaN; nothing of the batch is kept.
        """
        lenses, rows = on_host(lenses, rows)
        lens, js = lenses["logit"], rows["js_bits"]
        if bool(lens.log_prob.isnan().any()) or bool(js.isnan().any()):
            raise NonFiniteError(_where_not_finite(batch, lens, js))
        for name, read in lenses.items():
            if bool(read.log_prob.isnan().any()):
                raise unreadable(name, int(read.log_prob.isnan().nonzero()[:, 2].min()) - 1)
        where = [prompt.index for prompt in batch]
        for name, read in lenses.items():
            self.lenses[name].keep(where, read)
        layers, draws = np.array(cells, int).reshape(-1, 2).T
        for name, values in rows.items():
            self.rows[name][np.array(where)[:, None], draws, layers] = values.numpy()[:, draws, layers]
        for name, by_layer in measures.items():
            for layer, numbers in zip(by_layer, to_host(list(by_layer.values())), strict=True):
                self.measures[name][where, layer] = numbers.numpy()
        for prompt, top in zip(batch, lens.top_ids[:, :, -1, 0].tolist(), strict=True):
            self.top1_ids[prompt.index] = tuple(top)
            self.target_ids[prompt.index] = prompt.target_ids or tuple(top)
            self.finished[prompt.index] = True

    def of_all_continuations(self, lens: str) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Log-probability and rank of the target, where several continuations are followed of any of them."""
        log_prob, rank = self.lenses[lens].log_prob.copy(), self.lenses[lens].rank.copy()
        for index, read in self.answers.items():
            if lens in read.more:
                more_log_prob, more_rank = read.more[lens]
                log_prob[index] = np.logaddexp(log_prob[index], more_log_prob)
                rank[index] = np.minimum(rank[index], more_rank)
        return log_prob, rank


def on_host(
    lenses: Mapping[str, LensStatistics], rows: Mapping[str, Tensor]
) -> tuple[dict[str, LensStatistics], dict[str, Tensor]]:
    """A batch's numbers on the CPU, fetched together."""
    names = [one.name for one in fields(LensStatistics)]
    statistics = [getattr(lens, name) for lens in lenses.values() for name in names]
    fetched = to_host([*statistics, *rows.values()])
    read = {
        name: LensStatistics(**dict(zip(names, fetched[first : first + len(names)], strict=True)))
        for name, first in zip(lenses, range(0, len(statistics), len(names)), strict=True)
    }
    return read, dict(zip(rows, fetched[len(statistics) :], strict=True))


def _where_not_finite(batch: Sequence[Prompt], lens: LensStatistics, js: Tensor) -> str:
    bad_lens = lens.log_prob.isnan().any(dim=1)
    if bool(bad_lens.any()):
        prompt, lens_row = bad_lens.nonzero()[bad_lens.nonzero()[:, 1].argmin()].tolist()
        place = "after the embeddings" if lens_row == 0 else f"after layer {lens_row - 1}"
        if bool(bad_lens[prompt].all()):
            place = "in the embeddings, the final norm or the unembedding"
        return (
            f"The readout of sample {batch[prompt].index} is not finite: NaN or infinity first appears {place}. Check "
            "the weights there, or load the model with dtype='float32'."
        )
    first = js.isnan().nonzero()[0]
    return (
        f"Perturbing layer {int(js.isnan().nonzero()[:, 2].min())} makes the output of sample "
        f"{batch[int(first[0])].index} NaN or infinite. Use a weaker perturbation, or dtype='float32'."
    )
