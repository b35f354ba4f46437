"""Audit: which cells of a trace are measured once more, chosen from the question, before anything runs.

The proof at load sees a short probe of three rows. What depends on the length, the number of rows, the prompt or what
was read before shows itself on the real prompts only, where it is looked for: at the last prompt of every bucket, whose
rows come last, in the layers at the corners, and wherever the seed points.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from layertracer._errors import UsageError
from layertracer.tracing._batching.prompts import Prompt
from layertracer.tracing._planning.schedule import BucketWork, Schedule
from layertracer.tracing._planning.workload import Workload

Variant = tuple[int, int]
"""Layer and draw."""

_LEAST_DRAWN = 2
_ALONE = 1.5
"""How many times as long an operation takes in a forward of a single row as in a pass of many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """What is measured again.

    Attributes:
        share: Share of the trace's arithmetic that this may take, apart from what is looked at in any case.
        looks: Prompts that are run alone, clean, by their index in the task; and the perturbed copies of each.
        readouts: Those of them whose first layer is read with all later ones bypassed, too: what happens to the stream
            between layers adds up after it.
        n_drawn: How many forwards the seed alone has drawn.
    """

    share: float
    readouts: frozenset[int] = frozenset()
    looks: Mapping[int, tuple[Variant, ...]] = field(default_factory=dict)
    n_drawn: int = 0


def check_share(share: object) -> float:
    """A share of the trace's arithmetic.

    Raises:
        UsageError: If it is no number from 0 to 1.
    """
    if isinstance(share, bool) or not isinstance(share, int | float | np.number) or not 0 <= float(share) <= 1:
        raise UsageError(
            f"audit must be a share of the trace's arithmetic from 0 to 1, got {share!r}. 0.1 is usual; 0 measures "
            "nothing again."
        )
    return float(share)


def plan_audit(schedule: Schedule, work: Workload, *, share: float, seed: int) -> AuditPlan:
    """Choose what is measured again.

    In any case a clean and a perturbed forward and a readout of a prompt of every bucket (the same prefix, the same
    length), one more perturbed forward for every prefix, and two forwards that the seed draws. Of what is left of the
    share, up to a half goes to other corners and other prompts; the rest is drawn by the seed, each forward that the
    trace stands for with the same chance.

    Args:
        schedule: What goes into which pass.
        work: What is done to the prompts.
        share: Share of the trace's arithmetic that this may take; 0 for none at all.
        seed: What draws.
    """
    if not share:
        return AuditPlan(share=0.0)
    return _Choice(schedule=schedule, work=work, share=share, seed=seed).made()


