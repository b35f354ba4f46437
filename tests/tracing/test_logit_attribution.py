"""Direct logit attribution, against arithmetic by hand on the outputs of modules."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer.tracing import TraceOptions, attribute_logits

from tests.support.models.families import BY_NAME
from tests.support.oracles.plain_hooks import branch_modules, editing, plain_logits
from tests.support.tiny import fresh, tiny

PROMPTS = ((5, 9, 2, 31, 8, 17, 4), (11, 4, 20, 8, 3), (6, 6, 3, 12, 40, 1, 30))


def samples() -> list[lt.Sample]:
    """Prompts of token ids that are answered with token 7."""
    return [lt.Sample(prompt_ids=ids, answer_id=7) for ids in PROMPTS]


def by_rms(norm: nn.Module, final: Tensor, *, plus_one: bool = False) -> Callable[[Tensor], Tensor]:
    """RMSNorm with the root mean square of one vector, for others."""
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    scale = (final.pow(2).mean() + eps).rsqrt()
    weight = norm.weight + 1 if plus_one else norm.weight
    return lambda term: weight * term * scale


def by_layer_norm(norm: nn.Module, final: Tensor) -> Callable[[Tensor], Tensor]:
    """LayerNorm without its bias, with the variance of one vector, for others, each centred by itself."""
    eps = norm.eps if hasattr(norm, "eps") else norm.variance_epsilon
    scale = (final.var(unbiased=False) + eps).rsqrt()
    return lambda term: norm.weight * (term - term.mean()) * scale


def hand_made(module: nn.Module, final: Tensor, name: str) -> tuple[Callable[[Tensor], float], float]:
    """From a term of the stream to its share of token 7's logit, and the constant, as each family's source says."""
    module.requires_grad_(False)
    head = module.get_output_embeddings().weight[7]
    if name == "gpt2":
        normed = by_layer_norm(module.transformer.ln_f, final)
        return lambda term: float(head @ normed(term)), float(head @ module.transformer.ln_f.bias)
    norm = module.model.norm
    if name == "cohere":
        normed, factor = by_layer_norm(norm, final), module.config.logit_scale
    else:
        normed = by_rms(norm, final, plus_one=name == "gemma2")
        factor = 1 / module.config.logits_scaling if name == "granite" else 1.0
    return lambda term: float(head @ normed(term)) * factor, 0.0


@torch.no_grad()
def seen_terms(module: nn.Module, name: str, ids: tuple[int, ...]) -> tuple[dict[str, list[Tensor]], Tensor, Tensor]:
    """What branches add at the last position, what enters the first layer there, and what leaves the last."""
    family, seen = BY_NAME[name], {"mixer": [], "mlp": []}
    factor = getattr(module.config, "residual_multiplier", 1.0)
    ends: list[Tensor] = []
    blocks = list(module.get_submodule(family.layers))

    def note(role: str) -> Callable[[Tensor, Tensor], Tensor]:
        def edit(_: Tensor, output: Tensor) -> Tensor:
            seen[role].append(factor * output[0, -1])
            return output

        return edit

    def keep(received: Tensor, output: Tensor) -> Tensor:
        ends.extend((received[0, -1], output[0, -1]))
        return output

    with ExitStack() as stack:
        for block in blocks:
            stack.enter_context(editing(block, keep))
            for role, branch in (("mixer", family.read.mixer_branch), ("mlp", family.read.mlp_branch)):
                for part in branch_modules(block, branch):
                    stack.enter_context(editing(part, note(role)))
        plain_logits(module, ids)
    return seen, ends[0], ends[-1]


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "granite", "cohere", "mixtral"])
def test_terms_are_those_of_arithmetic_by_hand(name: str) -> None:
    """Each term is the family's own norm, its statistics held, and its own head on what the module adds."""
    module = fresh(name) if name == "mixtral" else fresh(name).double()  # its experts' kernel knows no float64
    close = {"rel": 1e-4, "abs": 1e-5} if name == "mixtral" else {"rel": 1e-5, "abs": 1e-6}  # norms are in float32
    found = attribute_logits(lt.wrap_model(module, name=name), samples())
    assert not found.why_not
    assert found.is_capped == (name == "gemma2")
    for row, ids in enumerate(PROMPTS):
        seen, embedding, final = seen_terms(module, name, ids)
        share, constant = hand_made(module, final, name)
        for role, terms in seen.items():
            np.testing.assert_allclose(
                found.terms[role][row], [share(term) for term in terms], close["rel"], close["abs"]
            )
        assert found.embedding[row] == pytest.approx(share(embedding), **close)
        assert found.constant[row] == pytest.approx(constant, **close)
        own = plain_logits(module, ids)[7]
        if name == "gemma2":
            cap = module.config.final_logit_softcapping
            own = cap * np.arctanh(own / cap)
        assert found.logit[row] == pytest.approx(own, **close)


