"""Causal tracing from end to end: what is kept, refused, halved, and done another way where numbers disagree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import layertracer as lt
from layertracer.tracing import (
    CausalInterrupted,
    CausalOptions,
    CausalPrompt,
    CausalReadings,
    PromptCells,
    run_causal,
)

from tests.support.models.plain_modules import NanoGPT
from tests.support.models.planted_faults import FAULTS
from tests.support.oracles.patching import PlainPatching
from tests.support.tiny import fresh, tiny
from tests.tracing.test_causal_laws import make_prompts

SWAP = CausalOptions(corrupt="swap")
BY_NAME = {fault.name: fault for fault in FAULTS}


def test_finished_prompts_are_handed_over_and_cells_counted() -> None:
    """Each prompt is handed over once with its cells, and progress ends at all cells."""
    prompts, told, kept = make_prompts("llama", (9, 12, 9)), list[tuple[int, int]](), dict[int, PromptCells]()
    found = run_causal(
        tiny("llama"),
        prompts,
        SWAP,
        min_total_effect=0,
        on_progress=lambda *cells: told.append(cells),
        on_finished=lambda index, cells: kept.update({index: cells}),
    )
    n_cells = 4 * sum(len(prompt.ids) - prompt.first for prompt in prompts)
    assert told[-1] == (n_cells, n_cells)
    assert sorted(kept) == [0, 1, 2]
    for number, prompt in enumerate(prompts):
        own = found.restored_prob[number, :, : len(prompt.ids)]
        np.testing.assert_array_equal(kept[number].restored_prob, own)
        assert kept[number].clean_log_prob == found.clean_log_prob[number]


def test_what_the_corruption_leaves_alone_is_not_patched() -> None:
    """A prompt whose answer is as probable in both runs has no cells, and is finished."""
    prompts = make_prompts("llama")
    prompts[1] = replace(prompts[1], corrupted_ids=prompts[1].ids)
    found = run_causal(tiny("llama"), prompts, SWAP, min_total_effect=1e-9)
    assert found.is_patched.tolist() == [True, False, True]
    assert np.isnan(found.restored_prob[1]).all()
    assert found.finished.all()
    assert np.isfinite(found.clean_log_prob).all()


def test_an_interrupt_keeps_what_is_finished() -> None:
    """Ctrl-C comes out with the prompts that were finished, and the model is as it was."""
    prompts = make_prompts("llama", (9, 12))
    whole = run_causal(tiny("llama"), prompts, SWAP, min_total_effect=0)

    def interrupt(index: int, cells: PromptCells) -> None:
        del cells
        if index == 0:
            raise KeyboardInterrupt

    with pytest.raises(CausalInterrupted, match="1 of 2") as caught:
        run_causal(tiny("llama"), prompts, SWAP, min_total_effect=0, on_finished=interrupt)
    kept = caught.value.readings
    assert kept.finished.tolist() == [True, False]
    np.testing.assert_array_equal(kept.restored_prob[0], whole.restored_prob[0])
    assert np.isnan(kept.restored_prob[1]).all()


def test_what_a_callback_raises_comes_out_as_it_is() -> None:
    """An exception of the caller's own is neither the model's nor a reason to go another way."""

    def fail(*_: object) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run_causal(tiny("llama"), make_prompts("llama"), SWAP, min_total_effect=0, on_progress=fail)


class Cramped(NanoGPT):
    """A GPT whose blocks run out of memory beyond a number of positions."""

    def __init__(self) -> None:
        super().__init__(d_vocab=101, d_model=32, n_layers=4, n_heads=4, max_length=64)
        self.limit, self.largest = 10**9, 0
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
        if n_positions > self.limit:
            raise torch.OutOfMemoryError(f"Tried to hold {n_positions} positions, {self.limit} fit.")


def test_out_of_memory_halves_the_passes() -> None:
    """With less memory there are more passes and the same numbers; where nothing fits, the error says so."""
    module = Cramped()
    model, prompts = lt.wrap_model(module), make_prompts("llama", (10, 10, 10, 10))
    roomy = run_causal(model, prompts, SWAP, min_total_effect=0)
    assert module.largest > 100, "the limit must bite"
    module.limit = 25
    cramped = run_causal(model, prompts, SWAP, min_total_effect=0)
    np.testing.assert_allclose(cramped.restored_prob, roomy.restored_prob, atol=1e-6, rtol=0)
    module.limit = 8
    with pytest.raises(lt.OutOfMemoryError, match="10 tokens"):
        run_causal(model, prompts, SWAP, min_total_effect=0)
    assert not any("forward" in vars(block) for block in module.transformer["h"])


class Bare(NanoGPT):
    """A GPT that looks its embeddings up itself: no module turns ids into them."""

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits of every position."""
        del targets
        parts = self.transformer
        stream = functional.embedding(ids, parts["wte"].weight) + parts["wpe"](torch.arange(ids.shape[1]))
        for block in parts["h"]:
            stream = block(stream)
        return self.lm_head(parts["ln_f"](stream)), None


