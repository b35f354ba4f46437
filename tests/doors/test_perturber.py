"""The door of perturbations: classes that the library does not know, registered here, traced, stored and reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing._perturbers.cached_values import register_state_perturber
from layertracer.tracing._perturbers.protocol import Bench, LayerCall, register_perturber

from tests.doors.test_observer import plainly
from tests.support.models.families import build_tiny

PROMPTS = [(7, 23, 9, 4, 36, 38), (12, 5, 3, 19, 31, 8), (9, 11, 2, 4, 6, 1), (1, 2, 3, 4, 5, 6)]
SAMPLES = [lt.Sample(prompt_ids=ids, answer_id=3) for ids in PROMPTS]


@dataclass(frozen=True)
class Own:
    """A perturbation of one's own: what `how` says, at a site."""

    how: str
    site: str = "mixer_output"
    n_draws: int = 1
    positions: str = "all"
    kind: str = "own"

    def to_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return {"kind": self.kind, "how": self.how, "site": self.site, "draws": 1, "positions": self.positions}


@dataclass(frozen=True)
class OwnPerturber:
    """`Own` on tensors."""

    own: Own

    @property
    def site(self) -> str:
        """Where."""
        return self.own.site

    @property
    def is_per_prompt(self) -> bool:
        """Whether it asks for the prompts."""
        return self.own.how == "by prompt"

    @property
    def keeps_pairs(self) -> bool:
        """Whether it asks for the partner."""
        return self.own.how == "partner"

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Tensor:
        """One draw."""
        if self.own.how == "sign":
            done = -values
        elif self.own.how == "again":  # the mixer of positions in reverse order
            done = call.again(call.entering.flip(1))
        elif self.own.how == "partner":
            done = call.partners()
        else:
            factors = torch.tensor([1.0 - index for index in call.prompts], dtype=values.dtype)
            done = values * factors[:, None, None]
        return done[None].expand(len(draws), *done.shape)


def make(own: Own, bench: Bench) -> OwnPerturber:
    """Ready for a model."""
    assert bench.n_layers
    return OwnPerturber(own)


@pytest.fixture
def registered() -> Iterator[None]:
    """The kind, for the length of a test."""
    with register_perturber("own", make):
        yield


def part_of(layer: nn.Module, site: str) -> nn.Module:
    """The module whose output is the site."""
    return {"mixer_output": layer.self_attn, "block_output": layer, "mlp_output": layer.mlp}[site]  # type: ignore[return-value]  # modules


def values_of(output: Any) -> Tensor:
    """The tensor that a module returns, alone or first of several."""
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]  # a tensor


def done_by_hand(own: Own, index: int, stood: dict[int, Tensor], call: tuple[nn.Module, Any, Any, Any]) -> Tensor:
    """What a module's output becomes for one prompt."""
    module, args, kwargs, output = call
    if own.how == "sign":
        return -values_of(output)
    if own.how == "partner":
        return stood[index ^ 1]
    if own.how == "by prompt":
        return values_of(output) * (1.0 - index)
    # Norms are by position: what enters in reverse order is normed in reverse order.
    return values_of(module.forward(*args, **{**kwargs, "hidden_states": kwargs["hidden_states"].flip(1)}))


