"""The door of sites: two sites that the library does not know, registered here, traced, stored and reported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import layertracer as lt
from layertracer._types import SiteFacts
from layertracer.models import Network
from layertracer.tracing._batching.rows import from_rows_first, to_rows_first
from layertracer.tracing._sites.protocol import EditRows, Join, LayerRun, register_site, with_last_rows

from tests.support.models.families import BY_NAME, build_tiny

HALF = BY_NAME["llama"].d_model // 2
PROMPTS = [(7, 23, 9, 4, 36, 38), (12, 5, 3, 19, 31, 8), (9, 9, 2, 4)]
SAMPLES = [lt.Sample(prompt_ids=ids, answer_id=3) for ids in PROMPTS]


HALF_STREAM = SiteFacts(name="half_stream", words="first half of the stream", part="stream")
ENTERING = SiteFacts(name="entering", words="stream that enters", part="stream")


@dataclass(frozen=True)
class HalfStream:
    """The first half of the stream that leaves a layer."""

    facts: SiteFacts = HALF_STREAM
    joins: Join = "exit"

    def layers(self, network: Network) -> tuple[int, ...]:
        """All but the first."""
        return tuple(range(1, network.anatomy.n_layers))

    def width(self, network: Network) -> int:
        """Half of the stream's."""
        return network.anatomy.d_model // 2

    def taken(self, leaving: Tensor) -> Tensor:
        """The first half."""
        return leaving[..., : leaving.shape[-1] // 2]

    def put(self, leaving: Tensor, values: Tensor) -> Tensor:
        """The stream with another first half."""
        return torch.cat((values, leaving[..., values.shape[-1] :]), dim=-1)


@dataclass(frozen=True)
class Entering:
    """The stream that enters a layer."""

    facts: SiteFacts = ENTERING
    joins: Join = "entrance"

    def layers(self, network: Network) -> tuple[int, ...]:
        """All layers."""
        return tuple(range(network.anatomy.n_layers))

    def width(self, network: Network) -> int:
        """The stream's."""
        return network.anatomy.d_model

    @staticmethod
    @contextmanager
    def watching(run: LayerRun, edits: Mapping[str, EditRows]) -> Iterator[None]:
        """Exchange the last rows before the layer runs."""
        rows = to_rows_first(run.stream, run.layer.wiring)
        last = edits["entering"](rows)
        if last is not None:
            run.stream = from_rows_first(with_last_rows(rows, last), run.layer.wiring)
        yield


@pytest.fixture
def sites() -> Iterator[None]:
    """Both sites, for the length of a test."""
    with register_site(HalfStream()), register_site(Entering()):
        yield


def masked(width: int) -> np.ndarray:
    """A mask of some dimensions, [layer, draw, width]."""
    return np.random.default_rng(2).random((BY_NAME["llama"].n_layers, 2, width)) > 0.4


def js_by_hooks(site: str, keep: np.ndarray, *, layer: int, draw: int) -> np.ndarray:
    """JS divergence [prompt] with a layer masked by PyTorch's own hooks, in float64."""
    module = build_tiny("llama").double()
    mask = torch.from_numpy(np.concatenate([keep[layer, draw], np.ones(2 * HALF - keep.shape[-1], bool)]))
    block = module.model.layers[layer]  # type: ignore[union-attr, index]  # a llama

    def before(_: nn.Module, args: tuple[Any, ...]) -> Any:
        return (args[0] * mask, *args[1:])

    def after(_: nn.Module, __: Any, output: Any) -> Any:
        return (output[0] * mask, *output[1:]) if isinstance(output, tuple) else output * mask

    found = []
    for ids in PROMPTS:
        with torch.no_grad():
            clean = module(torch.tensor([ids])).logits[0, -1].softmax(-1)
            hook = block.register_forward_pre_hook(before) if site == "entering" else block.register_forward_hook(after)
            other = module(torch.tensor([ids])).logits[0, -1].softmax(-1)
            hook.remove()
        middle = (clean + other) / 2
        found.append(float(sum((p * (p / middle).log2()).sum() for p in (clean, other)) / 2))
    return np.array(found)


@pytest.mark.parametrize(("site", "width"), [("half_stream", HALF), ("entering", 2 * HALF)])
@pytest.mark.parametrize("share_prefix", [False, True])
@pytest.mark.usefixtures("sites")
def test_a_site_is_traced_stored_and_reported(site: str, width: int, share_prefix: bool, tmp_path: Path) -> None:
    """What a site of one's own is masked for is what hooks give; layers without it are NaN; it is said in words."""
    keep = masked(width)
    mask = lt.Mask.explicit(keep, site=site)
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    trace = lt.trace(model, SAMPLES, perturbation=mask, share_prefix=share_prefix)
    first = 1 if site == "half_stream" else 0
    assert np.isnan(trace.js_bits[:, :, :first]).all()
    for layer in range(first, model.anatomy.n_layers):
        for draw in range(2):
            expected = js_by_hooks(site, keep, layer=layer, draw=draw)
            np.testing.assert_allclose(trace.js_bits[:, draw, layer], expected, atol=2e-6)
    assert trace.audit is not None
    assert trace.audit.n_cells
    assert trace.dominant_dimension.max() < width
    trace.save(tmp_path / "run")
    loaded = lt.load_run(tmp_path / "run")
    assert loaded == trace
    page = loaded.report(tmp_path / "report.html").read_text()
    assert {"half_stream": "first half of the stream", "entering": "stream that enters"}[site] in page


@pytest.mark.usefixtures("sites")
def test_masks_of_a_site_are_filled_with_what_stands_there() -> None:
    """Means and samples are those of the site: what is masked everywhere becomes the same whatever enters."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    js = {
        how: lt.trace(model, SAMPLES, perturbation=lt.Mask(site="entering", draws=2, fill=how)).js_bits  # type: ignore[arg-type]  # names of fills
        for how in ("zero", "mean", "resample")
    }
    assert np.mean(js["mean"]) < np.mean(js["zero"])
    assert np.all((js["resample"] > 0) & (js["resample"] != js["mean"]))


@pytest.mark.usefixtures("sites")
def test_sites_of_ones_own_go_through_one_ladder_with_others() -> None:
    """Beside the library's sites, each gives what it gives alone."""
    model = lt.wrap_model(build_tiny("llama"), name="llama")
    masks = [lt.Mask(site=site, draws=2, fraction=0.5) for site in ("half_stream", "mlp_output", "entering")]
    together = lt.trace(model, SAMPLES, perturbation=masks)
    for mask in masks:
        alone = lt.trace(model, SAMPLES, perturbation=mask)
        np.testing.assert_allclose(together.effects[mask.site].js_bits, alone.js_bits, atol=1e-6)


def test_a_site_is_known_no_longer_than_its_registration() -> None:
    """Undone, it is a name that nobody knows; registered twice, it is refused."""
    with register_site(Entering()), pytest.raises(lt.UsageError, match="'entering' is registered already"):
        register_site(Entering())
    with pytest.raises(lt.UnknownNameError, match="entering"):
        lt.Mask(site="entering")
