"""Causal tracing on samples: what is found, what is left out and why, against a plain loop and a planted model."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import layertracer as lt
from layertracer.validation import CausalSettings, trace_causally

from tests.support.models.planted import N_TOKENS, planted_answer
from tests.support.tiny import tiny


@cache
def _mini() -> lt.TracedModel:
    return lt.load_model("mini/attention")


def _planted(n: int = 12, length: int = 5) -> list[lt.Sample]:
    """Prompts whose answer is the successor of their first token, with another first token as contrast."""
    rng = np.random.default_rng(0)
    samples = []
    for index in range(n):
        first, other = 1 + index % (N_TOKENS - 3), 1 + (index + 4) % (N_TOKENS - 3)
        rest = tuple(int(token) for token in rng.integers(1, N_TOKENS, size=length - 1))
        samples.append(
            lt.Sample(
                prompt_ids=(first, *rest),
                answer_id=planted_answer((first,)),
                subject_span=(0, 1),
                contrast_ids=(other, *rest),
                contrast_answer_id=planted_answer((other,)),
            )
        )
    return samples


def test_the_planted_move_is_found_in_the_stream() -> None:
    """Before the answer's layer all of it lies at the first token, from that layer on at the last, and nowhere else."""
    model = tiny("planted")
    layer = model.module.answer_layer  # type: ignore[attr-defined]
    record = trace_causally(model, _planted(), corrupt="swap")
    assert not record.excluded
    assert record.by_role.roles == ("last_subject", "first_subsequent", "further", "last")
    subject, subsequent, further, last = record.by_role.mean
    total = float(record.total_effect.mean())
    assert total > 0.5
    np.testing.assert_allclose(subject[:layer], total, rtol=0.05)
    np.testing.assert_allclose(last[layer:], total, rtol=0.05)
    for values in (subject[layer:], last[:layer], subsequent, further):
        assert np.abs(values).max() < 0.05 * total
    assert record.total_effect_interval is not None
    assert record.total_effect_interval.low <= total <= record.total_effect_interval.high


@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_planted_move_is_made_by_one_mixer(direction: str) -> None:
    """At the mixers' outputs the whole effect is at the answer's layer and the last token, in both directions."""
    model = tiny("planted")
    record = trace_causally(model, _planted(), corrupt="swap", site="mixer_output", direction=direction)
    layer = model.module.answer_layer  # type: ignore[attr-defined]
    mean = record.by_role.mean
    assert np.unravel_index(mean.argmax(), mean.shape) == (record.by_role.roles.index("last"), layer)
    mean = mean.copy()
    peak = mean[-1, layer]
    mean[-1, layer] = 0
    assert np.abs(mean).max() < 0.2 * peak
    nothing = trace_causally(model, _planted(), corrupt="swap", site="mlp_output", direction=direction)
    assert np.abs(nothing.by_role.mean).max() < 0.2 * peak


def _plain_swap(model: lt.TracedModel, ids: tuple[int, ...], other: tuple[int, ...], token: int) -> np.ndarray:
    """The answer's probability in the other run with the clean stream put back, a forward and a hook for each cell."""
    layers = [layer.module for layer in model.anatomy.layers]
    clean: dict[int, torch.Tensor] = {}

    def first(output: Any) -> torch.Tensor:
        return output[0] if isinstance(output, tuple) else output

    def keep(number: int) -> Any:
        def hook(*call: Any) -> None:
            clean[number] = first(call[-1]).clone()

        return hook

    def patch(number: int, position: int) -> Any:
        def hook(*call: Any) -> Any:
            output = call[-1]
            stream = first(output).clone()
            stream[:, position] = clean[number][:, position]
            return (stream, *output[1:]) if isinstance(output, tuple) else stream

        return hook

    def prob(tokens: tuple[int, ...]) -> float:
        output = model.module(torch.tensor([tokens]))
        logits = output if torch.is_tensor(output) else output.logits
        return float(logits[0, -1].double().softmax(-1)[token])

    with torch.no_grad():
        handles = [layer.register_forward_hook(keep(number)) for number, layer in enumerate(layers)]
        prob(ids)
        for handle in handles:
            handle.remove()
        found = np.full((len(layers), len(ids)), np.nan)
        for number, layer in enumerate(layers):
            for position in range(len(ids)):
                handle = layer.register_forward_hook(patch(number, position))
                found[number, position] = prob(other)
                handle.remove()
    return found


