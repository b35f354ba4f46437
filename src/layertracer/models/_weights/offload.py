"""Offloaded weights, which accelerate places: on several devices, in main memory, or on disk until they are needed.

accelerate puts hooks around the `forward` of modules. They move what a module is given to its device and,
where its weights are offloaded, load these before it runs and drop them afterwards. Between calls such
weights are on the meta device: they have a shape and a type, and no values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from layertracer._errors import AnatomyError

_META = torch.device("meta")


def hooks_of(module: nn.Module) -> list[Any]:
    """Accelerate's hooks on one module, in the order in which they run."""
    hook = getattr(module, "_hf_hook", None)
    if hook is None:
        return []
    return list(getattr(hook, "hooks", (hook,)))  # several in one stand in a sequence


def is_placed(module: nn.Module) -> bool:
    """Whether accelerate placed some part of a module."""
    return any(hooks_of(part) for part in module.modules())


def execution_devices(module: nn.Module) -> list[torch.device]:
    """The devices on which parts of a module compute, each once: first the one on which token ids must lie."""
    hooked = [
        torch.device(hook.execution_device)
        for part in module.modules()
        for hook in hooks_of(part)
        if getattr(hook, "execution_device", None) is not None
    ]
    own = [parameter.device for parameter in module.parameters() if parameter.device != _META]
    return list(dict.fromkeys([*hooked, *own])) or [torch.device("cpu")]


def refuse_absent_weights(module: nn.Module) -> None:
    """Raise for weights on the meta device that nobody would load.

    Raises:
        AnatomyError: If there are such weights; names the first.
    """
    for name, parameter in module.named_parameters():
        if parameter.device == _META and not _sources(module, name):
            raise AnatomyError(
                f"{type(module).__name__} has a parameter without values ({name} is on the meta device), and nothing "
                "loads it when it is needed. Load the weights first, or let accelerate offload them."
            )


def fetch_weight(module: nn.Module, name: str) -> Tensor | None:
    """An offloaded weight of a module with its values, from where it lies; None where nothing would load it.

    Args:
        module: The network.
        name: The weight's name in it. A tied one may be kept under another of its names.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    tied: Any = getattr(module, "all_tied_weights_keys", None)
    source = tied.get(name) if isinstance(tied, Mapping) else None
    same = [other for other, one in parameters.items() if one is parameters.get(name)]
    for candidate in dict.fromkeys([name, *same, *([source] if source in parameters else [])]):
        for weights, key in _sources(module, candidate):
            # Maps of weights are other libraries', over files that may be gone: whatever they raise, a trace that is
            # finished must not be lost to it.
            with contextlib.suppress(Exception):
                fetched: Tensor = weights[key]
                return fetched
    return None


def n_distinct_parameters(module: nn.Module) -> int:
    """Number of parameters of a module, tied ones counted once.

    Offloading makes two parameters out of a tied one; transformers' own list of what is tied tells them apart.
    """
    parameters = dict(module.named_parameters())
    tied: Any = getattr(module, "all_tied_weights_keys", None)
    sources = tied if isinstance(tied, Mapping) else {}
    copies = {name for name, source in sources.items() if source in parameters and parameters[source].device == _META}
    return sum(parameter.numel() for name, parameter in parameters.items() if name not in copies)


def _sources(module: nn.Module, name: str) -> list[tuple[Any, str]]:
    """Where a parameter comes from when it is needed: maps of weights, with its key in each."""
    steps = name.split(".")
    found = []
    for depth in range(len(steps)):
        key = ".".join(steps[depth:])
        for hook in hooks_of(module.get_submodule(".".join(steps[:depth]))):
            weights = getattr(hook, "weights_map", None)
            # Only a hook that places submodules loads what lies deeper.
            if weights is not None and (depth == len(steps) - 1 or getattr(hook, "place_submodules", False)):
                found.append((weights, key))
    return found


@contextmanager
def keeping_loaded(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Offloaded weights of `modules` stay loaded from their first use in the block to its end.

    Without it, every call of a module loads its weights again. Modules that are not offloaded stay as they are.

    Args:
        modules: Each for its own weights, without those of its parts.
    """
    with ExitStack() as stack:
        for module in modules:
            for hook in hooks_of(module):
                if getattr(hook, "offload", None) is True and "post_forward" not in vars(hook):
                    stack.enter_context(_kept_loaded(module, hook))
        yield


@contextmanager
def _kept_loaded(module: nn.Module, hook: Any) -> Iterator[None]:
    drop = hook.post_forward

    def keep(module: nn.Module, output: Any) -> Any:
        hook.offload = False  # neither dropped now nor loaded by the next call
        return drop(module, output)

    vars(hook)["post_forward"] = keep
    try:
        yield
    finally:
        del vars(hook)["post_forward"]
        if hook.offload is False:
            hook.offload = True
            drop(module, None)
