"""What a user reads when a model or a prompt cannot be traced, and that nothing is lost or left behind."""

from __future__ import annotations

import logging
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.reports import summarize
from layertracer.tracing import token_texts
from layertracer.tracing._failures import explain_failure

from tests.support.models.families import build_tiny
from tests.support.models.plain_modules import Block, NanoGPT
from tests.support.tiny import fresh, tiny

SHORT, LONG = (5, 9, 33, 71), (8, 44, 12, 90, 27, 61, 3, 56, 19, 77)


def sample(*ids: int, answer: int = 7) -> lt.Sample:
    """A prompt of token ids."""
    return lt.Sample(prompt_ids=ids, answer_id=answer)


def poisoned(layer: int, value: float = float("nan")) -> nn.Module:
    """A tiny Llama with one bad weight in the MLP of one layer."""
    module = build_tiny("llama")
    with torch.no_grad():
        module.model.layers[layer].mlp.down_proj.weight[3, 5] = value
    return module


# ---------------------------------------------------------------- numbers that are none


@pytest.mark.parametrize("layer", [0, 2, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_with_a_bad_weight_is_refused_by_the_layer_that_shows_it_first(layer: int, value: float) -> None:
    """NaN or infinity in the weights: the error names the layer after which it first appears."""
    with pytest.raises(lt.NonFiniteError, match=rf"layer {layer}\b"):
        lt.wrap_model(poisoned(layer, value), name="poisoned")


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_a_weight_that_turns_bad_later_is_found_while_tracing(layer: int) -> None:
    """The check at load is not the last word: a trace of a model that broke afterwards names the layer too."""
    module = build_tiny("llama")
    model = lt.wrap_model(module, name="poisoned")
    with torch.no_grad():
        module.model.layers[layer].mlp.down_proj.weight[3, 5] = float("nan")
    with pytest.raises(lt.NonFiniteError, match=rf"layer {layer}\b"):
        lt.trace(model, [sample(*SHORT)], perturbation=lt.Mask(draws=1))
    with pytest.raises(lt.NonFiniteError, match=rf"layer {layer}\b"):
        lt.read_layers(model, [sample(*SHORT)])


def test_a_token_whose_embedding_is_bad_is_found_while_tracing() -> None:
    """A prompt that holds the token fails by naming the embeddings; prompts without it are traced."""
    module = build_tiny("llama")
    model = lt.wrap_model(module, name="poisoned")
    with torch.no_grad():
        module.model.embed_tokens.weight[71] = float("nan")
    with pytest.raises(lt.NonFiniteError, match="embedding"):
        lt.trace(model, [sample(*SHORT)], perturbation=lt.Mask(draws=1))
    trace = lt.trace(model, [sample(*LONG)], perturbation=lt.Mask(draws=1))
    assert np.isfinite(trace.js_bits).all()


def test_a_bad_unembedding_is_told_from_a_bad_layer() -> None:
    """Where every layer is sound, the error points behind the last one."""
    module = build_tiny("llama")
    with torch.no_grad():
        module.lm_head.weight[3] = float("nan")
    with pytest.raises(lt.NonFiniteError, match="final norm or the unembedding"):
        lt.wrap_model(module, name="poisoned")


def test_an_unembedding_that_turned_bad_later_is_told_from_a_bad_layer() -> None:
    """While tracing, too, the error points behind the last layer where every layer is sound."""
    module = build_tiny("llama")
    model = lt.wrap_model(module, name="poisoned")
    with torch.no_grad():
        module.lm_head.weight[3] = float("nan")
    with pytest.raises(lt.NonFiniteError, match="final norm or the unembedding"):
        lt.trace(model, [sample(*SHORT)], perturbation=lt.Mask(draws=1))


# ---------------------------------------------------------------- modules without a stack, or with two


class NoLayers(nn.Module):
    """An embedding and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.head = nn.Linear(16, 50)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.embed(ids))


class TwoTowers(nn.Module):
    """Two stacks of equal rights on the same tokens, added at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(101, 32)
        self.left = nn.ModuleList([Block(32, 4) for _ in range(3)])
        self.right = nn.ModuleList([Block(32, 4) for _ in range(3)])
        self.head = nn.Linear(32, 101)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits."""
        left = right = self.embed(ids)
        for block in self.left:
            left = block(left)
        for block in self.right:
            right = block(right)
        return self.head(left + right)


def test_a_module_without_layers_is_refused() -> None:
    """An embedding and a head have no decoder stack: the error says what was looked for and what to do."""
    with pytest.raises(lt.AnatomyError, match=r"No decoder stack was found in NoLayers.*ModuleList"):
        lt.wrap_model(NoLayers(), name="none")


def test_a_classifier_of_vectors_is_refused() -> None:
    """A network that takes no token ids is refused by saying what is expected, not by PyTorch's own error."""
    classifier = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    with pytest.raises(lt.AnatomyError, match="token ids"):
        lt.wrap_model(classifier, name="classifier")


def test_a_classifier_of_sequences_is_refused() -> None:
    """One verdict a prompt is no distribution over next tokens: the error says what shape was expected and got."""
    module = nn.Sequential(nn.Embedding(50, 16), nn.Flatten(0, 1), nn.Linear(16, 3), nn.Unflatten(0, (1, -1)))
    with pytest.raises(lt.AnatomyError, match=r"logits.*\[batch, position, d_vocab\]"):
        lt.wrap_model(module, name="classifier")


def test_two_stacks_are_listed_and_one_can_be_chosen() -> None:
    """Where two stacks could be meant, the error lists both and says how to choose; choosing works."""
    module = TwoTowers()
    with pytest.raises(lt.AnatomyError, match=r"'left' \(3 layers\).*'right' \(3 layers\).*layers='right'"):
        lt.wrap_model(module, name="towers")
    for path in ("left", "right"):
        model = lt.wrap_model(module, name="towers", layers=path)
        assert [layer.path for layer in model.anatomy.layers] == [f"{path}.{index}" for index in range(3)]
    with pytest.raises(lt.AnatomyError, match=r"layers='middle'.*'left'"):
        lt.wrap_model(module, name="towers", layers="middle")


# ---------------------------------------------------------------- prompts that do not fit


def test_a_prompt_longer_than_the_context_is_refused_before_anything_runs() -> None:
    """The error names the lengths and the sample; nothing is truncated silently."""
    model = tiny("gpt2")
    samples = [sample(*SHORT), sample(*([5] * 65))]
    for read in (lt.read_layers, lt.trace):
        with pytest.raises(lt.PromptTooLongError, match=r"1 of 2 prompts.*64 tokens.*sample 1 \(65\)"):
            read(model, samples)
    lt.trace(model, [sample(*([5] * 64))], perturbation=lt.Mask(draws=1))


@pytest.mark.parametrize("token", [101, 5000])
def test_a_token_that_the_model_does_not_know_is_refused(token: int) -> None:
    """The error names the sample, the id and the range."""
    model = tiny("llama")
    with pytest.raises(lt.UsageError, match=rf"Sample 1 .*{token}.*0 to 100"):
        lt.trace(model, [sample(*SHORT), sample(4, token, 6)])
    with pytest.raises(lt.UsageError, match=rf"Sample 0 .*{token}.*0 to 100"):
        lt.trace(model, [sample(*SHORT, answer=token)])


def test_a_negative_token_is_refused() -> None:
    """A token id below 0 is no place to count from the end."""
    model = tiny("llama")
    with pytest.raises(lt.TaskError, match=r"Sample 1: .*negative"):
        lt.trace(model, [sample(*SHORT), sample(4, -1, 6)])


def test_an_empty_prompt_is_refused() -> None:
    """There must be a token to predict after."""
    model = tiny("llama")
    with pytest.raises(lt.LayerTracerError, match=r"(?i)sample 0.*empty|empty.*prompt"):
        lt.trace(model, [sample()])


def test_no_sample_at_all_is_refused() -> None:
    """An empty task is an error of its own."""
    model = tiny("llama")
    with pytest.raises(lt.EmptyTaskError, match=r"(?i)no sample"):
        lt.trace(model, [])


def test_text_without_a_tokenizer_is_refused() -> None:
    """A wrapped module without a tokenizer cannot read text; the error says what to give instead."""
    model = tiny("llama")
    with pytest.raises(lt.LayerTracerError, match=r"tokenizer"):
        lt.trace(model, [lt.Sample(prompt="hot ->", answer=" cold")])


def test_a_sample_without_an_answer_needs_another_target() -> None:
    """To follow an answer there must be one; the model's own token can always be followed."""
    model = tiny("llama")
    unanswered = [lt.Sample(prompt_ids=SHORT)]
    with pytest.raises(lt.AnswerError, match=r"Sample 0.*target='model'"):
        lt.trace(model, unanswered)
    assert lt.trace(model, unanswered, target="model", perturbation=lt.Mask(draws=1)).prompts[0].solved is None


# ---------------------------------------------------------------- perturbations that do not fit


@pytest.mark.parametrize("shape", [(4, 2, 31), (3, 2, 32), (5, 2, 32), (4, 2, 33)])
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, int, int]) -> None:
    """The error names both shapes."""
    model = tiny("llama")
    message = re.escape(f"has shape {list(shape)}, this model needs [4, 2, 32]")
    with pytest.raises(lt.UsageError, match=message):
        lt.trace(model, [sample(*SHORT)], perturbation=lt.Mask.explicit(np.ones(shape)))


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
@pytest.mark.parametrize(
    "perturbation", [lt.Mask(site="mlp_output"), lt.Noise(site="mlp_output")], ids=["mask", "noise"]
)
def test_a_site_that_a_model_lacks_is_refused(name: str, perturbation: lt.Mask | lt.Noise) -> None:
    """Layers of a Mamba have no MLP: the error says which site is missing and which ones there are."""
    model = tiny(name)
    with pytest.raises(lt.SiteError, match=r"mlp_output.*(block_output|mixer_output)"):
        lt.trace(model, [sample(*SHORT)], perturbation=perturbation)


