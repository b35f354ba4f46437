"""Checkpoints of the Hugging Face hub: downloaded, or found in its local cache."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors  # a module of its own, which the package does not load by itself

from layertracer._errors import LayerTracerError, ModelLoadError, UnknownNameError, printable_cause, printable_name
from layertracer.models._loading.adapters import ADAPTER_WEIGHTS, PICKLED_ADAPTER_WEIGHTS, is_adapter
from layertracer.models._loading.checkpoint import Checkpoint, check_remote_code, read_config, refuse_other_heads
from layertracer.models._loading.embedded import list_embedded
from layertracer.models._loading.paths import models_beside
from layertracer.models._loading.weight_files import (
    PICKLED,
    PICKLED_INDEX,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    indexed_files,
    safetensors_files,
)

# Everything small at the top of a repository: configuration, tokenizer, indices of the weights.
_SMALL_FILES = ("*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", "tokenizer*", "vocab*")
_NO_FOLDERS = ("*/*",)
# What the hub's library raises: its own errors, the disk's, those of the HTTP client that it is built on (which differs
# between its versions), and those of its downloader.
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    RuntimeError,
    ValueError,
    errors.EntryNotFoundError,
    getattr(errors, "HTTPError", OSError),
    getattr(errors, "XetDownloadError", OSError),
)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9_][\w.\-]*)?")


def is_hub_id(name: str) -> bool:
    """Whether a name is "owner/name" or "name" as the hub writes them."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name and "--" not in name


def fetch_checkpoint(
    hub_id: str, *, revision: str | None = None, trust_remote_code: bool = False, allow_pickle: bool = False
) -> Checkpoint:
    """A repository's checkpoint in the hub's local cache, downloaded where it is not there yet.

    Configuration first: what would be refused is refused before its weights are downloaded. Without a network, what
    the cache holds is used.

    Of an adapter, only its own files are fetched.

    Args:
        hub_id: "owner/name", or "name" for one of the hub's early models.
        revision: Branch, tag or commit; None for the default branch.
        trust_remote_code: Whether code in the repository may run.
        allow_pickle: Whether pickled weights may be read where there are no others.

    Raises:
        UnknownNameError: If the hub has no such repository.
        ModelLoadError: If it cannot be reached and the cache does not hold the checkpoint, if access is not granted,
            or if there is no such revision.
        RemoteCodeError: If the checkpoint needs code of its own and may not run it.
    """
    patterns = [*_SMALL_FILES, *(("*.py",) if trust_remote_code else ())]
    folder = _download(hub_id, revision, allow=patterns, ignore=_NO_FOLDERS)
    # A snapshot's folder is called by its commit.
    checkpoint = Checkpoint(
        folder=folder,
        label=hub_id,
        hub_id=hub_id,
        commit=folder.name,
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )
    if is_adapter(folder):
        _fetch_adapter_weights(checkpoint)
        return checkpoint
    if not (folder / "config.json").is_file():
        raise ModelLoadError(
            f"{hub_id} has no config.json{_among_its_files(folder)}. Expected a model in the format of transformers. "
            "Download a .gguf file and give its path."
        )
    raw_config = read_config(checkpoint)
    refuse_other_heads(raw_config, hub_id)
    check_remote_code(raw_config, checkpoint)
    _fetch_weights(checkpoint, raw_config)
    return checkpoint


def _fetch_adapter_weights(checkpoint: Checkpoint) -> None:
    """Put an adapter's weights beside its configuration; the model that it belongs to is fetched under its own name."""
    _download(checkpoint.label, checkpoint.commit, allow=[ADAPTER_WEIGHTS])
    if checkpoint.allow_pickle and not (checkpoint.folder / ADAPTER_WEIGHTS).is_file():
        _download(checkpoint.label, checkpoint.commit, allow=[PICKLED_ADAPTER_WEIGHTS])


