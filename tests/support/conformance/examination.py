"""A family held against its oracles: layers, kinds, readouts, divergences, sites.

`examine` does the whole comparison for one case and returns a `Verdict`; tests assert on it, and
`scripts/make_architectures.py` writes it down.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

import layertracer as lt

from tests.architectures.read_by_hand.reading import Kinds
from tests.architectures.read_by_hand.table import TABLE
from tests.support.conformance.cases import REFUSED, VARIANTS, Case
from tests.support.oracles.by_family import PlainModel, Reading
from tests.support.oracles.plain_hooks import Numbers

READOUT_NATS = 1e-3
JS_BITS = 1e-4
ANSWER = 42
SITES = ("mixer_output", "mlp_output")
OWN_TOKENS = 4
_WITHOUT_SHARING = ("without the model's own cache", "without shared prefixes", "by the plain method")
"""In the words of a trace: ways on which prompts share no prefix after all."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is compared.

    Attributes:
        lengths: Of the prompts; several are of one length, for these run as one batch.
        decoder_lengths: Of what a decoder has read.
        n_draws: Masks for each layer.
        n_at_sites: Prompts for which the oracles of sites inside the layer run.
        n_sharing: Prompts with a prefix in common, that of the first prompt.
    """

    lengths: tuple[int, ...]
    decoder_lengths: tuple[int, ...]
    n_draws: int
    n_at_sites: int
    n_sharing: int


FULL = Extent(lengths=(9, 14, 9, 5, 14), decoder_lengths=(6, 10, 6, 4, 10), n_draws=2, n_at_sites=2, n_sharing=3)
QUICK = Extent(lengths=(14, 14), decoder_lengths=(10, 10), n_draws=1, n_at_sites=1, n_sharing=0)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found in one case, and how far it is from the oracles.

    Attributes:
        case: The case.
        faults: What is wrong with what is measured, in words; empty where nothing is.
        misnamed: What is wrong with the names of mixers and MLPs.
        refusal: The error with which LayerTracer refuses the model, None where it does not.
        n_layers: Number of layers found.
        mixers: Kind of every layer's mixer, as LayerTracer says.
        mlps: Likewise of its MLP.
        is_read: Whether somebody has read the family's source and written down what its layers are.
        self_check: The proof at load.
        readout_nats: Largest difference of a log-probability from the oracle's, over all layers, tokens and prompts.
        js_bits: Largest difference of a divergence from the oracle's, over all layers, draws and prompts.
        sites: Sites inside the layer that are offered.
        site_bits: For the sites that have an oracle, the largest difference from it.
        sharing: How prompts go on from a prefix that they share; empty where that was not looked into.
        not_shared: Why they cannot; empty where they can.
        sharing_bits: For prompts that share a prefix, the largest difference of a divergence from the oracle's.
        seconds: What the examination took.
    """

    case: Case
    faults: tuple[str, ...] = ()
    misnamed: tuple[str, ...] = ()
    refusal: lt.LayerTracerError | None = None
    n_layers: int = 0
    mixers: tuple[str, ...] = ()
    mlps: tuple[str, ...] = ()
    is_read: bool = True
    self_check: Any = None
    readout_nats: float = float("nan")
    js_bits: float = float("nan")
    sites: tuple[str, ...] = ()
    site_bits: Mapping[str, float] = field(default_factory=dict)
    sharing: str = ""
    not_shared: str = ""
    sharing_bits: float = float("nan")
    seconds: float = 0.0


def readings(case: Case, extent: Extent) -> tuple[Reading, ...]:
    """The prompts of a case, the same for every family."""
    generator = np.random.default_rng(17)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(int(token) for token in generator.integers(3, 101, length))

    if not case.encoder_decoder:
        return tuple(Reading(ids=ids(length)) for length in extent.lengths)
    pairs = zip(extent.lengths, extent.decoder_lengths, strict=True)
    return tuple(Reading(ids=ids(length), decoder_ids=ids(own)) for length, own in pairs)


def examine(case: Case, extent: Extent = FULL) -> Verdict:
    """One case held against its oracles."""
    began = time.perf_counter()
    with quietly():
        try:
            model = lt.wrap_model(case.build(), name=case.label)
        except lt.LayerTracerError as error:
            verdict = _refused(case, error)
        else:
            verdict = _Examination(case, model, extent).verdict()
    return replace(verdict, seconds=time.perf_counter() - began)


def _refused(case: Case, error: lt.LayerTracerError) -> Verdict:
    expected = REFUSED.get(case.label)
    faults = []
    if expected is None:
        faults.append(f"refused, and no refusal is expected: {type(error).__name__}: {error}")
    elif expected.message not in str(error) or type(error).__name__ != expected.error:
        faults.append(
            f"refused otherwise than by {expected.error} with {expected.message!r}: {type(error).__name__}: {error}"
        )
    return Verdict(case=case, faults=tuple(faults), refusal=error)


