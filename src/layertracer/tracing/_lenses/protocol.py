"""What a lens is: rows that leave a layer in, rows as they would leave the last layer out.

The model's own tail then reads them, see `Tail`. Law: the last layer's row is never translated; the tool sees to that,
not the lens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import NonFiniteError, UnknownNameError, UsageError
from layertracer._types import checked_name, shown
from layertracer._types.registries import Registration
from layertracer.tracing._failures import telling_whose


@runtime_checkable
class Lens(Protocol):
    """A translation of the residual stream after a layer into the stream after the last one."""

    @property
    def name(self) -> str:
        """What its readings are called: an identifier."""

    @property
    def meaning(self) -> str:
        """What it does, in one sentence."""

    @property
    def details(self) -> Mapping[str, Any]:
        """Where it comes from, as JSON values: what it was fitted on, a fingerprint."""

    def translate(self, rows: Float[Tensor, "row width"], layer: int) -> Float[Tensor, "row width"]:
        """Rows as they would leave the last layer; a row does not depend on those beside it.

        Args:
            rows: Tokens of the stream in the model's type, where the model takes its token ids; not to be written over.
            layer: The layer that they leave; −1 for the embeddings. Never the last one.

        Returns:
            As many rows, in any floating type and on any device.
        """


@runtime_checkable
class FittedLens(Lens, Protocol):
    """A lens for models of one size alone."""

    def refuse_misfit(self, *, n_layers: int, width: int) -> None:
        """Raise where a model is of another size; before anything runs.

        Args:
            n_layers: Layers of the model.
            width: Dimensions of its stream.

        Raises:
            UsageError: If it has another number of layers, or another width.
        """


LENSES: dict[str, Lens] = {}
"""Lenses that can be asked for by their names: the logit lens, and those that are registered."""


def register_lens(lens: Lens) -> Registration[Lens]:
    """Have a lens known by its name from now on, until that is undone.

    Its columns begin with its name and a dot, which no measure has in its name.

    Raises:
        UsageError: If its name is no identifier, or another lens has it.
    """
    return Registration(LENSES, checked_name("lens", lens.name), lens)


def take_lenses(given: Any) -> tuple[Lens, ...]:
    """The lenses that are asked for, by name or themselves, one or several; without the logit lens, always beside them.

    Raises:
        UnknownNameError: If no lens has a name.
        UsageError: If something is no lens, or two have the same name.
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    taken = [_take(one) for one in several if one is not None]
    names = [one.name for one in taken]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"Two lenses are called {twice[0]!r}. Give each a name of its own.")
    return tuple(one for one in taken if one.name != "logit")


def _take(given: Any) -> Lens:
    if isinstance(given, str):
        if given not in LENSES:
            raise UnknownNameError.among("lens", given, tuple(LENSES))
        return LENSES[given]
    if not isinstance(given, Lens) or isinstance(given, type):
        raise UsageError(
            f"lens cannot be {shown(given)}. Give 'logit', or an object with a name, a meaning, details and "
            "translate(rows, layer); or several of them."
        )
    checked_name("lens", given.name)
    if given.name == "logit" and given is not LENSES.get("logit"):
        raise UsageError(
            "A lens of one's own cannot be called 'logit': the logit lens is always read, under that name. Give it "
            "another name."
        )
    _check_details(given)
    return given


def _check_details(lens: Lens) -> None:
    """Refuse, before anything runs, a lens of which a run could not be stored."""
    try:
        json.dumps(dict(lens.details), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"The details of the lens {lens.name!r} cannot be stored as JSON ({error}). Let them be a dictionary of "
            "texts, numbers, true, false, null, and lists of them."
        ) from None


def unreadable(name: str, layer: int) -> NonFiniteError:
    """The error where what a lens makes of a layer, −1 for the embeddings, cannot be read."""
    where = "the embeddings" if layer < 0 else f"layer {layer}"
    return NonFiniteError(
        f"The lens {name!r} makes the readout after {where} NaN or infinite, where the logit lens's is finite. Use a "
        "lens that was fitted on this model, or leave it out."
    )


def translated(lens: Lens, rows: Float[Tensor, "*row width"], *, layer: int, n_layers: int) -> Tensor:
    """Rows that leave a layer as a lens translates them, in their own type and place; those of the last as they are.

    Raises:
        UsageError: If the lens raises something, or returns something else than as many rows of the same width.
    """
    if layer == n_layers - 1:
        return rows
    flat = rows.flatten(0, -2)
    where = "the embeddings" if layer < 0 else f"layer {layer}"
    with telling_whose(f"The lens {lens.name!r}", f"after {where}", code=lens):
        made: Any = lens.translate(flat, layer)
    if not isinstance(made, Tensor) or made.shape != flat.shape or not made.is_floating_point():
        got = f"{made.dtype} of shape {list(made.shape)}" if isinstance(made, Tensor) else shown(made)
        raise UsageError(
            f"The lens {lens.name!r} made {got} of rows of shape {list(flat.shape)} after layer {layer}. translate "
            "must return as many rows of the same width, as floating-point numbers."
        )
    return made.to(rows.device, rows.dtype).reshape(rows.shape)


def translated_stream(
    lens: Lens, stream: Float[Tensor, "prompt read row width"]
) -> Float[Tensor, "prompt read row-1 width"]:
    """The lens rows of all layers but the last, the embeddings first, translated."""
    n_layers = stream.shape[2] - 1
    rows = [
        translated(lens, stream[:, :, 1 + layer], layer=layer, n_layers=n_layers) for layer in range(-1, n_layers - 1)
    ]
    return torch.stack(rows, dim=2)