def cached_hub_ids() -> tuple[str, ...]:
    """Repositories of models of which the hub's local cache holds something."""
    # Read at each call, not at import: it is where the hub's library keeps the user's choice.
    cache = Path(constants.HF_HUB_CACHE)
    try:
        names = sorted(path.name for path in cache.glob("models--*"))
    except OSError:
        return ()
    return tuple(name.removeprefix("models--").replace("--", "/", 1) for name in names)


def _fetch_weights(checkpoint: Checkpoint, raw_config: dict[str, Any]) -> None:
    """Put the weights beside the configuration; whether they are all there is checked when they are read."""
    folder = checkpoint.folder
    named = str(raw_config.get("transformers_weights") or SAFETENSORS_INDEX)
    if named.endswith(".json") and (folder / named).is_file():
        wanted: Iterable[str] = indexed_files(folder / named)
    else:
        wanted = [SAFETENSORS, named]
    _download(checkpoint.label, checkpoint.commit, allow=wanted)
    if checkpoint.allow_pickle and not safetensors_files(folder, raw_config):
        index = folder / PICKLED_INDEX
        _download(checkpoint.label, checkpoint.commit, allow=indexed_files(index) if index.is_file() else [PICKLED])


def _download(hub_id: str, revision: str | None, *, allow: Iterable[str], ignore: Iterable[str] = ()) -> Path:
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision, allow_patterns=list(allow), ignore_patterns=list(ignore)
            )
        )
    except _FAILURES as error:
        raise _explain(error, hub_id, revision) from printable_cause(error)


def _explain(error: BaseException, hub_id: str, revision: str | None) -> LayerTracerError:
    """The hub's error in words of what to do."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    at = f" at revision {revision!r}" if revision else ""
    if isinstance(error, errors.GatedRepoError):
        return ModelLoadError(
            f"{hub_id} is gated: its owners grant access person by person, and this machine has no token with access "
            f"({reason}). Ask for access at https://huggingface.co/{hub_id}, then run `hf auth login`."
        )
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        hint = "The hub has no such model, or it is private: then run `hf auth login` first."
        return unknown_model(hub_id, hint, nearby=models_beside(Path(hub_id)))
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelLoadError(
            f"{hub_id} has no revision {revision!r}. Expected a branch, a tag or a commit of that repository; see "
            f"https://huggingface.co/{hub_id}/tree/main."
        )
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        return _not_at_hand(hub_id, at)
    return ModelLoadError(
        f"{hub_id}{at} could not be fetched from the hub: {type(error).__name__}: {reason}. Try again."
    )


def _not_at_hand(hub_id: str, at: str) -> LayerTracerError:
    """The error for a model that is not on this machine while the hub cannot be asked."""
    beside = models_beside(Path(hub_id))
    near = difflib.get_close_matches(hub_id, [*_known_names(), *beside], n=1, cutoff=0.6)
    if near and "/" not in hub_id:
        return unknown_model(hub_id, f"It is not on this machine, and {_why_no_network()}.", nearby=beside)
    did_you_mean = f" Did you mean {near[0]!r}?" if near else ""
    return ModelLoadError(
        f"{hub_id}{at} is no local file or folder and is not, or not completely, in the local hub cache "
        f"({constants.HF_HUB_CACHE}), and {_why_no_network()}.{did_you_mean} Load it once with a "
        "network, or give a local folder, a .gguf file, or 'smollm2'."
    )


def _why_no_network() -> str:
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE=1 forbids asking the hub"
    return "there is no network to the hub"


def unknown_model(name: str, hint: str, *, nearby: Iterable[str] = ()) -> UnknownNameError:
    """The error for a name that is no model, with the names that are known on this machine."""
    kinds = "A model is an embedded name, a hub id (owner/name), a local folder or a .gguf file."
    return UnknownNameError.among("model", name, [*_known_names(), *nearby], f"{hint} {kinds}")


def _known_names() -> list[str]:
    return [*(model.name for model in list_embedded()), *cached_hub_ids()]


def _among_its_files(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*") if path.is_file())
    return f" (only {', '.join(map(printable_name, names[:4]))})" if names else ""