def by_hooks(own: Own, layer: int) -> np.ndarray:
    """JS divergence [prompt] with PyTorch's own hooks, in float64."""
    module = build_tiny("llama").double()
    part = part_of(module.model.layers[layer], own.site)  # type: ignore[union-attr, index]  # a llama
    stood: dict[int, Tensor] = {}

    def run(index: int, change: bool) -> Tensor:
        def after(part: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
            if not change:
                stood[index] = values_of(output).clone()
                return output
            done = done_by_hand(own, index, stood, (part, args, kwargs, output))
            return (done, *output[1:]) if isinstance(output, tuple) else done

        hook = part.register_forward_hook(after, with_kwargs=True)
        with torch.no_grad():
            probs: Tensor = module(torch.tensor([PROMPTS[index]]), use_cache=False).logits[0, -1].softmax(-1)
        hook.remove()
        return probs

    clean = torch.stack([run(index, change=False) for index in range(len(PROMPTS))])
    changed = torch.stack([run(index, change=True) for index in range(len(PROMPTS))])
    middle = (clean + changed) / 2
    js: np.ndarray = (sum((p * (p / middle).log2()).sum(dim=-1) for p in (clean, changed)) / 2).numpy()  # type: ignore[union-attr]  # tensors
    return js


@pytest.mark.parametrize(
    "own",
    [
        Own("sign"),
        Own("sign", site="block_output"),
        Own("again"),
        Own("by prompt", site="mlp_output"),
        Own("partner", site="block_output"),
        Own("partner"),
    ],
    ids=str,
)
@pytest.mark.parametrize("share_prefix", [None, True])
@pytest.mark.usefixtures("registered")
def test_a_perturbation_is_traced_stored_and_reported(own: Own, share_prefix: bool | None, tmp_path: Path) -> None:
    """What one's own class does is what hooks do, with every prefix shared that may be; its run is kept and shown."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    trace = lt.trace(model, SAMPLES, perturbation=own, share_prefix=share_prefix, audit=1)
    for layer in range(model.anatomy.n_layers):
        np.testing.assert_allclose(trace.js_bits[:, 0, layer], by_hooks(own, layer), atol=3e-6, err_msg=str(layer))
    assert trace.audit is not None
    assert trace.audit.worst_bits is not None
    assert not [note for note in trace.audit.notes if "anew" in note]
    trace.save(tmp_path / "run")
    loaded = lt.load_run(tmp_path / "run")
    assert loaded == trace
    assert loaded.spec.perturbation["how"] == own.how
    assert loaded.report(tmp_path / "report.html").exists()


def prefixed(n_prompts: int) -> list[lt.Sample]:
    """Prompts with a long beginning in common."""
    ids = np.random.default_rng(1).integers(1, 40, size=(n_prompts, 30))
    ids[:, :26] = ids[0, :26]
    return [lt.Sample(prompt_ids=tuple(row), answer_id=3) for row in ids.tolist()]


@pytest.mark.usefixtures("registered")
def test_what_depends_on_the_prompt_shares_no_prefix() -> None:
    """A prefix of several prompts cannot be perturbed for each of them: it is not shared, and the plan says so."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    shared = lt.plan(model, prefixed(4), perturbation=Own("sign"), share_prefix=True)
    own = lt.plan(model, prefixed(4), perturbation=Own("by prompt"), share_prefix=True)
    assert shared.prefixes
    assert not own.prefixes
    assert any("depends on the prompt" in note for note in own.notes)


@pytest.mark.usefixtures("registered")
def test_a_layer_does_not_run_again_in_an_open_cache() -> None:
    """Where rows would go on from a prefix, its prompts are traced without it, and the trace says why."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    trace = lt.trace(model, prefixed(4), perturbation=Own("again"), share_prefix=True)
    alone = lt.trace(model, prefixed(4), perturbation=Own("again"), share_prefix=False)
    (note,) = [one for one in trace.warnings if "cannot run again while the model's own cache is open" in one]
    assert note.endswith("say is_per_prompt.")
    assert ".." not in note
    np.testing.assert_allclose(trace.js_bits, alone.js_bits, atol=1e-6)


@pytest.mark.parametrize("memory", [None, "43MB"])
@pytest.mark.usefixtures("registered")
def test_partners_stay_in_one_batch(memory: str | None) -> None:
    """However few prompts go into a batch, it holds pairs, and each gives what it gives among all."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    samples = [*SAMPLES, *prefixed(2), *SAMPLES]
    trace = lt.trace(model, samples, perturbation=Own("partner"), memory=memory, audit=1)
    first = lt.trace(model, SAMPLES, perturbation=Own("partner"))
    for start in (0, 6):
        np.testing.assert_allclose(trace.js_bits[start : start + 4], first.js_bits, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "said"),
    [(SAMPLES[:3], "there are 3 prompts"), ([SAMPLES[0], *prefixed(1)], "have 6 and 30 tokens")],
)
@pytest.mark.usefixtures("registered")
def test_prompts_without_a_partner_are_refused(samples: list[lt.Sample], said: str) -> None:
    """Partners are told by their order, and run in one batch."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    with pytest.raises(lt.UsageError, match=said):
        lt.trace(model, samples, perturbation=Own("partner"))


@dataclass(frozen=True)
class Told:
    """A perturber that does whatever it is told to."""

    own: Own
    does: Callable[..., Any]
    is_per_prompt = False
    keeps_pairs = False

    @property
    def site(self) -> str:
        """Where."""
        return self.own.site

    def __call__(self, values: Tensor, *, call: LayerCall, draws: Sequence[int]) -> Any:
        """What it is told to."""
        return self.does(values, call, draws)


def told(does: Callable[..., Any], own: Own, *, plain: bool = False, **asked: Any) -> lt.Trace:
    """A trace with a perturber that does this."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    with register_perturber("own", lambda own, _: Told(own, does)):
        return lt.trace(plainly(model) if plain else model, SAMPLES, perturbation=own, **asked)


def fails(*_: Any) -> None:
    """A mistake of one's own."""
    raise ValueError("my own mistake.")


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("own", [Own("t"), Own("t", site="block_output"), Own("t", positions="last")], ids=str)
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (lambda values, *_: -values, r"made torch.float32 of shape \[\d, 6, 32\] of values of shape \[\d, 6, 32\]"),
        (
            lambda values, *_: values.new_zeros(1, 1, 1, 32),
            r"Expected floating-point numbers of shape \[1, \d, 6, 32\]",
        ),
        (lambda values, *_: torch.cat([values, values], dim=-1)[None], r"shape \[1, \d, 6, 64\]"),
        (lambda values, *_: torch.ones(1, *values.shape, dtype=torch.long), "made torch.int64"),
        (lambda *_: None, "made None"),
        (
            fails,
            r"raised ValueError: my own mistake at layer 0 \(.*test_perturber.py, line \d+\)\. That is code of its",
        ),
        (lambda _, call, __: call.again(call.entering[..., :3]), "Layer 0 cannot run again on torch.float32 of shape"),
    ],
)
def test_what_a_perturber_may_not_do_is_told_as_its_own(
    does: Callable[..., Any], said: str, own: Own, plain: bool
) -> None:
    """A wrong shape, no floating-point numbers, an exception: never stretched, nor the model's or the tool's fault."""
    with pytest.raises(lt.UsageError, match=said) as caught:
        told(does, own, plain=plain, audit=0)
    assert not any(words in str(caught.value) for words in ("an error of its own", "a fault of LayerTracer"))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("site", ["mixer_output", "block_output"])