def test_cells_are_those_of_a_plain_loop() -> None:
    """On a trained miniature every cell of a swap is what one forward with one hook gives, lent contrasts included."""
    model, task = _mini(), lt.load_task("antonym", n_shot=2, limit=3)
    record = trace_causally(model, task, corrupt="swap", min_total_effect=0.0)
    from layertracer.tasks import encode_causally, read_ids

    encoded = encode_causally(task, model.tokenizer, lend=True).samples
    for index, sample in enumerate(encoded):
        assert sample.contrast_ids is not None
        ids = read_ids(sample)
        wanted = _plain_swap(model, ids, sample.contrast_ids, sample.answer_ids[sample.n_lead])
        first = int(record.subject_spans[index, 0])
        own = record.restored_prob[index][:, : len(ids)]
        assert np.isnan(own[:, :first]).all()
        np.testing.assert_allclose(own[:, first:], wanted[:, first:], atol=1e-5)


def _reasons(record: Any) -> dict[int, str]:
    return {one.prompt: one.reason for one in record.excluded}


def test_every_sample_that_cannot_be_used_is_listed_with_its_reason() -> None:
    """Nothing is dropped: each unusable sample has a NaN row, a reason and its numbers, and the others keep theirs."""
    model, good = tiny("planted"), _planted(6)
    ids, answer = good[0].prompt_ids, good[0].answer_id
    assert ids is not None
    assert good[0].contrast_ids is not None
    odd = {
        "unsolved": lt.Sample(prompt_ids=ids, answer_id=17, contrast_ids=good[0].contrast_ids),
        "lengths_differ": lt.Sample(prompt_ids=ids, answer_id=answer, contrast_ids=(*ids, 1)),
        "same_prompt": lt.Sample(prompt_ids=ids, answer_id=answer, contrast_ids=ids),
        "no_contrast": lt.Sample(prompt_ids=ids, answer_id=answer),
        "no_answer": lt.Sample(prompt_ids=ids, contrast_ids=good[0].contrast_ids),
        "same_answer": lt.Sample(
            prompt_ids=ids, answer_id=answer, contrast_ids=good[0].contrast_ids, contrast_answer_id=answer
        ),
        "small_effect": lt.Sample(prompt_ids=ids, answer_id=answer, contrast_ids=(*ids[:-1], ids[-1] % 17 + 1)),
    }
    samples = [*good[:3], *odd.values(), *good[3:]]
    record = trace_causally(model, samples, corrupt="swap", min_total_effect=0.05)
    assert _reasons(record) == {3 + place: reason for place, reason in enumerate(odd)}
    explained = {one.reason: one.explanation for one in record.excluded}
    assert "6 tokens" in explained["lengths_differ"] or "and the contrast 6" in explained["lengths_differ"]
    assert "less than 0.05" in explained["small_effect"]
    for index in range(len(samples)):
        assert np.isnan(record.restored_prob[index]).all() == (index in _reasons(record))
    alone = trace_causally(model, good, corrupt="swap", min_total_effect=0.05)
    kept = [index for index in range(len(samples)) if index not in _reasons(record)]
    np.testing.assert_allclose(record.restored_prob[kept], alone.restored_prob, atol=1e-6)
    np.testing.assert_allclose(record.by_role.mean, alone.by_role.mean, atol=1e-6)
    assert np.isfinite(record.clean_prob[3])  # the clean run of an unsolved prompt is known


