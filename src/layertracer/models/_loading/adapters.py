"""Adapters (LoRA and its kin) in the format of peft: a folder of their own, put on the model that they name."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layertracer._errors import ModelLoadError, printable_name
from layertracer.models._loading.loading_report import explained_failures, some_of
from layertracer.models._loading.quiet import quiet_transformers
from layertracer.models._loading.weight_files import safetensors_files
from layertracer.models._plausibility.adapter_patterns import refuse_endless_patterns
from layertracer.models._plausibility.safetensors_header import read_header
from layertracer.models._plausibility.settings import numbers_in
from layertracer.models._plausibility.small_files import check_file, check_small_files, read_json

logger = logging.getLogger("layertracer")

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PICKLED_ADAPTER_WEIGHTS = "adapter_model.bin"

_TASKS = ("CAUSAL_LM", "SEQ_2_SEQ_LM", None)
_ITERATIONS = re.compile(r"_niter_(\d+)$")
_ITERATING = re.compile(r"(^|_)n?iter(ations)?$")
_MOST_ITERATIONS = 1_000
"""So often may a decomposition be made better; peft's own examples take 16."""

_OTHER_MODELS = ("adapters", "shadow_model")
"""Settings that name models and adapters beside the one that it belongs to."""

_SIZES = re.compile(r"^r$|_r$|rank|tokens?$|dim$|size$|layers?$|width$|replication$|^k$|^d_")
_RANKS, _SURE_RANK = 4, 1_024
"""A setting may be so many times the largest side of the weights; so much fits anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An adapter on disk.

    Attributes:
        folder: Folder that holds its files.
        label: What the user calls it; stands in messages.
        base: The model that it belongs to: a path or a hub id.
        base_revision: Commit of that model on the hub; None for the newest.
        allow_pickle: Whether pickled weights may be read where there are no others.
    """

    folder: Path
    label: str
    base: str
    base_revision: str | None
    allow_pickle: bool


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def read_adapter(folder: Path, *, label: str, allow_pickle: bool) -> Adapter:
    """What an adapter's folder says about it; what cannot be used is refused before its model is loaded.

    Raises:
        ModelLoadError: If its configuration is no such thing or names no model, if it was made for another task, if
            there are no weights, if they are pickled without leave, or if the folder holds a whole model too.
    """
    config = _read_config(folder / ADAPTER_CONFIG, label)
    if config.get("task_type") not in _TASKS:
        raise ModelLoadError(
            f"{label} is an adapter for the task {printable_name(config['task_type'])!r}, which does not predict a "
            "next token. Expected one with task_type 'CAUSAL_LM'. Load the model that it was put on."
        )
    if safetensors_files(folder, {}):
        raise ModelLoadError(
            f"{label} holds both a whole model and an adapter ({ADAPTER_CONFIG}): it cannot be told whether the "
            "adapter is merged already. Move the files of one of them into a folder of their own."
        )
    _check_weights(folder, label, allow_pickle=allow_pickle)
    if config.get("megatron_config") is not None:
        raise ModelLoadError(
            f"{label} names a package that peft would import ('megatron_core' in its {ADAPTER_CONFIG} is "
            f"{printable_name(config.get('megatron_core'))!r}), for training on several machines. Remove "
            "'megatron_config' and 'megatron_core' there: reading the adapter needs neither."
        )
    if importlib.util.find_spec("peft") is None:
        raise ModelLoadError(
            f"{label} holds an adapter, and the package that reads adapters is not installed. Run `pip install peft`, "
            "or merge the adapter into its model (merge_and_unload), save that, and give its folder."
        )
    _refuse_other_models(config, label)
    _refuse_implausible_sizes(folder, config, label)
    _refuse_iterations(config, label)
    revision = config.get("revision")
    return Adapter(
        folder=folder,
        label=label,
        base=_find_base(folder, config.get("base_model_name_or_path"), label),
        base_revision=revision if isinstance(revision, str) else None,
        allow_pickle=allow_pickle,
    )


def put_on(module: nn.Module, adapter: Adapter, *, device: torch.device) -> tuple[nn.Module, tuple[str, ...]]:
    """The model with the adapter on it, not merged, and what a user should know of it.

    The adapter's weights stay beside the model's own.

    Raises:
        ModelLoadError: If the adapter does not fit the model, or lacks weights that it needs.
        OutOfMemoryError: If it does not fit on the device.
    """
    with (
        explained_failures(adapter.label, str(device)),
        quiet_transformers(),
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        peft: Any = importlib.import_module("peft")
        settings = _read_settings(peft, adapter)
        refuse_endless_patterns(settings.to_dict(), module, adapter.label)
        adapted = peft.PeftModel.from_pretrained(
            module,
            str(adapter.folder),
            config=settings,
            is_trainable=False,
            torch_device=str(device),
            local_files_only=True,
        )
    messages = [str(warning.message) for warning in said if issubclass(warning.category, UserWarning)]
    missing = [message for message in messages if "missing adapter keys" in message]
    if missing:
        raise ModelLoadError(
            f"{adapter.label} lacks weights that its configuration asks for: {missing[0].partition(': ')[2][:300]} "
            "They would be random. Copy the whole adapter."
        )
    notes = _describe_unused(adapted, adapter)
    for message in (*messages, *notes):
        logger.warning("%s: %s", adapter.label, " ".join(message.split()))
    return adapted.eval().requires_grad_(False), notes


def _read_settings(peft: Any, adapter: Adapter) -> Any:
    """The adapter's settings as peft reads them, without the files that its training began with.

    Those are named by path, anywhere on this machine, and peft would open and unpickle them, only to load the adapter's
    own weights over what they hold.
    """
    settings = peft.PeftConfig.from_pretrained(str(adapter.folder))
    for name in list(vars(settings)):
        if name.endswith(("_path", "_file")) and name != "base_model_name_or_path":
            setattr(settings, name, None)
    if getattr(settings, "prompt_tuning_init", None) is not None:
        settings.prompt_tuning_init = "RANDOM"
    return settings


def _describe_unused(adapted: Any, adapter: Adapter) -> tuple[str, ...]:
    """A note where the file holds weights for parts of the model that the configuration does not adapt."""
    path = adapter.folder / ADAPTER_WEIGHTS
    if not path.is_file():
        return ()
    peft: Any = importlib.import_module("peft")
    used = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)) | set(adapted.state_dict())
    unused = sorted(set(read_header(path)) - used)
    note = (
        f"The adapter holds {len(unused)} weight(s) for which its configuration makes no place: {some_of(unused)}. "
        "They are left out, and every number may be off: use the adapter_config.json that belongs to them."
    )
    return (note,) if unused else ()