def test_what_is_written_over_reaches_no_clean_row(site: str, plain: bool) -> None:
    """In place, in another floating type, or over what the call holds: the numbers are those of a copy, unaudited."""

    def in_place(values: Tensor, call: LayerCall, draws: Sequence[int]) -> Tensor:
        call.entering.fill_(7)
        call.base.fill_(7)
        return values.neg_().double().expand(len(draws), *values.shape)

    trace = told(in_place, Own("t", site=site), plain=plain, audit=0)
    for layer in range(trace.n_layers):
        np.testing.assert_allclose(trace.js_bits[:, 0, layer], by_hooks(Own("sign", site=site), layer), atol=3e-6)


def test_what_was_finished_before_a_perturber_failed_is_kept() -> None:
    """Prompts of another length are run before: their numbers come with the error."""

    def fails_on_long(values: Tensor, _: LayerCall, draws: Sequence[int]) -> Tensor:
        if values.shape[1] > 6:
            fails()
        return -values.expand(len(draws), *values.shape)

    model = lt.wrap_model(build_tiny("llama"), name="llama")
    own = register_perturber("own", lambda own, _: Told(own, fails_on_long))
    with own, pytest.raises(lt.UsageError, match="'own' raised") as caught:
        lt.trace(model, [*SAMPLES, lt.Sample(prompt_ids=(*PROMPTS[0], 1, 2), answer_id=3)], perturbation=Own("t"))
    assert caught.value.record is not None
    assert caught.value.record.n_prompts == 4  # type: ignore[attr-defined]  # a record


@pytest.mark.parametrize(
    ("makes", "said"),
    [
        (fails, "raised ValueError: my own mistake when it was made ready"),
        (lambda *_: 3, r"made into 3 \(int\), which is no"),
    ],
)
def test_what_is_made_of_a_specification_is_looked_at(makes: Callable[..., Any], said: str) -> None:
    """Before anything runs."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    with register_perturber("own", makes), pytest.raises(lt.UsageError, match=f"'own' {said}|'own' was {said}"):
        lt.trace(model, SAMPLES, perturbation=Own("t"))


@pytest.mark.parametrize(
    ("does", "said"),
    [
        (fails, "raised ValueError: my own mistake at what layer 0 remembers"),
        (lambda values: values[:, :1], "Return the perturbed values alone"),
    ],
)
def test_perturbers_of_memories_are_looked_at(does: Callable[..., Any], said: str) -> None:
    """As those of the other sites."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    made = register_state_perturber("own", lambda *_: lambda values, **__: does(values))
    with register_perturber("own", make), made, pytest.raises(lt.UsageError, match=f"'own' .*{said}"):
        lt.trace(model, SAMPLES, perturbation=Own("t", site="state"))


def test_an_unknown_kind_is_refused() -> None:
    """A class that nobody can carry out is none of a trace's perturbations."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    with pytest.raises(lt.UsageError, match="perturbation must be a Mask, Noise or Skip"):
        lt.trace(model, SAMPLES, perturbation=Own("sign"))


@dataclass(frozen=True)
class Saying(Own):
    """A perturbation that says of itself what it is told to."""

    said: Any = None
    how: str = "sign"

    def to_dict(self) -> Any:
        """Whatever it is told to say."""
        right = super().to_dict()
        return right | self.said if isinstance(self.said, dict) else self.said


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"site": "mlp_output"}, r"says site='mlp_output'.*what it does is site='mixer_output'"),
        ({"draws": 7}, "says draws=7"),
        ({"kind": None}, "says kind=None"),
        ({"positions": "last"}, "says positions='last'"),
        ({"array": np.ones(2)}, "cannot be stored as JSON"),
        ({"number": float("nan")}, "cannot be stored as JSON"),
        ("flip", "must return a dictionary"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("registered")
def test_what_is_stored_of_it_is_what_it_does(said: Any, words: str) -> None:
    """A specification that names another site, kind, number of draws or positions is refused before anything runs."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    with pytest.raises(lt.UsageError, match=words):
        lt.trace(model, SAMPLES, perturbation=Saying(said=said))


@pytest.mark.parametrize("wrong", [{"n_draws": 0}, {"positions": "first"}, {"site": "nosuch"}], ids=str)
@pytest.mark.usefixtures("registered")
def test_what_nobody_knows_is_refused(wrong: dict[str, Any]) -> None:
    """No draws, positions that are none and a site that is none are errors of the user's own words."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    with pytest.raises(lt.LayerTracerError, match=r"n_draws|positions|site"):
        lt.trace(model, SAMPLES, perturbation=Own("sign", **wrong))
