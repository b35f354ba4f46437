"""Continuations after a model's KV cache: it is understood once for all proofs, and some of them are ruled out.

A continuation that reads another prompt than the model in one go is wrong whatever it is to be used for. That is found
with a few forwards, so that a proof, which takes many, need not try it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from layertracer._errors import printable_cause
from layertracer.models import CallForm, Continuation, Network, StateMap, UnusableCacheError, is_out_of_memory
from layertracer.tracing._distributions.log_softmax import log_probs_of
from layertracer.tracing._failures import first_line, is_of_callers_making
from layertracer.tracing._passes.plain import plain_logits
from layertracer.tracing._proofs.checks import error_or_infinity, largest_difference, tolerance_of

_N_BEFORE, _SEVERAL = 5, 4
_CLEARLY = 10
"""How many times its tolerance an error must be for a form to be ruled out: what is nearly right is for the proofs."""


@dataclass(slots=True)
class UnderstoodCache:
    """A model's cache, understood when it is first asked for.

    Attributes:
        network: The model.
    """

    network: Network
    _state: StateMap | None = field(default=None, init=False)
    _errors: dict[CallForm, float] = field(default_factory=dict, init=False)

    def state(self) -> StateMap:
        """Which tensors of it are which layer's.

        Raises:
            UnusableCacheError: If that cannot be told.
        """
        if self._state is None:
            self._state = _understand(self.network)
        return self._state

    def note(self, continuation: Continuation, error: float) -> None:
        """Note how far clean prompts, read so, are from what they are in one go, in nats."""
        if not continuation.one_row and len(continuation.forms) == 1:
            self._errors.update(dict.fromkeys(continuation.forms, error))

    def rules_out(self, continuation: Continuation) -> bool:
        """Whether one of the calls that a continuation makes is wrong; it need not be right where none is."""
        return any(is_clearly_wrong(self.network, self._error_of(form)) for form in sorted(continuation.forms))

    def _error_of(self, form: CallForm) -> float:
        if form not in self._errors:
            self._errors[form] = _measure(self.state(), self.network, form)
        return self._errors[form]


def is_clearly_wrong(network: Network, error: float) -> bool:
    """Whether an error in nats is beyond what rounding may explain in whatever model: NaN is."""
    return not error <= _CLEARLY * tolerance_of(network, "nats")


def _measure(state: StateMap, network: Network, form: CallForm) -> float:
    """How far a clean call of some form after a prefix is from what the model says in one go; infinity if it raises."""
    length = _N_BEFORE + (_SEVERAL if form.has_several else 1)
    _, ids = network.probe(batch=2, length=length, seed=4)

    def difference() -> float:
        own = log_probs_of(plain_logits(network, ids, read=range(_N_BEFORE, length)))
        cache = state.read(ids[:, :_N_BEFORE])
        logits, _ = state.call(ids[:, _N_BEFORE:], cache, with_positions=form.with_positions)
        return largest_difference(log_probs_of(logits), own)

    return error_or_infinity(difference)


def _understand(network: Network) -> StateMap:
    if network.call.has_encoder:
        raise UnusableCacheError("it has an encoder, whose output its decoder's cache holds too")
    try:
        return StateMap(network)
    except UnusableCacheError:
        raise
    except Exception as error:  # whatever a model's own code raises with a cache means that nothing is to be had of it
        if is_out_of_memory(error) or is_of_callers_making(error):
            raise
        raise UnusableCacheError(f"running it with its cache raised {first_line(error)}") from printable_cause(error)
