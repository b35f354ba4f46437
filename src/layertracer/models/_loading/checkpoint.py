"""Checkpoint in the Hugging Face format, on disk or in the hub's cache: its model and tokenizer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layertracer._errors import ModelLoadError, RemoteCodeError, printable_name
from layertracer.models._calling.heads import OTHER_HEADS
from layertracer.models._loading.loading_report import OTHER_FILES, check_loading_report, explained_failures
from layertracer.models._loading.placement import Placement
from layertracer.models._loading.quiet import paused_collector, quiet_transformers
from layertracer.models._loading.unused_weights import describe_unused
from layertracer.models._loading.weight_files import check_weight_files, weigh_files, weight_files
from layertracer.models._plausibility.contradictions import describe_contradictions, describe_rounding
from layertracer.models._plausibility.settings import Held, refuse_countless_parts, refuse_unfillable
from layertracer.models._plausibility.settings_at_hand import refuse_unknown_types, use_attention_at_hand
from layertracer.models._plausibility.settings_trial import refuse_filling_settings
from layertracer.models._plausibility.small_files import check_small_files, read_json
from layertracer.models._tokenizers.steps import refuse_unbounded_steps, refuse_what_ends_the_program
from layertracer.models._tokenizers.vocabulary import refuse_lost_vocabulary
from layertracer.tasks import within

_TOKENIZER_FILES = ("tokenizer*", "vocab*", "merges.txt", "*.model", "*.tiktoken", "*vocab*.txt", "*vocab*.json")
_AT_MOST = 20
"""So many architectures are named; a checkpoint has one."""

_TOKENIZER_S = 120.0
"""The largest tokenizers are loaded in five seconds."""

_IMPLEMENTATION = "_implementation"
"""Ending of the settings that choose code for attention and experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where a checkpoint lies and how it may be read.

    Attributes:
        folder: Folder on disk that holds its files.
        label: What the user calls it; stands in messages.
        hub_id: Repository of the hub that `folder` is a snapshot of; None for a folder of the user's.
        commit: Commit of that snapshot.
        trust_remote_code: Whether code in the checkpoint may run.
        allow_pickle: Whether pickled weights may be read where there are no others.
        is_converted: Whether it is a copy of LayerTracer's own, whose tokenizer file is run as it stands.
    """

    folder: Path
    label: str
    hub_id: str | None = None
    commit: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    is_converted: bool = False

    def arguments(self) -> dict[str, Any]:
        """Arguments for `from_pretrained` that let it ask nothing of the hub.

        A snapshot is named by its repository and commit, for transformers knows some repositories whose tokenizer
        files need a correction by their name.
        """
        arguments: dict[str, Any] = {"trust_remote_code": self.trust_remote_code}
        if self.hub_id is None:
            return arguments | {"pretrained_model_name_or_path": str(self.folder), "local_files_only": True}
        arguments |= {"pretrained_model_name_or_path": self.hub_id, "revision": self.commit}
        # Code may live in a repository other than that of the weights, and come from the network.
        return arguments | {"local_files_only": not self.trust_remote_code}


def load_checkpoint(
    checkpoint: Checkpoint, *, placement: Placement, dtype: torch.dtype | None
) -> tuple[nn.Module, Any | None, tuple[str, ...]]:
    """The model, in evaluation mode where it shall be, its tokenizer if it has one, and what a user should know of it.

    Args:
        checkpoint: What to load.
        placement: Where the model shall be.
        dtype: Floating-point type of the weights; None for the checkpoint's own.

    Raises:
        ModelLoadError: If files are missing, damaged or refused, if it is not a language model, or if the model
            needs weights that the checkpoint lacks.
        RemoteCodeError: If the checkpoint needs code of its own and may not run it.
        OutOfMemoryError: If the model does not fit on the device.
    """
    check_small_files(checkpoint.folder, checkpoint.label)
    raw_config = read_config(checkpoint)
    refuse_other_heads(raw_config, checkpoint.label)
    is_pickled = check_weight_files(
        checkpoint.folder, raw_config, checkpoint.label, allow_pickle=checkpoint.allow_pickle
    )
    refuse_unknown_types(raw_config, checkpoint.label)
    with paused_collector(), quiet_transformers():
        check_remote_code(raw_config, checkpoint)
        module, notes = _load_module(checkpoint, raw_config, placement=placement, dtype=dtype, is_pickled=is_pickled)
        tokenizer = load_tokenizer(checkpoint)
    return module, tokenizer, notes


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The checkpoint's config.json as it stands, before any code looks at it.

    Raises:
        ModelLoadError: If it is not a JSON object, or absurdly large.
    """
    path = checkpoint.folder / "config.json"
    return read_json(path, checkpoint.label, what="the JSON file with a 'model_type' that save_pretrained writes")