class Wish:
    """Has all that a perturbation has, and is none that anybody knows how to carry out."""

    site, n_draws, positions = "block_output", 1, "all"

    def to_dict(self) -> dict[str, str]:
        """Nothing much."""
        return {"kind": "wish", "site": self.site}


def test_an_unknown_kind_of_perturbation_is_refused() -> None:
    """The error names what was given and what can be given."""
    model = tiny("llama")
    with pytest.raises(lt.UsageError, match=r"Mask, Noise or Skip.*Wish"):
        lt.trace(model, [sample(*SHORT)], perturbation=Wish())


# ---------------------------------------------------------------- memory


class Cramped(NanoGPT):
    """A model whose memory holds `limit` positions of its stream, rows times length; no limit while it is None."""

    def __init__(self) -> None:
        super().__init__(d_vocab=101, d_model=32, n_layers=4, n_heads=4, max_length=64)
        self.limit: int | None = None
        self.largest = 0
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        for block in self.transformer["h"]:
            block.register_forward_pre_hook(self._allocate)
        self.eval()

    def _allocate(self, block: nn.Module, args: tuple[Tensor, ...]) -> None:
        del block
        n_positions = args[0].shape[0] * args[0].shape[1]
        self.largest = max(self.largest, n_positions)
        if self.limit is not None and n_positions > self.limit:
            raise torch.OutOfMemoryError(f"Tried to hold {n_positions} positions, {self.limit} fit.")