@dataclass(slots=True, kw_only=True)
class _Choice:
    """The looks chosen so far, and what they take."""

    schedule: Schedule
    work: Workload
    share: float
    seed: int
    _looks: dict[int, list[Variant]] = field(init=False, default_factory=dict)
    _spent: float = field(init=False, default=0.0)
    _weights: _Weights = field(init=False)

    def made(self) -> AuditPlan:
        """All looks."""
        self._weights = _Weights.of(self.work)
        buckets = sorted(self.schedule.buckets(), key=lambda bucket: -len(bucket.prompts))
        corners = self._corners()
        generator = np.random.default_rng([self.seed, len(buckets)])
        readouts = frozenset(bucket.prompts[-1].index for bucket in buckets)
        for bucket in buckets:
            prompt = bucket.prompts[-1]
            for own in corners or [[None]]:
                self._add(prompt, own[-1])
            self._spent += self._weights.forward(prompt)
        for prompt in _one_of_each_prefix(buckets):
            for own in corners or [[None]]:
                self._add(prompt, own[0])
        budget = self.share * sum(self._arithmetic(bucket) for bucket in buckets) / _ALONE
        for prompt, variant in self._wanted(buckets, corners, generator):
            if self._spent >= budget / 2:
                break
            self._add(prompt, variant)
        n_drawn = self._draw(buckets, budget, generator)
        looks = {index: tuple(variants) for index, variants in sorted(self._looks.items())}
        return AuditPlan(share=self.share, readouts=readouts, looks=looks, n_drawn=n_drawn)

    def _add(self, prompt: Prompt, variant: Variant | None) -> None:
        """One more look, if it is not among them already: clean, or at a perturbed copy, beside a clean one."""
        if prompt.index not in self._looks:
            self._looks[prompt.index] = []
            self._spent += self._weights.forward(prompt) + self._weights.lens(prompt)
        if variant is not None and variant not in self._looks[prompt.index]:
            self._looks[prompt.index].append(variant)
            self._spent += self._weights.forward(prompt)

    def _corners(self) -> list[list[Variant | None]]:
        """Of each perturbation copies that ride through all layers, one in the middle, and those whose rows come last.

        The latter stand last.
        """
        found: list[list[Variant | None]] = []
        for site in self.work.sites:
            layers, draws = site.layers, site.draws
            if layers and draws:
                first, last = draws[0], draws[-1]
                places = [(layers[0], last), (layers[-1], last), (layers[len(layers) // 2], first)]
                found.append(list(dict.fromkeys([*places, (layers[-2:][0], last)])))
        return found

    @staticmethod
    def _wanted(
        buckets: Sequence[BucketWork], corners: Sequence[Sequence[Variant | None]], generator: np.random.Generator
    ) -> Iterator[tuple[Prompt, Variant | None]]:
        """What is looked at as far as it goes, the most telling first."""
        lasts = [bucket.prompts[-1] for bucket in buckets]
        yield from ((prompt, own[0]) for own in corners for prompt in lasts)
        others = [prompt for bucket in buckets for prompt in bucket.prompts[:-1]]
        yield from ((others[place], None) for place in generator.permutation(len(others)).tolist())
        yield from ((prompt, corner) for own in corners for corner in own[1:] for prompt in lasts)

    def _draw(self, buckets: Sequence[BucketWork], budget: float, generator: np.random.Generator) -> int:
        """Add forwards that the seed alone draws, as many as what is left of the budget pays for."""
        prompts = [prompt for bucket in buckets for prompt in bucket.prompts]
        variants = [None, *self.work.cells]
        n_all, n_drawn = len(prompts) * len(variants), 0
        for place in _draw_places(n_all, generator):
            prompt, variant = prompts[place // len(variants)], variants[place % len(variants)]
            if n_drawn >= _LEAST_DRAWN and self._spent + self._weights.forward(prompt) > budget:
                break
            self._add(prompt, variant)
            n_drawn += 1
        return n_drawn

    def _arithmetic(self, bucket: BucketWork) -> float:
        """What the trace takes for a bucket, its share of what is read before it not counted."""
        weights, prompt, work = self._weights, bucket.prompts[0], self.work
        n_scored, n_rows = len(prompt.read), 1 + work.n_variants
        if work.method == "plain":
            return len(bucket.prompts) * (n_rows + work.network.anatomy.n_layers / 2) * weights.forward(prompt)
        each = 0.0
        if work.state is not None:
            n_states = len(work.in_state)
            own = 2 * len(prompt.ids) + n_states * n_scored
            each += own * weights.layers + (1 + n_states) * n_scored * weights.tail
        if work.in_ladder:
            n_own = n_scored if work.last_only and work.cached is not None else len(prompt.ids) - bucket.n_before
            n_rows = 1 + len(work.in_ladder)
            each += n_own * weights.layer_steps(work) + n_rows * n_scored * weights.tail + weights.lens(prompt)
        return len(bucket.prompts) * each


def _one_of_each_prefix(buckets: Sequence[BucketWork]) -> list[Prompt]:
    """The last prompt of the first bucket behind each number of shared tokens with the same content."""
    found: dict[tuple[int, ...], Prompt] = {}
    for bucket in buckets:
        found.setdefault(bucket.prompts[-1].ids[: bucket.n_before], bucket.prompts[-1])
    return list(found.values())


def _draw_places(n_all: int, generator: np.random.Generator) -> Iterator[int]:
    """Places among `n_all` in random order, none twice."""
    drawn: set[int] = set()
    while len(drawn) < n_all:
        place = int(generator.integers(n_all))
        if place not in drawn:
            drawn.add(place)
            yield place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Arithmetic of one token, in products with weights.

    Attributes:
        layers: In all layers.
        tail: After them.
        n_layers: How many layers there are.
    """

    layers: float
    tail: float
    n_layers: int

    @classmethod
    def of(cls, work: Workload) -> _Weights:
        """Those of a model, from the shapes of its weights: the same on every machine."""
        anatomy = work.network.anatomy
        layers = sum(one.numel() for layer in anatomy.layers for one in layer.module.parameters() if one.ndim > 1)
        return cls(layers=float(layers), tail=float(anatomy.d_model * anatomy.d_vocab), n_layers=anatomy.n_layers)

    def forward(self, prompt: Prompt) -> float:
        """A prompt run alone."""
        return len(prompt.ids) * (self.layers + self.tail)

    def lens(self, prompt: Prompt) -> float:
        """Its lens rows."""
        return (1 + self.n_layers) * len(prompt.read) * self.tail

    def layer_steps(self, work: Workload) -> float:
        """One token in its clean row and in all perturbed ones, each from the layer that makes it."""
        later = sum(
            len(site.draws) * sum(self.n_layers - layer - (site.join == "exit") for layer in site.layers)
            for site in work.sites
            if site.is_in_ladder
        )
        return self.layers * (1 + later / self.n_layers)