def test_noise_without_an_embedding_is_put_on_the_stream() -> None:
    """Where no module turns ids into embeddings, the same noise stands in the stream; a note says where it was put."""
    settings: dict[str, Any] = {"d_vocab": 101, "d_model": 32, "n_layers": 3, "n_heads": 4, "max_length": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        usual, bare = NanoGPT(**settings), Bare(**settings)
    with torch.no_grad():
        usual.transformer["wpe"].weight.zero_()  # so that the spread of the stream is that of the embeddings
    bare.load_state_dict(usual.state_dict())
    prompts = [replace(prompt, corrupted_ids=None) for prompt in make_prompts("llama")]
    ours, others = (
        run_causal(lt.wrap_model(module), prompts, CausalOptions(draws=2), min_total_effect=0)
        for module in (usual, bare)
    )
    notes = [["stream that enters the first layer" in note for note in found.notes] for found in (ours, others)]
    assert not any(notes[0])
    assert any(notes[1])
    assert others.noise_std == pytest.approx(ours.noise_std)
    np.testing.assert_allclose(others.restored_prob, ours.restored_prob, atol=1e-6, rtol=0)


def faulty_prompts(fault: str) -> list[CausalPrompt]:
    """The prompts that show a fault, corrupted at two tokens."""
    prompts = []
    for index, ids in enumerate(2 * BY_NAME[fault].prompts):
        corrupted = (*ids[:4], *(1 + (token + 3) % 40 for token in ids[4:6]), *ids[6:])
        prompts.append(CausalPrompt(index=index, ids=ids, corrupted_ids=corrupted, span=(4, 6), answers=(3, 8)))
    return prompts


@pytest.mark.parametrize(
    ("fault", "method"),
    [("rows_beyond_forty", "plain"), ("batch_statistics", "plain"), ("cache_forgets", "ladder")],
)
def test_what_a_short_probe_does_not_show_is_measured_another_way(fault: str, method: str) -> None:
    """Where cells disagree with forwards of their own, all are measured a slower way, and the notes say so."""
    prompts = faulty_prompts(fault)
    found = run_causal(lt.wrap_model(BY_NAME[fault].build()), prompts, SWAP, min_total_effect=0)
    module = BY_NAME[fault].build()
    plain = PlainPatching(module=module, layers=list(module.layers), embedding=module)
    assert any("measured anew" in note for note in found.notes)
    assert found.method == method
    assert found.finished.all()
    for number, layer, back in [(0, 1, 1), (3, 0, 3), (7, 2, 2), (6, 1, 4), (5, 0, 5)]:
        prompt = prompts[number]
        position = len(prompt.ids) - back
        donor = plain.copy(prompt.ids)
        own = plain.cell(prompt.corrupted_ids or (), prompt.answers, donor, layer=layer, position=position)
        assert found.restored_prob[number, layer, position] == pytest.approx(np.exp(own), abs=1e-5)


def test_a_model_that_says_otherwise_each_time_is_refused() -> None:
    """Where not even one forward at a time gives the same twice, there are no numbers."""
    with pytest.raises(lt.SelfCheckError, match="same numbers twice"):
        run_causal(lt.wrap_model(BY_NAME["noise"].build()), faulty_prompts("noise"), SWAP, min_total_effect=0)


def test_what_cannot_be_traced_is_refused() -> None:
    """Encoder-decoders, sites that a model lacks, and swaps without a prompt are refused in words."""
    prompts = make_prompts("llama")
    with pytest.raises(lt.SiteError, match="decoder-only"):
        run_causal(tiny("encdec:t5"), prompts, SWAP)
    with pytest.raises(lt.SiteError, match="mlp_output"):
        run_causal(tiny("mamba"), prompts, CausalOptions(corrupt="swap", site="mlp_output"))
    with pytest.raises(lt.UsageError, match="no corrupted_ids"):
        run_causal(tiny("llama"), [replace(prompts[0], corrupted_ids=None)], SWAP)
    with pytest.raises(lt.UsageError, match="index 0"):
        run_causal(tiny("llama"), [prompts[0], prompts[0]], SWAP)
    with pytest.raises(lt.PromptTooLongError, match="70 tokens"):
        run_causal(tiny("llama"), make_prompts("llama", (70,)), SWAP)
    with pytest.raises(lt.UsageError, match="token id 500"):
        run_causal(tiny("llama"), [replace(prompts[0], answers=(500,))], SWAP)


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"span": (3, 3)}, "no part of its"),
        ({"span": (0, 10)}, "no part of its"),
        ({"corrupted_ids": (1, 2)}, "of one length"),
        ({"corrupted_ids": (9, 2, 3, 4, 5)}, "before position"),
        ({"answers": ()}, "0 answers"),
        ({"index": -1}, "0 or more"),
    ],
)
def test_prompts_that_cannot_be_run_are_refused(given: dict[str, Any], what: str) -> None:
    """A span outside of its prompt, or a corrupted prompt that does not stand beside it, is no prompt."""
    with pytest.raises(lt.UsageError, match=what):
        CausalPrompt(**{"index": 0, "ids": (1, 2, 3, 4, 5), "span": (1, 2), "answers": (3,), **given})


@pytest.mark.parametrize(
    "given",
    [{"corrupt": "mask"}, {"direction": "up"}, {"site": "state"}, {"window": 0}, {"draws": 0}, {"noise_scale": 0}],
)
def test_options_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    """Unknown corruptions, directions and sites, and numbers that are too small, are refused by name."""
    with pytest.raises(lt.UsageError, match=next(iter(given))):
        CausalOptions(**given)


def test_half_precision_is_audited_within_its_rounding() -> None:
    """In bfloat16 the same is measured, by the ladder, and what rounding explains is no disagreement."""
    model = lt.wrap_model(fresh("llama").bfloat16())
    found: CausalReadings = run_causal(model, make_prompts("llama"), CausalOptions(draws=2), min_total_effect=0)
    assert found.method == "ladder"
    assert np.isfinite(found.restored_prob[0, :, 2:9]).all()
