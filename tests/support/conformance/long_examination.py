"""A family held against plain hooks on prompts that reach further than any probe, as users bring its models.

Prompts of up to 50 tokens, more than a short probe's 13; windows, chunks and numbers of chosen keys of 20 (see
`long_settings`); parameters that require gradients; prompts that begin alike, some of them for longer, beside others
that share nothing; several perturbed rows of each. `examine_long` traces one case in several ways and holds all of it
against the same model run by plain hooks, one prompt and one forward at a time.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

import layertracer as lt

from tests.architectures.read_by_hand.table import TABLE
from tests.support.conformance.cases import REFUSED, Case
from tests.support.conformance.examination import ANSWER, JS_BITS, READOUT_NATS, SITES, gap_of, quietly
from tests.support.oracles.by_family import PlainModel, Reading
from tests.support.oracles.long_prompts import LongOracle
from tests.support.oracles.plain_hooks import Numbers

Question = Callable[[LongOracle], Numbers]

PAD = 0
N_DRAWS = 2
N_SHARING = 5
"""Prompts that begin alike: the first ones."""
SUBSET = (0, 4, 5, 7)
"""Prompts that the slower oracles are asked about: of all kinds."""


@dataclass(frozen=True, kw_only=True)
class LongVerdict:
    """What was found with long prompts, and how far it is from the oracle.

    Attributes:
        case: The case.
        faults: What is wrong, in words; empty where nothing is.
        refusals: The errors with which LayerTracer refuses the model or a trace.
        says: What the traces themselves say: warnings and notes.
        n_prefixes: How many prefixes were read once for several prompts.
        errors: Largest differences from the oracle by what was traced: of readouts in nats, of all else in bits.
        seconds: What the examination took.
    """

    case: Case
    faults: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    n_prefixes: int = 0
    errors: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_refused(self) -> bool:
        """Whether nothing of the model is traced."""
        return bool(self.refusals) and not self.errors


def long_readings(*, encoder_decoder: bool) -> tuple[Reading, ...]:
    """The prompts, the same for every family."""
    generator = np.random.default_rng(23)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(int(token) for token in generator.integers(3, 101, length))

    if encoder_decoder:
        lengths = ((50, 40), (50, 40), (24, 40), (50, 9), (33, 26), (50, 26), (9, 40), (50, 40))
        return tuple(Reading(ids=ids(source), decoder_ids=ids(own)) for source, own in lengths)
    common, longer, longest = ids(16), ids(14), ids(10)
    padded = (*ids(6), PAD, PAD, *ids(8))
    beginnings = [
        *(common + longer + longest,) * 2,
        *(common + longer, common, common),
        *(padded, padded),
        *((), (), ()),
    ]
    lengths = (50, 50, 50, 50, 24, 50, 24, 50, 50, 27)
    return tuple(Reading(ids=(*own, *ids(n - len(own)))) for own, n in zip(beginnings, lengths, strict=True))


def examine_long(case: Case) -> LongVerdict:
    """One case traced on long prompts, beside the oracle."""
    began = time.perf_counter()
    case = replace(case, is_long=True)
    with quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = lt.wrap_model(_as_users_bring_it(case), name=case.label)
        except lt.LayerTracerError as error:
            faults = () if case.label in REFUSED else (f"refused, and no refusal is expected: {_told(error)}",)
            verdict = LongVerdict(case=case, faults=faults, refusals=(_told(error),))
        else:
            verdict = _LongExamination(case, model).verdict()
    return replace(verdict, seconds=time.perf_counter() - began)


def _as_users_bring_it(case: Case) -> nn.Module:
    """The module with gradients on, as constructors and `from_pretrained` leave it."""
    return case.build().requires_grad_(True)


def _by_text(found: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What was found, each thing once, with all that it was found in."""
    texts = dict.fromkeys(text for _, text in found)
    return tuple(f"{', '.join(name for name, own in found if own == text)}: {text}" for text in texts)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


