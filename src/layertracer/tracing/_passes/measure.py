"""From a batch of prompts to its numbers, by the ladder or by the plain method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from layertracer.models import Network
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._distributions.readout_statistics import LensStatistics, measure_lens
from layertracer.tracing._distributions.reduction import Reduction
from layertracer.tracing._distributions.row_measures import FollowedRows, measure_distributions, over_positions
from layertracer.tracing._lenses.protocol import Lens, translated_stream
from layertracer.tracing._observers.protocol import Observer, observing
from layertracer.tracing._passes.ladder import LadderRows
from layertracer.tracing._passes.plain import PlainEdits, plain_logits, plain_readout
from layertracer.tracing._passes.row_groups import Edit
from layertracer.tracing._perturbers.protocol import Perturber

N_TOP = 5
"""How many of the most probable tokens are kept for each prompt and layer."""


RowNumbers = dict[tuple[int, int], dict[str, Tensor]]
"""What is measured of the perturbed rows of each layer and draw, by the measures' names, [prompt]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The numbers of a batch.

    Attributes:
        lens: Lens statistics [prompt, read, 1 + layer]; entry 0 is read from the embeddings.
        rows: Row measures of each layer and draw.
        lenses: What other lenses than the logit lens read, likewise, by their names.
    """

    lens: LensStatistics
    rows: RowNumbers
    lenses: Mapping[str, LensStatistics] = field(default_factory=dict)

    @property
    def by_lens(self) -> dict[str, LensStatistics]:
        """What all lenses read, by their names; the logit lens first."""
        return {"logit": self.lens, **self.lenses}


def measure_rows(
    passes: Iterable[LadderRows],
    batch: Sequence[Prompt],
    ids: Tensor,
    *,
    reduction: Reduction,
    lenses: Sequence[Lens] = (),
) -> Measured:
    """The numbers of a batch, from the passes over it.

    Args:
        passes: Their rows; each pass begins when the rows of the one before are reduced.
        batch: The prompts.
        ids: Their token ids [prompt, position].
        reduction: How rows become numbers.
        lenses: Lenses beside the logit lens.
    """
    found: RowNumbers = {}
    lens: LensStatistics | None = None
    others_read: dict[str, LensStatistics] = {}
    # Put on the device before anything runs.
    answers, others = answers_of(batch, ids.device), others_of(batch, ids.device)
    followed = None if answers is None else FollowedRows(answers, others)
    for rows in passes:
        clean = rows.lens_rows[-1]
        if followed is None:
            followed = FollowedRows(own_top(clean, reduction), others)
        if lens is None:
            stream = torch.stack([rows.embedding, *rows.lens_rows], dim=2)
            lens = reduction.lens(stream, followed.targets, n_top=N_TOP, others=others)
            others_read = {one.name: _read_by(one, stream, lens, followed, reduction) for one in lenses}
        if rows.variants:
            values = reduction.perturbed(clean.flatten(0, 1), rows.perturbed.flatten(1, 2), followed.flattened())
            by_name = over_positions({name: one.unflatten(1, clean.shape[:2]) for name, one in values.items()})
            for number, variant in enumerate(rows.variants):
                found[variant] = {name: per_prompt[number] for name, per_prompt in by_name.items()}
    assert lens is not None  # there is always a first pass
    return Measured(lens=lens, rows=found, lenses=others_read)


def _read_by(
    lens: Lens, stream: Tensor, logit: LensStatistics, followed: FollowedRows, reduction: Reduction
) -> LensStatistics:
    """What a lens reads of rows [prompt, read, 1 + layer, width], whose last ones are read as they are."""
    rows = translated_stream(lens, stream)
    read = reduction.lens(rows, followed.targets, n_top=N_TOP, others=followed.others)
    return read.followed_by(logit.last(dim=2), dim=2)


def measure_plain(  # noqa: PLR0913 - each is a setting of its own, given by name
    network: Network,
    ids: Tensor,
    batch: Sequence[Prompt],
    *,
    edits: Mapping[tuple[int, int], Edit],
    perturbers: Sequence[Perturber | None] = (),
    observers: Sequence[Observer] = (),
    lenses: Sequence[Lens] = (),
) -> Measured:
    """The same numbers from one forward for each lens row, layer and draw.

    Args:
        network: The model.
        ids: Token ids [prompt, position].
        batch: The prompts.
        edits: What is done for each layer and draw.
        perturbers: What carries it out.
        observers: What looks at the clean forward.
        lenses: Lenses beside the logit lens.
    """
    read = batch[0].read
    with observing(network, observers):
        logits = plain_logits(network, ids, read=read)
    own = log_probs_of(logits)
    targets, others = answers_of(batch, ids.device), others_of(batch, ids.device)
    if targets is None:
        targets = top_tokens(logits)
    last = measure_lens(logits, targets, n_top=N_TOP, others=others)

    def read_by(lens: Lens | None) -> LensStatistics:
        lens_rows = (
            plain_readout(network, ids, read=read, layer=layer, lens=lens)
            for layer in range(-1, network.anatomy.n_layers - 1)
        )
        numbers = [measure_lens(row, targets, n_top=N_TOP, others=others) for row in lens_rows]
        return LensStatistics.stacked([*numbers, last], dim=2)

    lens, others_read = read_by(None), {one.name: read_by(one) for one in lenses}
    found: RowNumbers = {}
    prompts = tuple(prompt.index for prompt in batch)
    for cell, edit in edits.items():
        with PlainEdits(perturbers=perturbers, edits=[edit], prompts=prompts).made_in(network.anatomy.layers):
            perturbed = plain_logits(network, ids, read=read)
        found[cell] = measure_distributions(log_probs_of(perturbed), own, FollowedRows(targets, others))
    return Measured(lens=lens, rows=found, lenses=others_read)


def answers_of(batch: Sequence[Prompt], device: torch.device) -> Tensor | None:
    """The answers as tokens followed [prompt, read]; None without any."""
    if not batch[0].target_ids:
        return None
    return torch.tensor([prompt.target_ids for prompt in batch], device=device)


def others_of(batch: Sequence[Prompt], device: torch.device) -> Tensor | None:
    """Tokens that count as well as those followed [prompt, read, other], −1 where there is none; None without any."""
    most = max(len(prompt.others) for prompt in batch)
    if not most:
        return None
    several = torch.full((len(batch), len(batch[0].read), most), -1)
    for row, prompt in enumerate(batch):
        several[row, -1, : len(prompt.others)] = torch.tensor(prompt.others, dtype=torch.long)
    return several.to(device)


def followed_of(batch: Sequence[Prompt], lens: LensStatistics) -> FollowedRows:
    """What is followed in prompts of which the lens was read: answers, or the model's own top tokens."""
    device = lens.top_ids.device
    targets = answers_of(batch, device)
    return FollowedRows(lens.top_ids[:, :, -1, 0] if targets is None else targets, others_of(batch, device))


def own_top(clean: Tensor, reduction: Reduction) -> Tensor:
    """The model's own top tokens [prompt, read], of rows [prompt, read, …, width] that leave its last layer."""
    any_target = torch.zeros(clean.shape[:2], dtype=torch.long, device=clean.device)
    return reduction.lens(clean.unsqueeze(2), any_target, n_top=1).top_ids[:, :, 0, 0]


def top_tokens(logits: Tensor) -> Tensor:
    """The top tokens [prompt, read] of logits [prompt, read, d_vocab]; of equal ones that with the lower id."""
    any_target = torch.zeros(logits.shape[:-1], dtype=torch.long, device=logits.device)
    return measure_lens(logits, any_target, n_top=1).top_ids[..., 0]
