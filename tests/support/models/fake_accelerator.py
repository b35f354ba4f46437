"""A pass on an accelerator that is not there: whether it would wait for the device, or mix devices.

A program of its own, since it registers a device type with PyTorch. Tensors on that device have shapes and no values
(`FakeTensorMode`), so that everything that needs a value raises: `.item()`, `bool(tensor)`, shapes that depend on
data, indices by a Python list. So does an operator on tensors of two devices. What FakeTensorMode allows, copies
between the host and the device, is refused by a mode of our own while a pass runs.

    python -m tests.support.models.fake_accelerator
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from layertracer._types import Mask, Noise, Perturbation, Skip
from layertracer.models import Network, make_network
from layertracer.tracing._batching.on_devices import OnDevices
from layertracer.tracing._distributions.reduction import Reduction
from layertracer.tracing._passes.ladder import ArgumentAxes, run_ladder
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._perturbers.last_position import LastPosition
from layertracer.tracing._perturbers.mask import MaskPerturber
from layertracer.tracing._perturbers.noise import NoisePerturber
from layertracer.tracing._perturbers.protocol import Fills, Perturber, make_perturber

from tests.support.models.families import build_tiny
from tests.support.models.hybrids import Hybrid

DEVICE = "fakeaccel"
N_PROMPTS, LENGTH = 3, 7

KINDS = ("mean", "mlp", "attention+mlp", "mean+mlp")
"""With two devices, the first has the layers that lack a site, the other those that have both."""
MODELS: dict[str, Callable[[], nn.Module]] = {"plain": lambda: Hybrid(KINDS), "llama": lambda: build_tiny("llama")}
PERTURBATIONS: dict[str, Perturbation] = {
    "zero": Mask(site="block_output", draws=2, fraction=0.5),
    "mean": Mask(site="block_output", draws=2, fraction=0.5, fill="mean"),
    "resample": Mask(site="block_output", draws=2, fraction=0.5, fill="resample"),
    "mixer": Mask(draws=2, fraction=0.5, site="mixer_output"),
    "last": Mask(site="block_output", draws=2, fraction=0.5, positions="last"),
    "noise": Noise(draws=2, site="mlp_output"),
    "skip": Skip(),
}
TRAPS: dict[str, Callable[[Tensor], object]] = {
    "item": lambda rows: rows.sum().item(),
    "bool": lambda rows: bool(rows.isnan().any()),
    "nonzero": lambda rows: rows.nonzero(),
    "mask": lambda rows: rows[rows > 0],
    "list": lambda rows: rows[:, [0, 1]],
    "upload": lambda rows: rows + torch.ones(2, 1).to(rows.device)[:1],
    "fetch": lambda rows: rows.cpu(),
    "mixing": lambda rows: rows + torch.ones(1, 1),
}
"""What must not happen in a pass; each must be noticed."""


class NoHostTraffic(TorchDispatchMode):
    """Refuses operators that take tensors from the host to the device or back."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, if all its tensors, given or returned, lie on one side; numbers lie on both."""
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in _pytree.tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        sides = {tensor.device.type for tensor in tensors if tensor.ndim}
        if len(sides) > 1:
            raise RuntimeError(f"{func} takes tensors from the host to the device or back")
        return result


def put_on_device(module: nn.Module, mode: FakeTensorMode, device: str) -> None:
    """Give a module parameters and buffers without values on a device."""
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, tensor in held.items():
                if tensor is None or tensor.device.type == DEVICE:
                    continue
                moved = mode.from_tensor(tensor.detach()).to(device)
                held[name] = nn.Parameter(moved, requires_grad=False) if held is part._parameters else moved  # type: ignore[assignment]  # either kind of dictionary