def refuse_other_heads(raw_config: Mapping[str, Any], label: str) -> None:
    """Refuse a checkpoint that was trained to predict something else than the next token.

    Raises:
        ModelLoadError: If every architecture that it names is such a model.
    """
    architectures = _architectures(raw_config)
    if architectures and all(OTHER_HEADS.search(name) for name in architectures):
        raise ModelLoadError(
            f"{label} is {', '.join(architectures)}, which does not predict a next token, so there is nothing to read "
            "after its layers. Expected a language model such as LlamaForCausalLM. Load the model that it was "
            "fine-tuned from."
        )


def check_remote_code(raw_config: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint that transformers has no code for and that may not run its own.

    A checkpoint that brings code for an architecture that transformers knows is read with transformers' code.

    Raises:
        RemoteCodeError: If it needs its own code.
    """
    from transformers import CONFIG_MAPPING

    if not checkpoint.trust_remote_code:
        _refuse_named_kernels(raw_config, checkpoint.label)
    auto_map = raw_config.get("auto_map")
    if not auto_map or checkpoint.trust_remote_code or raw_config.get("model_type") in CONFIG_MAPPING:
        return
    references = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    files = sorted({_file_of(reference) for reference in references})[:_AT_MOST]
    raise RemoteCodeError(
        f"{checkpoint.label} brings its own code ({', '.join(files)}), which would run on this machine with your "
        "rights; nobody has allowed that. Read the code, and if you trust it use trust_remote_code=True "
        "(--trust-remote-code on the command line)."
    )


def _refuse_named_kernels(raw_config: Mapping[str, Any], label: str) -> None:
    """Refuse a configuration that names kernels on the hub: they are code, which would be fetched and run.

    Raises:
        RemoteCodeError: With the name.
    """
    pending: list[tuple[str, Any]] = [("", raw_config)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            is_choice = name.endswith(_IMPLEMENTATION)
            pending += [(name if is_choice else str(key), one) for key, one in value.items()]
        elif isinstance(value, list):
            pending += [(name, one) for one in value]
        elif isinstance(value, str) and name.endswith(_IMPLEMENTATION) and "/" in value:
            raise RemoteCodeError(
                f"{label} names kernels on the hub in its config.json ({name} = {printable_name(value)!r}), which are "
                "code that would run on this machine with your rights; nobody has allowed that. Remove that setting, "
                "or, if you trust it, use trust_remote_code=True (--trust-remote-code on the command line)."
            )


def _file_of(reference: object) -> str:
    """The file of an entry of `auto_map` such as "modeling_x.XForCausalLM" or "owner/name--modeling_x.X"."""
    name = str(reference[0] if isinstance(reference, list | tuple) and reference else reference)
    return printable_name(f"{name.rpartition('.')[0] or name}.py")


def _architectures(raw_config: Mapping[str, Any]) -> list[str]:
    named = raw_config.get("architectures")
    return [printable_name(name) for name in named[:_AT_MOST]] if isinstance(named, list) else []


def _load_module(
    checkpoint: Checkpoint,
    raw_config: Mapping[str, Any],
    *,
    placement: Placement,
    dtype: torch.dtype | None,
    is_pickled: bool,
) -> tuple[nn.Module, tuple[str, ...]]:
    import transformers

    library: Any = transformers  # its loaders come without types
    arguments = checkpoint.arguments()
    files = weight_files(checkpoint.folder, raw_config)
    held = weigh_files(checkpoint.folder, files)
    refuse_countless_parts(raw_config, held, checkpoint.label)
    with explained_failures(checkpoint.label, placement.description):
        if not checkpoint.trust_remote_code:
            refuse_filling_settings(raw_config, lambda: _build_skeleton(checkpoint, raw_config), checkpoint.label)
        config = library.AutoConfig.from_pretrained(**arguments)
        notes = use_attention_at_hand(config)
        auto_class = _choose_auto_class(config, raw_config, checkpoint)
        _check_size(auto_class, config, held, checkpoint, placement=placement, dtype=dtype)
        module, report = auto_class.from_pretrained(
            **arguments,
            **placement.arguments(),
            config=config,
            dtype="auto" if dtype is None else dtype,
            use_safetensors=not is_pickled,
            # Sizes that differ come back in the report, with names, instead of as an error without them.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    check_loading_report(module, report, checkpoint.label)
    notes += describe_unused(module, report.get("unexpected_keys") or (), raw_config)
    files = () if is_pickled else files
    notes += describe_contradictions(module, checkpoint.folder, files, checkpoint.label)
    notes += describe_rounding(module, checkpoint.folder, files) if dtype is None else ()
    return module.eval().requires_grad_(False), notes


def _build_skeleton(checkpoint: Checkpoint, raw_config: Mapping[str, Any]) -> None:
    """All that is made of a configuration before weights are read, to be thrown away."""
    import transformers

    library: Any = transformers
    config = library.AutoConfig.from_pretrained(**checkpoint.arguments())
    use_attention_at_hand(config)
    with torch.device("meta"):
        _choose_auto_class(config, raw_config, checkpoint).from_config(config)


def _check_size(
    auto_class: Any, config: Any, held: Held, checkpoint: Checkpoint, *, placement: Placement, dtype: torch.dtype | None
) -> None:
    """Refuse a model that the files cannot fill, or that this machine cannot hold, before it is built."""
    if checkpoint.trust_remote_code:
        return  # its own code may build what it likes

    def build() -> nn.Module:
        skeleton: nn.Module = auto_class.from_config(copy.deepcopy(config))
        return skeleton

    in_main_memory = placement.device_map is None and placement.device.type == "cpu"
    refuse_unfillable(
        build,
        held,
        checkpoint.label,
        memory_bytes_per_parameter=dtype.itemsize if in_main_memory and dtype is not None else None,
    )


def _choose_auto_class(config: Any, raw_config: Mapping[str, Any], checkpoint: Checkpoint) -> Any:
    """The class of transformers that builds this model with a head that predicts tokens."""
    import transformers

    library: Any = transformers
    candidates = [
        (library.AutoModelForCausalLM, library.MODEL_FOR_CAUSAL_LM_MAPPING),
        (library.AutoModelForImageTextToText, library.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
        (library.AutoModelForSeq2SeqLM, library.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
    ]
    is_decoder_only = any(name.endswith("ForCausalLM") for name in _architectures(raw_config))
    if getattr(config, "is_encoder_decoder", False) and not is_decoder_only:
        # BART's kind is in the causal list too, where only its decoder would be built.
        candidates = candidates[::-1]
    own_code = dict(getattr(config, "auto_map", None) or {}) if checkpoint.trust_remote_code else {}
    for auto_class, known in candidates:
        if auto_class.__name__ in own_code or type(config) in known:
            return auto_class
    architectures = ", ".join(_architectures(raw_config)) or "no architecture"
    raise ModelLoadError(
        f"{checkpoint.label}: model type {raw_config.get('model_type')!r} ({architectures}) is not a language model "
        f"that transformers {library.__version__} can build. Upgrade transformers, or build the module yourself and "
        "use wrap_model."
    )


def load_tokenizer(checkpoint: Checkpoint) -> Any | None:
    """The checkpoint's tokenizer; None where it has no file of one."""
    import transformers

    if not any(next(checkpoint.folder.glob(pattern), None) for pattern in _TOKENIZER_FILES):
        return None
    library: Any = transformers
    own = checkpoint.folder / "tokenizer.json"
    if own.is_file():
        refuse_what_ends_the_program(own, checkpoint.label)
    with explained_failures(f"The tokenizer of {checkpoint.label}", "cpu", what_helps=OTHER_FILES):
        loader = library.PreTrainedTokenizerFast if checkpoint.is_converted else library.AutoTokenizer

        def load() -> Any:
            return loader.from_pretrained(**checkpoint.arguments())

        if not checkpoint.trust_remote_code:
            settings = _read_tokenizer_settings(checkpoint)
            refuse_filling_settings(settings, load, f"The tokenizer of {checkpoint.label}")
        tokenizer = within(_TOKENIZER_S, load)
        refuse_unbounded_steps(tokenizer, checkpoint.label)
        if not checkpoint.trust_remote_code:
            refuse_lost_vocabulary(tokenizer, checkpoint.folder, checkpoint.label)
        return tokenizer


def _read_tokenizer_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.folder / "tokenizer_config.json"
    return read_json(path, checkpoint.label, what="the settings of a tokenizer") if path.is_file() else {}