@pytest.mark.parametrize("site", ["block_output", "mixer_output", "mlp_output"])
@pytest.mark.parametrize("limit", [100, 30])
def test_out_of_memory_halves_the_batch_and_goes_on(site: str, limit: int) -> None:
    """With less memory the trace takes more passes and gives the same numbers."""
    module = Cramped()
    model = lt.wrap_model(module, name="cramped")
    samples = [sample(*[(7 * row + 3 * position) % 101 for position in range(10)]) for row in range(5)]
    samples.insert(3, sample(*SHORT))
    roomy = lt.trace(model, samples, perturbation=lt.Mask(site=site, draws=5))
    needed, module.limit = module.largest, limit
    assert needed > 200, "the limit must bite"
    cramped = lt.trace(model, samples, perturbation=lt.Mask(site=site, draws=5))
    assert cramped.status == "complete"
    np.testing.assert_allclose(cramped.js_bits, roomy.js_bits, atol=1e-6, rtol=0)
    np.testing.assert_allclose(cramped.target_log_prob, roomy.target_log_prob, atol=1e-5, rtol=0)
    readout = lt.read_layers(model, samples).log_probs
    module.limit = None
    np.testing.assert_allclose(readout, lt.read_layers(model, samples).log_probs, atol=1e-5, rtol=0)


