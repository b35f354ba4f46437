"""Model straight out of a .gguf file, and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from layertracer._errors import ModelLoadError, printable_cause, printable_name
from layertracer.models._converted.file_hash import forget_hash, hash_file
from layertracer.models._gguf.header import check_header
from layertracer.models._gguf.settings import correct, read_facts, read_scalars
from layertracer.models._gguf.tensors import check_tensors, fill_absent_biases, refuse_unused
from layertracer.models._gguf.tokenizer import build_tokenizer
from layertracer.models._gguf.vocabulary import read_vocabulary
from layertracer.models._loading.loading_report import check_loading_report, explained_failures
from layertracer.models._loading.quiet import quiet_gguf_reader, quiet_transformers
from layertracer.models._plausibility.settings import refuse_countless_parts


class ChangedFileError(ModelLoadError):
    """A file is not, or no longer, the one of the hash that it was read under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufModel:
    """What a .gguf file yields.

    Attributes:
        module: The model, in evaluation mode, without gradients.
        tokenizer: Its tokenizer; None where the file has none that can be built.
        notes: What a user should know of it; the same whether it came from the file or from its copy.
    """

    module: nn.Module
    tokenizer: Any | None
    notes: tuple[str, ...]


def read_gguf(path: Path, label: str, *, digest: str) -> GgufModel:
    """The model in float32 on the CPU and its tokenizer, straight out of the file.

    Args:
        path: The file.
        label: What the user calls it.
        digest: Its SHA-256, under which a copy of what is read will be kept.

    Raises:
        ModelLoadError: If it cannot be read, or holds weights that would be left out.
        ChangedFileError: If it changed while it was read, or never was of that hash.
    """
    model = _read(path, label)
    if hash_file(path) != digest:
        forget_hash(path)
        raise ChangedFileError(
            f"{label} changed while it was read: its content is no longer that of SHA-256 {digest[:12]}…. Wait until "
            "whatever writes it is done, and load it again."
        )
    return model


def _read(path: Path, label: str) -> GgufModel:
    import gguf
    import transformers

    library: Any = transformers  # its loaders come without types
    source: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    weights = dict(source)
    if hasattr(library, "GgufConfig"):  # from 5.20 on, which otherwise keeps some architectures in 4-bit blocks
        weights["quantization_config"] = library.GgufConfig(dequantize=True)
    folder = str(path.absolute().parent)  # not resolved: a link may have another name than its file
    check_header(path, label)
    with explained_failures(label, "cpu"), quiet_transformers(), quiet_gguf_reader():
        try:
            reader = gguf.GGUFReader(path)
        except Exception as error:  # noqa: BLE001 - views and shapes of NumPy, whatever they raise where the bytes are not there
            raise ModelLoadError(
                f"{label} cannot be read as a .gguf file ({type(error).__name__}: "
                f"{printable_name(error, at_most=300)}). Download it again, and compare its size with the one that is "
                "given there."
            ) from printable_cause(error)
        scalars = read_scalars(reader)
        facts = read_facts(reader, scalars)
        tokenizer, notes = build_tokenizer(path, read_vocabulary(reader, scalars))
        refuse_countless_parts(facts.settings, facts.held, label)
        config = library.AutoConfig.from_pretrained(folder, **source)
        unread = correct(config, facts)
        auto_class = library.AutoModelForSeq2SeqLM if config.is_encoder_decoder else library.AutoModelForCausalLM
        with torch.device("meta"):  # no weights yet
            check_tensors(auto_class.from_config(config), facts, label)
        module, report = auto_class.from_pretrained(
            folder, **weights, config=config, dtype=torch.float32, output_loading_info=True
        )
        refuse_unused(module, report.get("unexpected_keys") or (), facts, label)
        check_loading_report(module, fill_absent_biases(module, report), label)
    _forget_origin(module)
    if unread:
        notes = (*notes, _describe_unread(unread))
    return GgufModel(module=module.eval().requires_grad_(False), tokenizer=tokenizer, notes=notes)


def _describe_unread(settings: tuple[str, ...]) -> str:
    return (
        f"The .gguf file holds settings that transformers has no place for ({', '.join(settings)}): its numbers are "
        "not quite those of the original model. Prefer its checkpoint in safetensors."
    )


def _forget_origin(module: Any) -> None:
    """Make the model an ordinary one: transformers refuses to save what it takes for quantised."""
    module.hf_quantizer = None
    if getattr(module.config, "quantization_config", None) is not None:
        del module.config.quantization_config