class _Examination:
    """A wrapped model beside the same model run by plain hooks."""

    def __init__(self, case: Case, model: lt.TracedModel, extent: Extent) -> None:
        self.case, self.model = case, model
        self.by_hand = TABLE.get(case.key)
        # Where experts mix prompts or positions, what they are by reading is not what they do.
        self.is_as_read = self.by_hand is not None and case not in VARIANTS
        found = model.anatomy.layers[0].path.rpartition(".")[0]
        self.plain = PlainModel(
            case.name,
            case.build(),
            layers=self.by_hand.layers if self.by_hand else found,
            encoder_decoder=case.encoder_decoder,
        )
        self.readings = readings(case, extent)
        self.samples = [
            lt.Sample(prompt_ids=reading.ids, decoder_ids=reading.decoder_ids, answer_id=ANSWER)
            for reading in self.readings
        ]
        # Half of the dimensions of every layer in each draw.
        shape = (len(self.plain.layers), extent.n_draws, model.anatomy.d_model)
        self.keep = np.random.default_rng(11).random(shape) > 0.5
        self.extent = extent
        self.faults: list[str] = []

    def verdict(self) -> Verdict:
        """Everything compared."""
        layers, plain = self.model.anatomy.layers, self.plain
        if self.case.label in REFUSED:
            self.faults.append("not refused, although it was")
        found = Verdict(
            case=self.case,
            n_layers=len(layers),
            mixers=tuple(layer.mixer for layer in layers),
            mlps=tuple(layer.mlp for layer in layers),
            is_read=self.by_hand is not None,
            self_check=self.model.self_check,
        )
        paths, width = tuple(layer.path for layer in layers), plain.width(self.readings[0])
        if (paths, self.model.anatomy.d_model) != (plain.paths, width):
            self.faults.append(
                f"layers {paths} of width {self.model.anatomy.d_model}, by reading {plain.paths} of width {width}"
            )
            return replace(found, faults=tuple(self.faults))
        self.expected_readouts = np.stack([plain.readouts(reading) for reading in self.readings])
        readout_nats, js_bits = self._compare_readouts(), self._compare_divergences()
        sites, site_bits = self._compare_sites()
        found = replace(found, misnamed=self._misnamed(found), readout_nats=readout_nats, js_bits=js_bits)
        found = self._with_sharing(replace(found, sites=sites, site_bits=site_bits))
        return replace(found, faults=tuple(self.faults))

    def _misnamed(self, found: Verdict) -> tuple[str, ...]:
        if not self.is_as_read:
            return ()
        pairs = {
            "mixers": (found.mixers, self._read(self.by_hand.mixers)),
            "MLPs": (found.mlps, self._read(self.by_hand.mlps)),
        }
        return tuple(
            f"{what} are called {abbreviate(named)}; by reading they are {abbreviate(read)}"
            for what, (named, read) in pairs.items()
            if named != read
        )

    def _read(self, kinds: Kinds) -> tuple[str, ...]:
        """What was read, of those layers that run."""
        every = kinds(self.plain.module.config)
        return tuple(every[int(path.rpartition(".")[2])] for path in self.plain.paths)

    def _compare_readouts(self) -> float:
        expected = self.expected_readouts
        self._expect_change(np.abs(np.diff(expected, axis=1)).max(axis=(0, 2)), READOUT_NATS, "a layer's work")
        readout = lt.read_layers(self.model, self.samples)
        error = max(
            gap_of(readout.log_probs.numpy(), expected[:, 1:]),
            gap_of(readout.embedding_log_probs.numpy(), expected[:, 0]),
        )
        self._expect_small(error, READOUT_NATS, "readouts differ by {:.2g} nats")
        return error

    def _compare_divergences(self) -> float:
        expected = np.stack([self.plain.js_bits(reading, self.keep) for reading in self.readings])
        self._expect_change(expected.max(axis=(0, 1)), JS_BITS, "masking a layer")
        trace = lt.trace(self.model, self.samples, perturbation=lt.Mask.explicit(self.keep))
        error = gap_of(trace.js_bits, expected)
        self._expect_small(error, JS_BITS, "divergences differ by {:.2g} bits")
        followed = np.concatenate([trace.embedding_log_prob[:, None], trace.target_log_prob], axis=1)
        followed_error = gap_of(followed, self.expected_readouts[..., ANSWER])
        self._expect_small(followed_error, READOUT_NATS, "the target differs by {:.2g} nats")
        return error

    def _compare_sites(self) -> tuple[tuple[str, ...], dict[str, float]]:
        """The sites that are offered, and for those that have an oracle the error."""
        check = self.model.self_check
        proved = [one.name for one in check.checks if one.passed and check.method == "ladder"]
        offered = tuple(site for site in SITES if site in proved)
        errors = {}
        for site in offered:
            expected = self._site_oracle(site)
            if expected is not None:
                errors[site] = gap_of(self._at_site(site), expected)
                self._expect_small(errors[site], JS_BITS, f"{site} differs by {{:.2g}} bits")
        return offered, errors

    def _at_site(self, site: Any) -> NDArray[np.float32]:
        mask = lt.Mask.explicit(self.keep, site=site)
        return np.asarray(lt.trace(self.model, self.samples, perturbation=mask).js_bits[: self.extent.n_at_sites])

    def _site_oracle(self, site: str) -> Numbers | None:
        """Divergences by plain hooks on the branch as read, NaN in layers without it; None where it has no name."""
        if not self.is_as_read:
            return None
        is_mixer = site == "mixer_output"
        branch = self.by_hand.mixer_branch if is_mixer else self.by_hand.mlp_branch
        if branch is None:
            return None
        chosen = self.readings[: self.extent.n_at_sites]
        bits = np.stack([self.plain.branch_js_bits(reading, self.keep, branch) for reading in chosen])
        kinds = self._read(self.by_hand.mixers if is_mixer else self.by_hand.mlps)
        bits[..., [kind == "none" for kind in kinds]] = np.nan
        return bits

    def _with_sharing(self, found: Verdict) -> Verdict:
        """What prompts with a prefix in common give, by whatever way the model goes on from it."""
        if not self.extent.n_sharing or self.case.encoder_decoder:
            return found
        try:
            sharing, not_shared = spell_continuation(self.model.prefix_proof.ladder("block_output").continuation), ""
        except lt.SiteError as refusal:
            sharing, not_shared = "no", str(refusal)
        prefix, own = self.readings[1].ids[:-OWN_TOKENS], self.readings[0].ids
        prompts = [Reading(ids=(*prefix, *own[first : first + OWN_TOKENS])) for first in range(self.extent.n_sharing)]
        mask = lt.Mask.explicit(self.keep[:, :1])
        samples = [lt.Sample(prompt_ids=reading.ids, answer_id=ANSWER) for reading in prompts]
        traced = lt.trace(self.model, samples, perturbation=mask, share_prefix=True)
        expected = np.stack([self.plain.js_bits(reading, self.keep[:, :1]) for reading in prompts])
        error = gap_of(traced.js_bits, expected)
        self._expect_small(error, JS_BITS, "with a shared prefix, divergences differ by {:.2g} bits")
        fell_back = [warning for warning in traced.warnings if any(one in warning for one in _WITHOUT_SHARING)]
        not_shared = not_shared or " ".join(fell_back)  # after all, as these prompts themselves show
        return replace(found, sharing=sharing, not_shared=not_shared, sharing_bits=error)

    def _expect_small(self, error: float, tolerance: float, fault: str) -> None:
        if not error <= tolerance:  # NaN is not small
            self.faults.append(fault.format(error))

    def _expect_change(self, by_layer: NDArray[np.float64], tolerance: float, what: str) -> None:
        """What changes nothing cannot be got wrong, and shows nothing."""
        if by_layer.min() < 2 * tolerance:
            self.faults.append(f"{what} changes nothing (by layer: {np.array2string(by_layer, precision=2)})")


def gap_of(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference; NaN where one of them alone is not a number."""
    missing = np.isnan(expected)
    if (np.isnan(found) != missing).any():
        return float("nan")
    return float(np.abs(found.astype(np.float64) - expected)[~missing].max())


def spell_continuation(one: Any) -> str:
    """How rows go on from what they remember, in a few words."""
    told = " with positions" if one.with_positions else ""
    few = "" if one.few_logits else " with all logits"
    least = f", at least {one.shortest}" if one.shortest > 1 else ""
    return ("one by one" if one.stepwise else "together") + told + few + least


def abbreviate(kinds: Sequence[str]) -> str:
    """Equal neighbours counted.

    Example:
        >>> abbreviate(["mamba", "mamba", "attention"])
        '2×mamba, attention'
    """
    runs = [(kind, len(list(run))) for kind, run in groupby(kinds)]
    return ", ".join(f"{count}×{kind}" if count > 1 else kind for kind, count in runs)


@contextmanager
def quietly() -> Iterator[None]:
    """Without what LayerTracer logs of a model that its ladder does not fit: it is in the verdict."""
    log = logging.getLogger("layertracer")
    was, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was
