"""What users hand over, taken for what it plainly is; else one clear error. No torch at import."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from layertracer._errors import UnknownNameError, UsageError
from layertracer._types import SITES, Mask, Noise, Perturbation, Skip, sites_there_are
from layertracer.measures import ONSET_NAMES, OnsetCriterion, Rise, onset_from_dict, onset_from_name
from layertracer.runs import ADVICE, CAUSAL, EVIDENCE, RUN, expand_home

if TYPE_CHECKING:
    from layertracer.tracing import TracedModel
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    TracedModel = Any

_SHOWN = 60
_HEADERS = tuple(kind.header for kind in (RUN, ADVICE, CAUSAL, EVIDENCE))
_KINDS: dict[str, type[Mask] | type[Noise] | type[Skip]] = {one.kind: one for one in (Mask, Noise, Skip)}


@runtime_checkable
class Pipeline(Protocol):
    """What holds a model beside its tokenizer, as pipelines of transformers do."""

    @property
    def model(self) -> Any:
        """The module."""

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer."""


def refused(argument: str, given: object, taken: str) -> UsageError:
    """The error for an argument that is nothing of what can be taken.

    Args:
        argument: Its name.
        given: What was given.
        taken: What is taken, as a sentence.
    """
    return UsageError(f"{argument} cannot be {describe(given)}. {taken}")


def describe(given: object) -> str:
    """An object by its type and the beginning of its representation, for messages."""
    if isinstance(given, type):
        return f"the class {given.__name__}"
    try:
        text = " ".join(repr(given).split())
    except Exception:  # noqa: BLE001 - whatever an object's own code raises: it is described by its type
        text = ""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return f"of type {type(given).__name__} ({shown})" if shown else f"of type {type(given).__name__}"


def take_model(model: object) -> TracedModel:
    """A model ready to be traced, out of that, a module, a pipeline of transformers, or the name of one.

    The tokenizer of a module is looked for in the local folder that its configuration names.

    Raises:
        UsageError: If it is none of these.
        LayerTracerError: If it cannot be loaded or wrapped, see `load_model` and `wrap_model`.
    """
    from layertracer.tracing import TracedModel as Traced
    from layertracer.tracing import is_module, load_model, wrap_model

    if isinstance(model, Traced):
        return model
    if isinstance(model, str | os.PathLike) or is_module(model):
        return load_model(cast("str", model))
    if not isinstance(model, type) and isinstance(model, Pipeline) and is_module(model.model):
        return wrap_model(model.model, model.tokenizer)
    raise refused(
        "model",
        model,
        "Give what load_model or wrap_model returns, a module (torch.nn.Module) that takes token ids and returns "
        "logits, or a name or path that load_model takes.",
    )


def take_perturbation(given: object) -> Perturbation:
    """A perturbation, out of that, its class, the name of its kind or of a site, or its specification as stored.

    Raises:
        UsageError: If it is none of these.
        UnknownNameError: If a name is neither that of a kind nor that of a site.
    """
    if given is None:
        return Mask()
    if isinstance(given, type) and given in _KINDS.values():
        return cast("Perturbation", given())
    if isinstance(given, str):
        return _perturbation_called(given)
    if isinstance(given, Mapping) and given.get("kind") in _KINDS and given.get("scheme") != "explicit":
        settings = {name: value for name, value in given.items() if name != "kind"}
        kind = _KINDS[given["kind"]]
        if kind is Skip:
            return Skip(positions=settings.get("positions", "all"))
        return cast("Perturbation", kind(**settings))
    if not isinstance(given, type) and isinstance(given, Perturbation):
        return given
    raise refused(
        "perturbation",
        given,
        "Give a Mask, Noise or Skip, e.g. lt.Mask(site='mlp_output'), the name of a site, or a list of them. For masks "
        "of your own use Mask.explicit(keep).",
    )


def take_perturbations(given: object) -> tuple[Perturbation, ...]:
    """One or several perturbations, out of what `take_perturbation` takes, a list of that, or "all" for all sites.

    Raises:
        UsageError: If one is none of these, or there is none.
        UnknownNameError: If a name is neither that of a kind nor that of a site.
    """
    if isinstance(given, str) and given.strip().lower() == "all":
        return tuple(Mask(site=site) for site in sites_there_are())
    if not isinstance(given, list | tuple):
        return (take_perturbation(given),)
    if not given:
        raise refused("perturbation", given, "Give at least one, e.g. [lt.Mask(), lt.Mask(site='mlp_output')].")
    return tuple(take_perturbation(one) for one in given)


def _perturbation_called(name: str) -> Perturbation:
    """The perturbation of a kind, or the mask at a site, with everything else as usual."""
    plain = name.strip().lower().replace("-", "_")
    if plain in _KINDS:
        return _KINDS[plain]()
    if plain in SITES:
        return Mask(site=plain)
    raise UnknownNameError.among("perturbation or site", name, (*_KINDS, *SITES))


def take_onset(given: object) -> OnsetCriterion:
    """An onset criterion, out of that, its class, its name, or its specification as stored.

    Raises:
        UsageError: If it is none of these.
        UnknownNameError: If there is no criterion of that name.
    """
    if given is None:
        return Rise()
    if isinstance(given, str):
        return onset_from_name(_onset_name(given))
    if isinstance(given, Mapping):
        return onset_from_dict(given)
    if isinstance(given, type) and getattr(given, "kind", None) in ONSET_NAMES:
        return cast("OnsetCriterion", given())
    if not isinstance(given, type) and isinstance(given, OnsetCriterion):
        return given
    raise refused("onset", given, f"Give one criterion, e.g. lt.Rise(delta=0.03), or a name: {', '.join(ONSET_NAMES)}.")


def _onset_name(name: str) -> str:
    """The name of a criterion however it is spelled: first_top1, FirstTop1, first-top1, "first top 1"."""
    letters = "".join(char for char in name.casefold() if char.isalnum())
    return next((known for known in ONSET_NAMES if known.replace("_", "") == letters), name)


def take_choice(argument: str, given: object, choices: tuple[str, ...]) -> str:
    """One of some names.

    Raises:
        UsageError: If it is no name.
        UnknownNameError: If it is another one.
    """
    if not isinstance(given, str):
        raise refused(argument, given, f"Give one of {', '.join(map(repr, choices))}.")
    if given not in choices:
        raise UnknownNameError.among(argument, given, choices)
    return given


def take_flag(argument: str, given: object) -> bool:
    """A truth value, NumPy's too.

    Raises:
        UsageError: If it is none: "no" would count as True.
    """
    if isinstance(given, bool) or type(given).__name__ in ("bool_", "bool"):
        return bool(given)
    raise refused(argument, given, "Give True or False.")


def take_path(argument: str, given: object) -> Path:
    """A path, out of one or its text.

    Raises:
        UsageError: If it is neither.
    """
    if isinstance(given, str | os.PathLike):
        return Path(given)
    raise refused(argument, given, "Give a path.")


def run_folder(path: object) -> Path:
    """The folder of a run, advice, evidence or a causal trace, given by itself or by its header, as `run.json`.

    Raises:
        UsageError: If it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise refused("The path of a run", path, "Give its folder, or a Trace where one is taken.")
    folder = expand_home(Path(path))
    return folder.parent if folder.name in _HEADERS else folder