LAWFUL = (
    "mamba",
    "jamba",
    "qwen3_next",
    "gpt_neox",
    "bloom",
    "opt",
    "falcon",
    "falcon_h1",
    "recurrent_gemma",
    "nanogpt",
)


@pytest.mark.parametrize("name", [*LAWFUL, "hybrid"])
def test_terms_add_up_to_the_models_own_logit(name: str) -> None:
    """Embedding, mixers, MLPs, other additions and constant are the model's own logit before any cap, to rounding."""
    model = tiny(name)
    found = attribute_logits(model, samples())
    assert "mixer" not in found.why_not
    assert found.worst is not None
    assert found.worst < 1e-4
    total = found.embedding + found.other + found.constant
    total = total + sum(np.nansum(values, axis=1) for values in found.terms.values())
    np.testing.assert_allclose(total, found.logit, atol=1e-5)
    if not found.is_capped:
        own = [plain_logits(model.module, ids)[7] for ids in PROMPTS]
        np.testing.assert_allclose(found.logit, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rwkv", "does not add up to its logit"),
        ("minimax", "does not add up to its logit"),
        ("bert", "no linear map of the stream"),
        ("gemma3n_text", "numbers for each token"),
    ],
)
def test_where_the_law_fails_there_is_no_number(name: str, reason: str) -> None:
    """Streams that are scaled, normed or many, and tails that are not linear, have no attribution and a reason."""
    found = attribute_logits(tiny(name), samples())
    assert reason in found.why_not["mixer"]
    assert reason in found.why_not["mlp"]
    assert all(np.isnan(values).all() for values in found.terms.values())


def test_differences_are_those_of_two_attributions() -> None:
    """With a contrast, each term is that of the target less that of the contrast; without one there is none."""
    found = attribute_logits(tiny("llama"), samples(), contrasts=[9, None, 9])
    others = [lt.Sample(prompt_ids=ids, answer_id=9) for ids in PROMPTS]
    contrast = attribute_logits(tiny("llama"), others)
    for role, values in found.terms.items():
        np.testing.assert_allclose(found.differences[role][::2], (values - contrast.terms[role])[::2], atol=1e-5)
        assert np.isnan(found.differences[role][1]).all()


def test_contrast_answers_of_samples_are_the_contrast() -> None:
    """A sample's contrast answer is what the target is compared with; samples without one have no difference."""
    given = [lt.Sample(prompt_ids=ids, answer_id=7, contrast_answer_id=9) for ids in PROMPTS[:2]]
    found = attribute_logits(tiny("llama"), [*given, samples()[2]])
    expected = attribute_logits(tiny("llama"), samples(), contrasts=[9, 9, None])
    for role, values in expected.differences.items():
        np.testing.assert_allclose(found.differences[role], values, atol=1e-6)


def test_the_mean_over_positions_is_attributed() -> None:
    """Of an answer of several tokens, the terms are the mean over its positions of each token's own."""
    model = lt.load_model("mini/attention")
    text = lt.Sample(prompt="the", answer=" cat sat on the mat")
    whole = attribute_logits(model, [text], TraceOptions(target_tokens="all"))
    ids = tuple(model.tokenizer.encode(" cat sat on the mat", add_special_tokens=False))
    begin = tuple(model.tokenizer.encode("the"))
    single = [lt.Sample(prompt_ids=begin + ids[:which], answer_id=ids[which]) for which in range(len(ids))]
    parts = attribute_logits(model, single)
    for role, values in whole.terms.items():
        np.testing.assert_allclose(values[0], parts.terms[role].mean(axis=0), rtol=1e-3, atol=1e-4)


def test_half_precision_is_attributed_to_its_rounding_or_not_at_all() -> None:
    """In bfloat16 the terms are near those in float64, or rounding is the reason why there are none."""
    exact = attribute_logits(lt.wrap_model(fresh("llama").double(), name="exact"), samples())
    rough = attribute_logits(lt.wrap_model(fresh("llama").bfloat16(), name="half"), samples())
    if "mixer" in rough.why_not:
        assert "rounding hides" in rough.why_not["mixer"]
        return
    for role, values in exact.terms.items():
        both = np.isfinite(rough.terms[role])
        np.testing.assert_allclose(rough.terms[role][both], values[both], atol=0.3)