def _read_config(path: Path, label: str) -> dict[str, Any]:
    config = read_json(path, label, what="the configuration of an adapter")
    if not config.get("peft_type"):
        raise ModelLoadError(f"{label}: {path} is not the configuration of an adapter: it names no 'peft_type'.")
    return config


def _check_weights(folder: Path, label: str, *, allow_pickle: bool) -> None:
    check_small_files(folder, label)
    if (folder / ADAPTER_WEIGHTS).exists():
        check_file(folder / ADAPTER_WEIGHTS, label)
        return
    if not (folder / PICKLED_ADAPTER_WEIGHTS).is_file():
        raise ModelLoadError(
            f"{label} has an {ADAPTER_CONFIG} but no weights: expected {ADAPTER_WEIGHTS} in {folder}. Copy the whole "
            "adapter."
        )
    if not allow_pickle:
        raise ModelLoadError(
            f"{label} has pickled weights only ({PICKLED_ADAPTER_WEIGHTS}), and unpickling runs whatever code they "
            "carry. Expected safetensors. Save the adapter with save_pretrained, or, if you trust the file, use "
            "allow_pickle=True."
        )


def _refuse_other_models(config: Mapping[str, Any], label: str) -> None:
    """Refuse an adapter made of other adapters or models, which peft would load from wherever they are named."""
    named = [name for name in _OTHER_MODELS if config.get(name)]
    if named:
        raise ModelLoadError(
            f"{label} names further models or adapters in its {ADAPTER_CONFIG} ({', '.join(named)}), which may lie "
            "anywhere and were not asked for. Merge the adapter into its model (merge_and_unload), save that, and give "
            "its folder."
        )


def _refuse_iterations(config: Mapping[str, Any], label: str) -> None:
    """Refuse a start of the weights that is made better without end."""
    found = _ITERATIONS.search(str(config.get("init_lora_weights")))
    numbers = [(name, value) for name, value in numbers_in(config) if _ITERATING.search(name)]
    numbers += [("init_lora_weights", int(found[1][:30]))] if found else []
    for name, value in numbers:
        if value > _MOST_ITERATIONS:
            raise ModelLoadError(
                f"{label}: its {ADAPTER_CONFIG} asks for {value:,} iterations ({printable_name(name)}); at most "
                f"{_MOST_ITERATIONS:,} are expected. Use the {ADAPTER_CONFIG} that belongs to its weights."
            )


def _refuse_implausible_sizes(folder: Path, config: Mapping[str, Any], label: str) -> None:
    """Refuse a rank, or another width, that is far from all sizes of the weights: peft would take the memory for it.

    Ranks may be lowered again for each part of a model, so that some more than the weights have is no contradiction.
    """
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():  # pickled, and trusted
        return
    shapes = [tensor.get("shape") for tensor in read_header(path).values() if isinstance(tensor, dict)]
    sizes = [size for shape in shapes if isinstance(shape, list) for size in shape if isinstance(size, int)]
    held = max(_SURE_RANK, _RANKS * max(sizes, default=0))
    ranks = (("rank_pattern", value) for _, value in numbers_in(config.get("rank_pattern")))
    for name, value in (*ranks, *numbers_in(config)):
        if _SIZES.search(name) and value > held:
            raise ModelLoadError(
                f"{label}: its {ADAPTER_CONFIG} asks for {printable_name(name)} = {value:,}, and no side of its "
                f"weights has more than {max(sizes, default=0):,}. Use the {ADAPTER_CONFIG} that belongs to them."
            )


def _find_base(folder: Path, named: object, label: str) -> str:
    """The model that an adapter names: a path as it stands or seen from the adapter's folder, else as it is called."""
    if not isinstance(named, str) or not named:
        raise ModelLoadError(
            f"{label} does not say which model it belongs to: 'base_model_name_or_path' in its {ADAPTER_CONFIG} is "
            f"{named!r}. Enter the model's hub id or folder there."
        )
    beside = folder / named
    return str(beside) if not Path(named).exists() and beside.exists() else named
