"""The door of observers: whatever looks at clean rows sees each token of each prompt once, however they are run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import layertracer as lt
from layertracer._types import MeasureInfo
from layertracer.tracing import TracedModel, register_layer_measure
from layertracer.tracing._observers.protocol import CleanCall

LARGEST = MeasureInfo(name="toy_largest", unit="ratio", meaning="the largest entry of what the MLP adds")


@dataclass(slots=True)
class LargestOfMlp:
    """Toy: the largest entry of what the MLP adds over a prompt's tokens, and a thousand for each token seen."""

    info: MeasureInfo = LARGEST
    site: str = "mlp_output"
    n_tokens: dict[int, int] = field(default_factory=dict)
    largest: dict[int, Tensor] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.info.name

    def fresh(self) -> LargestOfMlp:
        """Another one."""
        return LargestOfMlp()

    def see(self, call: CleanCall, leaving: Tensor) -> None:
        """Take in some positions."""
        assert call.entering.shape == leaving.shape
        self._take(call.layer.index, leaving.flatten(1).amax(dim=1), leaving.shape[1])

    def add(self, other: LargestOfMlp, *, times: int = 1) -> None:
        """Take in a prefix, which is the same for however many prompts."""
        del times
        for layer, largest in other.largest.items():
            self._take(layer, largest, other.n_tokens[layer])

    def _take(self, layer: int, largest: Tensor, n_tokens: int) -> None:
        known = self.largest.get(layer)
        self.largest[layer] = largest if known is None else torch.maximum(*torch.broadcast_tensors(known, largest))
        self.n_tokens[layer] = self.n_tokens.get(layer, 0) + n_tokens

    def per_prompt(self) -> Mapping[int, Tensor]:
        """The numbers: what is seen twice or not at all shows itself."""
        return {layer: largest + 1000 * self.n_tokens[layer] for layer, largest in self.largest.items()}


@pytest.fixture(scope="module")
def model() -> TracedModel:
    """A trained miniature."""
    return lt.load_model("mini/attention")


def expected(model: TracedModel, ids: tuple[int, ...]) -> list[float]:
    """The same of one prompt alone, by PyTorch's own hooks."""
    found: list[float] = []
    handles = [
        layer.module.mlp.register_forward_hook(lambda _, __, output: found.append(float(output.max())))
        for layer in model.anatomy.layers
    ]
    with torch.no_grad():
        model.module(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return [1000 * len(ids) + largest for largest in found]


def plainly(model: TracedModel) -> TracedModel:
    """The same model, traced by the plain method."""
    return dataclasses.replace(model, self_check=dataclasses.replace(model.self_check, method="plain"))


@pytest.mark.parametrize(
    "how",
    [
        {"share_prefix": False},
        {"share_prefix": True},
        {"share_prefix": True, "perturbation": lt.Mask(draws=1, positions="last")},
        {"share_prefix": False, "perturbation": lt.Mask(draws=1, site="mixer_output")},
        {"perturbation": lt.Mask(draws=1, site="state")},
        {"perturbation": lt.Skip(), "plain": True},
    ],
    ids=str,
)
def test_every_token_is_seen_once(model: TracedModel, how: dict[str, Any]) -> None:
    """With and without shared prefixes, at every site and by the plain method, it sees what hooks on the MLP see."""
    asked = {"perturbation": lt.Mask(draws=1, site="block_output"), **how}
    traced = plainly(model) if asked.pop("plain", False) else model
    with register_layer_measure(LargestOfMlp()):
        trace = lt.trace(traced, lt.load_task("antonym", n_shot=3, limit=4), **asked)
    found = trace.measures["toy_largest"].values
    np.testing.assert_allclose(found, [expected(model, one.prompt_ids) for one in trace.prompts], atol=2e-3)


def test_it_is_kept_and_shown(model: TracedModel, tmp_path: Path) -> None:
    """Saved, loaded without being registered, and drawn: its name stands in the run, the report and the data frame."""
    with register_layer_measure(LargestOfMlp()):
        trace = lt.trace(model, lt.load_task("antonym", limit=2), perturbation=lt.Mask(draws=1))
    assert lt.load_run(trace.save(tmp_path / "run")) == trace
    assert "toy_largest" in trace.to_pandas()
    assert "Toy largest" in trace.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "toy_largest" not in lt.trace(model, lt.load_task("antonym", limit=2)).measures