def on_accelerator(module: nn.Module, mode: FakeTensorMode, *, n_devices: int) -> Network:
    """A network understood on the CPU, and moved to the accelerator, or spread over two as accelerate does it."""
    network = make_network(module, name=None)
    layers = [layer.module for layer in network.anatomy.layers]
    if n_devices == 2:
        inner = {part for layer in layers for part in layer.modules()}
        later = [part for part in module.children() if part not in inner and "norm" in type(part).__name__.lower()]
        behind = [*layers[len(layers) // 2 :], *later, *(part for part in _tail_parts(module) if part not in later)]
        for part in behind:
            put_on_device(part, mode, f"{DEVICE}:1")
            add_hook_to_module(part, AlignDevicesHook(torch.device(f"{DEVICE}:1"), place_submodules=False))
    put_on_device(module, mode, f"{DEVICE}:0")
    if n_devices == 2:
        add_hook_to_module(module, AlignDevicesHook(torch.device(f"{DEVICE}:0"), io_same_device=True))
    device = torch.device(f"{DEVICE}:0")
    anatomy = replace(network.anatomy, plain_tokens=mode.from_tensor(network.anatomy.plain_tokens))
    return replace(network, device=device, anatomy=anatomy)


def _tail_parts(module: nn.Module) -> list[nn.Module]:
    """The last norm and the head of the models above."""
    names = ("norm", "head", "model.norm", "lm_head")
    return [part for name, part in module.named_modules() if name in names]


def on_host(perturbation: Perturbation, network: Network, mode: FakeTensorMode) -> Perturber:
    """A perturbation whose masks and fills lie on the host, without values."""
    anatomy = network.anatomy
    shape = {"n_layers": anatomy.n_layers, "width": anatomy.d_model}
    made = make_perturber(perturbation, **shape, device=torch.device("cpu"))
    if isinstance(made, MaskPerturber):
        means, bank = torch.zeros(anatomy.n_layers, anatomy.d_model), torch.zeros(anatomy.n_layers, 9, anatomy.d_model)
        keep = torch.from_numpy(made.mask.keep_array(**shape).copy())
        made = replace(
            made,
            keep=OnDevices(mode.from_tensor(keep)),
            fills=Fills.of(mode.from_tensor(means), mode.from_tensor(bank)),
        )
        picks = torch.zeros(anatomy.n_layers, made.mask.draws, LENGTH, dtype=torch.long)
        made._picks[LENGTH] = OnDevices(mode.from_tensor(picks))
    if isinstance(made, NoisePerturber):
        for layer in range(anatomy.n_layers):
            for draw in range(made.noise.draws):
                drawn = torch.zeros(LENGTH, anatomy.d_model)
                made._drawn[layer, draw, tuple(drawn.shape)] = OnDevices(mode.from_tensor(drawn))
    return LastPosition(perturber=made, positions=[LENGTH - 1]) if perturbation.positions == "last" else made


def run_case(model: str, perturbation: str, *, n_devices: int, trap: str | None = None) -> None:
    """Two passes with their reductions: the first may put masks on the device, the second must not talk to the host."""
    mode = FakeTensorMode()
    chosen = PERTURBATIONS[perturbation]
    network = on_accelerator(MODELS[model](), mode, n_devices=n_devices)
    perturber = on_host(chosen, network, mode)
    having = [layer.index for layer in network.anatomy.layers if _has_site(layer, chosen.site)]
    variants, axes = dict.fromkeys(having, range(chosen.n_draws)), ArgumentAxes(network)
    with mode, torch.inference_mode():
        ids = torch.zeros(N_PROMPTS, LENGTH, dtype=torch.long, device=network.device)
        targets = torch.zeros(N_PROMPTS, 1, dtype=torch.long, device=network.device)
        reduction = Reduction(Tail(network), d_vocab=network.anatomy.d_vocab, budget_bytes=2**14)

        def measure() -> Sequence[Tensor]:
            rows = run_ladder(network, ids, read=[LENGTH - 1], perturber=perturber, variants=variants, axes=axes)
            lens = reduction.lens(torch.stack([rows.embedding, *rows.lens_rows], dim=2), targets, n_top=5)
            return lens.log_prob, reduction.js_bits(rows.lens_rows[-1].flatten(0, 1), rows.perturbed.flatten(1, 2))

        measure()
        with NoHostTraffic():
            log_prob, js_bits = measure()
            if trap is not None:
                TRAPS[trap](js_bits)
    assert log_prob.shape == (N_PROMPTS, 1, 1 + network.anatomy.n_layers)
    assert js_bits.shape == (len(having) * chosen.n_draws, N_PROMPTS)
    assert log_prob.device == js_bits.device == network.device


def _has_site(layer: Any, site: str) -> bool:
    roles = {"mixer_output": "mixer", "mlp_output": "mlp"}
    return site == "block_output" or bool(layer.additions.of(roles[site]))


def main() -> None:
    """Run every case, then put every trap into a pass, which must stop it."""
    _setup_privateuseone_for_python_backend(DEVICE)
    for model in MODELS:
        for perturbation in PERTURBATIONS:
            for n_devices in (1, 2):
                run_case(model, perturbation, n_devices=n_devices)
                sys.stdout.write(f"clean: {model}, {perturbation}, {n_devices} device(s)\n")
    for trap in TRAPS:
        try:
            run_case("plain", "zero", n_devices=1, trap=trap)
        except (RuntimeError, NotImplementedError) as error:
            sys.stdout.write(f"stopped: {trap} ({type(error).__name__})\n")


if __name__ == "__main__":
    main()