def test_not_even_one_prompt_fits() -> None:
    """Where the smallest pass does not fit, the error carries the numbers and says what to do."""
    module = Cramped()
    model = lt.wrap_model(module, name="cramped")
    module.limit = 5
    with pytest.raises(lt.OutOfMemoryError, match=r"10 tokens") as caught:
        lt.trace(model, [sample(*LONG)], perturbation=lt.Mask(draws=2))
    assert isinstance(caught.value, MemoryError)
    assert not any(block._forward_hooks or "forward" in vars(block) for block in module.transformer["h"])
    module.limit = None
    assert lt.trace(model, [sample(*LONG)], perturbation=lt.Mask(draws=2)).status == "complete"


def test_prompts_finished_before_memory_ran_out_are_kept() -> None:
    """The error carries the record of the prompts that were finished, with their places in the task."""
    module = Cramped()
    model = lt.wrap_model(module, name="cramped")
    whole = lt.trace(model, [sample(*SHORT)], perturbation=lt.Mask(draws=2))
    module.limit = 2 * len(SHORT) + 1  # one short prompt with one perturbed copy
    with pytest.raises(lt.OutOfMemoryError, match=r"10 tokens") as caught:
        lt.trace(model, [sample(*SHORT), sample(*LONG)], perturbation=lt.Mask(draws=2))
    record = caught.value.record
    assert record.status == "failed"
    assert record.n_requested == 2
    assert [prompt.prompt_ids for prompt in record.prompts] == [SHORT]
    np.testing.assert_allclose(record.js_bits, whole.js_bits, atol=1e-6, rtol=0)


def test_a_memory_size_that_is_none_is_refused() -> None:
    """The error shows how to write one."""
    model = tiny("llama")
    for memory in ("plenty", "0", "-3GB"):
        with pytest.raises(lt.UsageError, match=r"8GiB"):
            lt.trace(model, [sample(*SHORT)], memory=memory)


# ---------------------------------------------------------------- before the first prompt is finished


class OwnError(Exception):
    """A caller's own exception."""