class _LongExamination:
    """A wrapped model beside the same model run by plain hooks."""

    def __init__(self, case: Case, model: lt.TracedModel) -> None:
        self.case, self.model = case, model
        self.by_hand = TABLE.get(case.key)
        found = model.anatomy.layers[0].path.rpartition(".")[0]
        layers = self.by_hand.layers if self.by_hand else found
        plain = PlainModel(case.name, case.build(), layers=layers, encoder_decoder=case.encoder_decoder)
        readings = long_readings(encoder_decoder=case.encoder_decoder)
        self.samples = [
            lt.Sample(prompt_ids=reading.ids, decoder_ids=reading.decoder_ids, answer_id=ANSWER) for reading in readings
        ]
        shape = (len(plain.layers), N_DRAWS, model.anatomy.d_model)
        self.keep = np.random.default_rng(19).random(shape) > 0.4
        self.oracle = LongOracle(plain, readings, self.keep, SUBSET)
        self.faults: list[tuple[str, str]] = []
        self.refusals: list[tuple[str, str]] = []
        self.says: list[str] = list(model.self_check.notes)
        self.errors: dict[str, float] = {}
        self.n_prefixes = 0

    def verdict(self) -> LongVerdict:
        """Everything compared."""
        for name, share in (("divergences", None), ("shared prefixes", True)):
            trace = self._trace(name, share_prefix=share)
            if trace is not None:
                self._hold(name, trace.js_bits, lambda oracle: oracle.js_bits, JS_BITS)
                own = trace.target_log_prob[:, -1]
                self._hold(f"target, {name}", own, lambda oracle: oracle.log_probs[:, ANSWER], READOUT_NATS)
                self.n_prefixes = max(self.n_prefixes, len(trace.plan["prefixes"]))
        self._compare_readouts()
        self._compare_branches()
        if self.oracle.is_row_of_tokens:
            self._compare_some("mean fill", lambda oracle: oracle.mean_fill, fill="mean")
            self._compare_some("last position", lambda oracle: oracle.last_position, positions="last")
        if not self.errors and self.refusals and self.case.label not in REFUSED:
            self.faults.append(("every trace", "refused, and no refusal is expected"))
        return LongVerdict(
            case=self.case,
            faults=_by_text(self.faults),
            refusals=_by_text(self.refusals),
            says=tuple(dict.fromkeys(self.says)),
            n_prefixes=self.n_prefixes,
            errors=self.errors,
        )

    def _trace(self, name: str, *, share_prefix: bool | None, **mask: Any) -> Any:
        """A trace, None where it is refused."""
        perturbation = lt.Mask.explicit(self.keep, **mask)
        return self._asked(
            name,
            lambda: lt.trace(self.model, self.samples, perturbation=perturbation, share_prefix=share_prefix),
        )

    def _asked(self, name: str, ask: Callable[[], Any]) -> Any:
        try:
            answer = ask()
        except lt.LayerTracerError as error:
            # A broken model, which none of these is, or an error of LayerTracer's own is no refusal.
            is_refusal = type(error) not in {lt.LayerTracerError, lt.ModelError}
            (self.refusals if is_refusal else self.faults).append((name, _told(error)))
        except Exception as error:  # noqa: BLE001 — whatever is raised is what is looked for
            self.faults.append((name, f"crashed: {_told(error)}"))
        else:
            self.says += getattr(answer, "warnings", ())
            return answer
        return None

    def _compare_readouts(self) -> None:
        samples = [self.samples[index] for index in SUBSET]
        readout = self._asked("readouts", lambda: lt.read_layers(self.model, samples))
        if readout is not None:
            self._hold("readouts", readout.log_probs.numpy(), lambda oracle: oracle.readouts, READOUT_NATS)

    def _compare_branches(self) -> None:
        """Sites inside the layer, where the branch has a name and the tables are of this case."""
        if self.by_hand is None or self.case.settings or self.model.self_check.method != "ladder":
            return
        for site, branch, kinds in (
            (SITES[0], self.by_hand.mixer_branch, self.by_hand.mixers),
            (SITES[1], self.by_hand.mlp_branch, self.by_hand.mlps),
        ):
            if branch is None or site not in self.model.self_check.errors or not self.model.self_check[site].passed:
                continue
            every = kinds(self.oracle.plain.module.config)
            missing = [every[int(path.rpartition(".")[2])] == "none" for path in self.oracle.plain.paths]
            self._compare_some(site, methodcaller("branch", branch, missing), site=site)

    def _compare_some(self, name: str, question: Question, **mask: Any) -> None:
        """Perturbed outputs of some of the prompts."""
        trace = self._trace(name, share_prefix=True, **mask)
        if trace is not None:
            self._hold(name, np.asarray(trace.js_bits)[list(SUBSET)], question, JS_BITS)

    def _hold(self, name: str, found: NDArray[Any], question: Question, tolerance: float) -> None:
        """What was traced beside what is right."""
        expected = question(self.oracle)
        error = gap_of(found, expected)
        if not error <= tolerance:  # NaN is not small
            error = self._beside_both(found, expected, question)
            if error <= tolerance:
                own = gap_of(expected, question(self.oracle.precise))
                self.says.append(f"{name}: rounding decides: the model itself, in float64, differs by {own:.1g}")
        self.errors[name] = error
        if not error <= tolerance:
            unit = "nats" if tolerance == READOUT_NATS else "bits"
            self.faults.append((name, f"off by {error:.2g} {unit}"))

    def _beside_both(self, found: NDArray[Any], expected: Numbers, question: Question) -> float:
        """The difference where rounding may decide: of two values of the model, in float32 and in float64, the closer.

        Whether a key is chosen or an expert asked can hang on the last bit; both values are the model's own then.
        """
        precise = question(self.oracle.precise)
        missing = np.isnan(expected)
        if (np.isnan(precise) != missing).any() or (np.isnan(found) != missing).any():
            return float("nan")
        return float(np.minimum(abs(found - expected), abs(found - precise))[~missing].max())
