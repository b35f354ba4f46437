"""A model that is ready to be traced: loaded, understood and proved."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import nn

from layertracer._errors import UsageError
from layertracer._types import Sample, SelfCheck, TargetKind, TargetTokens
from layertracer.models import (
    Anatomy,
    DeviceMap,
    Network,
    compile_layers,
    find_tokenizer,
    load_parts,
    make_network,
    take_tokenizer,
    without_gradients,
)
from layertracer.tasks import EncodedTask, Task, encode_samples
from layertracer.tracing._batching.prompts import Prompt, prepare_prompts
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._lenses.protocol import FittedLens, Lens
from layertracer.tracing._passes.argument_axes import ArgumentAxes
from layertracer.tracing._passes.tail import Tail
from layertracer.tracing._planning.measured_costs import CostProbe
from layertracer.tracing._proofs.cache_site import StateProof
from layertracer.tracing._proofs.continuations import UnderstoodCache
from layertracer.tracing._proofs.self_check import check_network, why_not_compiled
from layertracer.tracing._proofs.shared_prefix import PrefixProof

_LOG = logging.getLogger("layertracer")

_AT_LOAD = "while it was looked at and proved"


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedModel:
    """A language model with its anatomy and the proof that it is read rightly.

    Attributes:
        network: The model and what was found in it.
        self_check: The proof, with the error of every check.
        axes: Batch axes of its layers' arguments, learnt as prompts come.
        state_proof: The proof of the site "state", made when it is first asked for.
        prefix_proof: The proof that prompts may share prefixes, made when that is first worth it.
        cost_probe: What its layers cost, measured when that is first worth it.
    """

    network: Network
    self_check: SelfCheck
    axes: ArgumentAxes
    state_proof: StateProof
    prefix_proof: PrefixProof
    cost_probe: CostProbe

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self.network.module

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer; None where it has none."""
        return self.network.tokenizer

    @property
    def device(self) -> torch.device:
        """Where token ids must lie."""
        return self.network.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of its parameters."""
        return self.network.dtype

    @property
    def name(self) -> str:
        """Its name, as users call it."""
        return self.network.name

    @property
    def anatomy(self) -> Anatomy:
        """Its decoder layers."""
        return self.network.anatomy

    @property
    def as_written(self) -> Network:
        """The network with its layers as they are written, compiled or not."""
        return self.prefix_proof.network

    @without_gradients()
    def check_everything(self) -> SelfCheck:
        """The proof at load together with those that are otherwise made when they are first needed."""
        return self.prefix_proof.attempted(self.state_proof.attempted(self.self_check))

    def check_so_far(self) -> SelfCheck:
        """The proof at load together with what else was proved since."""
        return self.prefix_proof.added_to(self.state_proof.added_to(self.self_check))

    def __repr__(self) -> str:
        """One line: name, layers, width, vocabulary, method."""
        anatomy = self.anatomy
        return (
            f"TracedModel({self.name!r}, n_layers={anatomy.n_layers}, d_model={anatomy.d_model}, "
            f"d_vocab={anatomy.d_vocab}, device={str(self.device)!r}, method={self.self_check.method!r})"
        )


if TYPE_CHECKING:
    Loadable: TypeAlias = str | Path | nn.Module | TracedModel
    Wrappable: TypeAlias = nn.Module | TracedModel
else:  # under test, annotations are looked up when a function is called: what is none of these has an error of ours
    Loadable = Wrappable = Any


def is_module(given: object) -> bool:
    """Whether something is a module of PyTorch, for those who import none of it."""
    return isinstance(given, nn.Module)


@without_gradients()
def load_model(  # noqa: PLR0913 - what users call takes its settings by name
    name_or_path: Loadable = "smollm2",
    *,
    device: str | torch.device = "auto",
    device_map: DeviceMap | None = None,
    offload_folder: str | Path | None = None,
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    compile: bool = False,  # noqa: A002 - as PyTorch calls it
) -> TracedModel:
    """A pretrained model, ready to be traced.

    Args:
        name_or_path: The embedded default "smollm2", an id on the Hugging Face hub, a folder with a
            checkpoint, or a .gguf file. A module that is loaded already is wrapped, see `wrap_model`, with the
            tokenizer of the local folder that its configuration names.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", …
        device_map: For a model that is too large for one device: "auto" spreads it over all GPUs, main memory and disk,
            as "balanced", "balanced_low_0" and "sequential" do in their ways; or a place for every part by its name,
            {"model.embed_tokens": 0, "model.layers.0": "cpu", …, "lm_head": "disk"}.
        offload_folder: Folder for weights that go to disk and cannot be read from the checkpoint itself.
        dtype: "auto" (float32 on a CPU, else the checkpoint's own), "float32", "bfloat16" or "float16".
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that the checkpoint brings may run.
        allow_pickle: Whether pickled weights may be loaded; loading them can run code.
        compile: Whether its layers are compiled (torch.compile) for the passes; where that is not right for them, the
            self-check says so, and they run as they are written.

    Raises:
        UnknownNameError: If there is no such model.
        UsageError: If a device or a type does not exist, `device` and `device_map` are both given, or it is something
            else than a name, a path or a module.
        ModelLoadError: If its files are missing, damaged or refused, or the hub cannot be reached.
        RemoteCodeError: If it brings code that is not allowed to run.
        AnatomyError: If no decoder stack is found in it.
        SelfCheckError: If it cannot be read rightly.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        asked = {"device": device != "auto", "device_map": device_map is not None, "dtype": dtype != "auto"}
        asked |= {"offload_folder": offload_folder is not None, "revision": revision is not None}
        return _take_loaded(name_or_path, [name for name, is_asked in asked.items() if is_asked], compile=compile)
    parts = load_parts(
        name_or_path,
        device=device,
        device_map=device_map,
        offload_folder=offload_folder,
        dtype=dtype,
        revision=revision,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    with explaining_failures(parts.name, _AT_LOAD):
        network = make_network(
            parts.module, name=parts.name, tokenizer=parts.tokenizer, revision=parts.revision, source=parts.source
        )
        return prove(network, compile=compile, notes=parts.notes)


def _take_loaded(
    given: Any,
    asked: Sequence[str],
    *,
    compile: bool,  # noqa: A002 - as above
) -> TracedModel:
    """A model that needs no loading."""
    if not isinstance(given, nn.Module | TracedModel):
        raise UsageError(
            f"name_or_path cannot be {_kind_of(given)}. Give a name, a path, or a module (torch.nn.Module)."
        )
    if asked:
        raise UsageError(
            f"{', '.join(asked)} cannot be chosen for a model that is loaded already ({type(given).__name__}). Move or "
            "convert the module yourself, or give its name or path."
        )
    if isinstance(given, TracedModel):
        return given
    return wrap_model(given, find_tokenizer(given), compile=compile)


def _kind_of(given: object) -> str:
    return f"the class {given.__name__}" if isinstance(given, type) else f"of type {type(given).__name__}"


@without_gradients()
def wrap_model(
    module: Wrappable,
    tokenizer: Any = None,
    *,
    name: str | None = None,
    layers: str | None = None,
    compile: bool = False,  # noqa: A002 - as PyTorch calls it
) -> TracedModel:
    """Any module that takes token ids and returns logits, ready to be traced.

    Args:
        module: Takes ids [batch, position] and returns logits [batch, position, d_vocab], alone or in
            a tuple, a dictionary or an object. It is put into evaluation mode. A module inside torch.compile,
            DataParallel, DistributedDataParallel or AveragedModel is taken out of it, and what is compiled runs as it
            is written. One that accelerate spread or offloads (dispatch_model, cpu_offload, disk_offload) stays so.
            What is wrapped already is wrapped anew where anything else is given, and else stays as it is.
        tokenizer: Its tokenizer, of transformers or of the library tokenizers, or the folder of one; not needed for
            samples given as token ids.
        name: As you call it; its class's name by default.
        layers: Name of the container of its layers, where several could be meant.
        compile: Whether its layers are compiled for the passes, see `load_model`; the module itself stays as it is.

    Raises:
        UsageError: If it is no module, or the tokenizer none that can be used.
        AnatomyError: If no decoder stack is found in it, or more than one, or if it predicts something else than the
            next token.
        SelfCheckError: If it cannot be read rightly.
    """
    tokenizer = take_tokenizer(tokenizer)
    if isinstance(module, TracedModel):
        if tokenizer is None and name is None and layers is None and not compile:
            return module
        tokenizer = module.tokenizer if tokenizer is None else tokenizer
        name, module = name or module.name, module.module
    if not isinstance(module, nn.Module):
        raise UsageError(
            f"module cannot be {_kind_of(module)}. Give an instance of torch.nn.Module that takes token ids and "
            "returns logits. For a name or a path there is load_model."
        )
    with explaining_failures(name or type(module).__name__, _AT_LOAD):
        return prove(make_network(module, name=name, tokenizer=tokenizer, layers=layers), compile=compile)


def encode_for(
    model: TracedModel,
    samples: Task | Iterable[Sample],
    *,
    chat: bool,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    followed: TargetTokens | None = "first",
) -> EncodedTask:
    """A task, or samples, as token ids of the model's own tokenizer, see `encode_samples`."""
    network = model.network
    return encode_samples(
        samples,
        model.tokenizer,
        chat=chat,
        system=system,
        template_arguments=template_arguments,
        max_length=network.max_length,
        has_encoder=network.call.has_encoder,
        followed=followed,
    )


class LaidOut(NamedTuple):
    """A task as a model is to read it.

    Attributes:
        encoded: Its samples as token ids, and what is to be said of them.
        prompts: The same, laid out to be run.
    """

    encoded: EncodedTask
    prompts: tuple[Prompt, ...]


def lay_out(
    model: TracedModel,
    samples: Task | Iterable[Sample],
    *,
    target: TargetKind,
    target_tokens: TargetTokens,
    **chat: Any,
) -> LaidOut:
    """The prompts of a task, or of samples, checked before anything is computed.

    Args:
        model: The model.
        samples: The task.
        target: Whose token is followed.
        target_tokens: How much of the answer is followed.
        **chat: How a chat is written, see `encode_for`.

    Raises:
        TaskError: If there is no sample, an answer is missing, or a prompt is too long.
        UsageError: If `target` and `target_tokens` do not go together, or a token id is unknown to the model.
    """
    encoded = encode_for(model, samples, followed=target_tokens if target == "answer" else None, **chat)
    prompts = prepare_prompts(encoded.samples, model.network, target=target, target_tokens=target_tokens)
    return LaidOut(encoded, prompts)


def prove(
    network: Network,
    *,
    compile: bool = False,  # noqa: A002 - as above
    notes: tuple[str, ...] = (),
) -> TracedModel:
    """A network checked, see `check_network`; with its layers compiled where that is wanted and right."""
    as_written = network
    axes = ArgumentAxes(network)
    if compile:
        compiled = compile_layers(network)
        reason = why_not_compiled(compiled, axes)
        if reason is None:
            network = compiled
        else:
            notes = (*notes, f"Its layers run as they are written, not compiled: {reason}.")
            _LOG.warning("%s: %s", network.name, notes[-1])
    check = check_network(network, axes)
    cache = UnderstoodCache(as_written)
    uses_ladder = check.method == "ladder"
    check = replace(check, notes=(*check.notes, *notes))
    return TracedModel(
        network=network,
        self_check=check,
        axes=axes,
        state_proof=StateProof(network=as_written, row_by_row=check.row_by_row, cache=cache),
        cost_probe=CostProbe(network=as_written, uses_ladder=uses_ladder),
        prefix_proof=PrefixProof(network=as_written, uses_ladder=uses_ladder, cache=cache),
    )


def refuse_untranslatable(network: Network, lenses: Sequence[Lens]) -> None:
    """Raise where a model's residual stream is nothing that these lenses translate.

    Raises:
        UsageError: If it holds several vectors for each token, or a lens is for a model of another size.
    """
    for lens in lenses:
        if isinstance(lens, FittedLens):
            lens.refuse_misfit(n_layers=network.anatomy.n_layers, width=network.anatomy.d_model)
    if lenses:
        refuse_several_vectors(network, f"The lens {lenses[0].name!r} cannot read")


def refuse_several_vectors(network: Network, refusal: str) -> None:
    """Raise where a model's residual stream is not one vector for each token.

    Args:
        network: The model.
        refusal: How the message begins, before the model's name.

    Raises:
        UsageError: If it holds several.
    """
    row = Tail(network).zero_row()
    if row.ndim > 2:
        raise UsageError(
            f"{refusal} {network.name!r}, whose residual stream holds {list(row.shape[1:])} numbers for each token and "
            "not one vector. Read it with the logit lens."
        )