class SlottedError(Exception):
    """A caller's own exception that takes no attribute."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "record":
            raise AttributeError(name)
        super().__setattr__(name, value)


def failing(error: BaseException) -> lt.TracedModel:
    """A trained miniature with a tokenizer whose module raises as soon as it is run again."""
    model = lt.load_model("mini/attention")

    def fail(_module: nn.Module, _args: object) -> None:
        raise error

    model.module.register_forward_pre_hook(fail)
    return model


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (RuntimeError("boom"), lt.ModelError, r"raised an error of its own while it was traced.*RuntimeError: boom"),
        (ValueError("zip"), lt.ModelError, r"ValueError: zip \(.*test_errors\.py, line \d+\)"),
        (torch.OutOfMemoryError("full"), lt.OutOfMemoryError, r"tokens"),
        (KeyboardInterrupt(), KeyboardInterrupt, r"0 of 4 prompts"),
    ],
    ids=["error", "another", "memory", "Ctrl-C"],
)
def test_what_ends_a_trace_before_its_first_prompt_comes_out(
    error: BaseException, expected: type[BaseException], message: str, tmp_path: Path
) -> None:
    """The real error, with a record of no prompt that is saved, loaded, reported and summarised like any other."""
    with pytest.raises(expected, match=message) as caught:
        lt.trace(failing(error), lt.load_task("antonym", limit=4))
    record = caught.value.record
    assert isinstance(record, lt.Trace)
    assert (record.n_prompts, record.n_requested) == (0, 4)
    assert record.status == ("interrupted" if expected is KeyboardInterrupt else "failed")
    assert lt.load_run(record.save(tmp_path / "run")) == record
    assert record.report(tmp_path / "page.html").stat().st_size > 0
    assert "before the first of 4 prompts" in summarize(record)["sentence"]
    assert record.to_pandas().empty


def test_weights_that_turned_bad_are_named_where_no_prompt_was_finished() -> None:
    """NaN at the first prompt: the error names the layer and carries a record of no prompt."""
    model = lt.load_model("mini/attention")
    with torch.no_grad():
        next(model.anatomy.layers[3].module.parameters()).fill_(float("nan"))
    with pytest.raises(lt.NonFiniteError, match=r"after layer 3") as caught:
        lt.trace(model, lt.load_task("antonym", limit=4))
    assert caught.value.record.n_prompts == 0


# ---------------------------------------------------------------- whose fault it is


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("where", ["progress", "on_plan"])
@pytest.mark.parametrize(
    "error",
    [OwnError("mine"), ValueError("mine"), torch.OutOfMemoryError("mine"), SystemExit(3), lt.UsageError("mine")],
    ids=lambda error: type(error).__name__,
)
def test_what_a_callers_function_raises_comes_out_as_it_is(
    error: BaseException, where: str, share_prefix: bool
) -> None:
    """The same exception, never another one nor a second try; with what was finished before, and no false note."""

    def fail(_said: object) -> None:
        raise error

    model = tiny("llama")
    samples = [sample(*range(20, 34), own, answer=7) for own in range(40, 44)] + [sample(*SHORT)]
    with pytest.raises(type(error), match=r"mine|3") as caught:
        lt.trace(
            model, samples, perturbation=lt.Mask(draws=1, scheme="random"), share_prefix=share_prefix, **{where: fail}
        )
    assert caught.value is error
    assert caught.value.__cause__ is None
    record = error.record
    assert isinstance(record, lt.Trace)
    assert (record.n_prompts > 0) is (where == "progress")
    assert not any("without the model's own cache" in warning for warning in record.warnings)


@pytest.mark.parametrize("error", [OwnError("mine"), BrokenPipeError(32, "mine"), lt.SiteError("mine")], ids=repr)
def test_a_trace_that_was_finished_when_a_callback_raised_is_complete(error: Exception) -> None:
    """At the last prompt the record is that of the whole trace, complete; before that, failed, with who did it."""
    model, samples = tiny("llama"), [sample(*SHORT), sample(*LONG)]
    settings: dict[str, Any] = {"perturbation": lt.Mask(draws=1), "share_prefix": False}
    whole = lt.trace(model, samples, **settings)

    def fail_at_last(progress: Any) -> None:
        if progress.done == progress.total:
            raise error

    def fail(_plan: object) -> None:
        raise error

    with pytest.raises(type(error), match="mine") as caught:
        lt.trace(model, samples, progress=fail_at_last, **settings)
    assert caught.value is error
    assert (error.record.status, error.record.error, error.record.n_prompts) == ("complete", None, 2)
    assert np.array_equal(error.record.js_bits, whole.js_bits)
    with pytest.raises(type(error), match="mine"):
        lt.trace(model, samples, on_plan=fail, **settings)
    assert (error.record.status, error.record.n_prompts) == ("failed", 0)
    assert error.record.error == {
        "type": type(error).__name__,
        "message": f"raised by the caller's own function (progress or on_plan): {error}",
    }


@pytest.mark.parametrize("where", ["progress", "on_plan"])
def test_a_site_error_of_a_callback_is_not_the_models(where: str) -> None:
    """Nothing is traced again at another site because of it, though nobody asked for one: it comes out as it is."""
    model, calls = lt.load_model("mini/attention"), []

    def fail_once(_said: object) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise lt.SiteError("of the caller's own")

    with pytest.raises(lt.SiteError, match="of the caller's own"):
        lt.trace(model, lt.load_task("antonym", n_shot=1, limit=2), **{where: fail_once})
    assert len(calls) == 1


class _Raising(logging.Handler):
    """A caller's handler that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        """Raise."""
        raise OwnError(record.getMessage())


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("kind", ["warning", "log"])
def test_warning_filters_and_log_handlers_are_the_callers(
    monkeypatch: pytest.MonkeyPatch, kind: str, share_prefix: bool
) -> None:
    """A warning made an error, or a handler that raises, in the model's code: as it is, with no other way tried."""
    model = lt.wrap_model(fresh("llama"))
    mlp = model.module.model.layers[1].mlp
    forward, log = mlp.forward, logging.getLogger("a.model")
    monkeypatch.setattr(log, "handlers", [_Raising()])
    calls = []

    def speaking(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if kind == "warning":
            warnings.warn("mine", UserWarning, stacklevel=1)
        log.warning("mine")
        return forward(*arguments, **named)

    monkeypatch.setattr(mlp, "forward", speaking)
    samples = [sample(*range(20, 34), own, answer=7) for own in range(40, 44)]
    with pytest.raises(UserWarning if kind == "warning" else OwnError, match="mine") as caught:
        lt.trace(model, samples, perturbation=lt.Mask(draws=1, scheme="random"), share_prefix=share_prefix)
    assert caught.value.__cause__ is None
    assert len(calls) == 1
    with pytest.raises(UserWarning if kind == "warning" else OwnError, match="mine"):
        lt.read_layers(model, samples)


def test_an_exception_that_takes_no_record_comes_out_without_one() -> None:
    """A caller's exception with slots is not replaced by an error about them."""

    def fail(_said: object) -> None:
        raise SlottedError("mine")

    model = tiny("llama")
    with pytest.raises(SlottedError, match="mine"):
        lt.trace(model, [sample(*SHORT)], perturbation=lt.Mask(draws=1, scheme="random"), progress=fail)


def test_a_models_own_error_is_named_as_such_while_it_is_read() -> None:
    """read_layers says what the model raised, and where; memory that ran out is an error of its own."""
    ids = [sample(*SHORT)]
    with pytest.raises(lt.ModelError, match=r"of its own while its layers were read: KeyError: 'x' \(.*test_errors"):
        lt.read_layers(failing(KeyError("x")), ids)
    with pytest.raises(lt.OutOfMemoryError, match="tokens"):
        lt.read_layers(failing(torch.OutOfMemoryError("full")), ids)


class Full(NoLayers):
    """A module for which there is never memory."""

    def forward(self, ids: Tensor) -> Tensor:
        """Nothing."""
        raise torch.OutOfMemoryError(f"Tried to hold {ids.numel()} ids.")


def test_memory_that_runs_out_at_load_is_an_error_of_its_own() -> None:
    """Neither PyTorch's exception nor a verdict on the module."""
    with pytest.raises(lt.OutOfMemoryError, match="Memory ran out on 'Full' while it was looked at and proved"):
        lt.wrap_model(Full())


def test_a_fault_of_ours_is_called_one() -> None:
    """What LayerTracer's own code raises asks for a report, says where, and does not blame the model."""
    with pytest.raises(ValueError, match="at least one array") as caught:
        lt.Mask().keep_array(n_layers=0, width=10)
    failure = explain_failure(caught.value, name="mine", doing="while it was traced", kept="What was finished is kept.")
    assert type(failure) is lt.LayerTracerError
    text = str(failure)
    assert "LayerTracer failed on 'mine' while it was traced: ValueError" in text
    assert "layertracer/_types/mask.py, line " in text
    assert "fault of LayerTracer, not of the model. Please report it" in text
    assert text.endswith("What was finished is kept.")


class Partial:
    """A tokenizer that knows fewer tokens than its model, and has not all methods."""

    def decode(self, ids: list[int]) -> str:
        """Text, for a few."""
        return {5: "hot", 9: "cold"}[ids[0]]

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Spellings, for a few."""
        return [{5: "▁hot", 9: "cold"}[token] for token in ids]


def test_no_trace_is_lost_for_want_of_words() -> None:
    """Tokens that a tokenizer cannot say are shown by their ids; of nothing, nothing is asked."""
    assert token_texts(Partial(), [5, 9, 77]) == {5: " hot", 9: "cold", 77: "77"}
    assert token_texts(None, [5]) == {5: "5"}
    assert token_texts(Partial(), []) == {}