def test_a_contrast_answer_makes_solved_a_matter_of_two_tokens() -> None:
    """With a contrast answer a prompt is solved where its answer beats that one, top token or not."""
    model, sample = tiny("planted"), _planted(1)[0]
    assert sample.prompt_ids is not None
    second = int(torch.topk(model.module(torch.tensor([sample.prompt_ids]))[0, -1], 2).indices[1])
    losing = lt.Sample(
        prompt_ids=sample.prompt_ids, answer_id=second, contrast_ids=sample.contrast_ids, subject_span=(0, 1)
    )
    record = trace_causally(model, [sample, losing], corrupt="swap")
    assert _reasons(record) == {1: "unsolved"}
    assert "top token" in record.excluded[0].explanation
    least = int(model.module(torch.tensor([sample.prompt_ids]))[0, -1].argmin())
    winning = lt.Sample(
        prompt_ids=sample.prompt_ids, answer_id=second, contrast_ids=sample.contrast_ids, contrast_answer_id=least
    )
    assert 1 not in _reasons(trace_causally(model, [sample, winning], corrupt="swap", min_total_effect=0.0))


def test_where_none_can_be_used_the_reasons_are_counted() -> None:
    """One clear error names every reason with its number and an example."""
    samples = [lt.Sample(prompt_ids=(1, 2, 3), answer_id=2)] * 3 + [lt.Sample(prompt_ids=(1, 2, 3))]
    with pytest.raises(lt.TaskError, match=r"None of 4 samples .*: 3 no_contrast \(sample 0: .*\); 1 no_answer"):
        trace_causally(tiny("planted"), samples, corrupt="swap")
    with pytest.raises(lt.TaskError, match=r"None of 4 samples .*3 no_subject"):
        trace_causally(tiny("planted"), samples, corrupt="noise")


def test_noise_goes_to_the_subject_and_is_drawn_by_the_seed() -> None:
    """Nothing is patched before the subject; the same seed gives the same record, another one another."""
    task = lt.load_task("antonym", n_shot=2, limit=3)
    one, again, other = (trace_causally(_mini(), task, draws=2, seed=seed, audit=0.0) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.restored_prob, again.restored_prob)
    assert np.abs(np.nan_to_num(one.restored_prob - other.restored_prob)).max() > 1e-3
    for index, (first, end) in enumerate(one.subject_spans.tolist()):
        assert "".join(one.token_texts[index][first:end]).strip() == task.samples[index].prompt.split("\n")[-1][:-3]  # type: ignore[union-attr]
        assert np.isnan(one.restored_prob[index, :, :first]).all()
    assert one.noise_std is not None
    assert one.noise_std > 0


def test_copies_of_a_prompt_are_one_unit() -> None:
    """Prompts that are the same widen no sample: what is said of intervals counts different ones."""
    record = trace_causally(tiny("planted"), _planted(4) * 3, corrupt="swap")
    assert record.total_effect_interval is None
    assert any("12 prompts are of 4 different prompts" in note for note in record.notes)
    assert any("No intervals" in note for note in record.notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"corrupt": "zero"}, "Unknown corrupt 'zero'"),
        ({"site": "state"}, "Unknown site 'state'"),
        ({"direction": "up"}, "Unknown direction 'up'"),
        ({"window": 0}, "window must be 1 or more, got 0"),
        ({"draws": 0}, "draws must be 1 or more, got 0"),
        ({"draws": 2.5}, "draws must be a whole number, got 2.5"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"noise_scale": 0.0}, "noise_scale is out of range, got 0"),
        ({"noise_scale": float("nan")}, "noise_scale is out of range, got nan"),
        ({"min_total_effect": -0.1}, "min_total_effect is out of range, got -0.1"),
        ({"audit": 2}, "audit is out of range, got 2"),
        ({"audit": "much"}, "audit must be a number, got 'much'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    """Each with what was got and what would do."""
    with pytest.raises(lt.LayerTracerError, match=message):
        CausalSettings(**settings)


def test_models_that_read_with_an_encoder_are_refused() -> None:
    """Positions of two texts do not stand for one another."""
    with pytest.raises(lt.SiteError, match="encoder"):
        trace_causally(tiny("encdec:t5"), [lt.Sample(prompt_ids=(1, 2), answer_id=3, subject_span=(0, 1))])
