"""Fitted lenses: each layer's residual stream translated by a matrix of its own, and a bias, before the tail reads it.

Linear, tuned and Jacobian lenses differ in how the matrices are found, and in what a matrix is: the translation itself,
or what is added to the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from layertracer._errors import UsageError
from layertracer._types import shown
from layertracer.tracing._lenses.layer_maps import LayerMaps
from layertracer.tracing._lenses.report import LensReport
from layertracer.tracing._lenses.storage import StoredLens, write_lens

LensKind: TypeAlias = Literal["linear", "tuned", "jacobian"]
KINDS: tuple[LensKind, ...] = get_args(LensKind)

_MEANINGS: Mapping[LensKind, str] = {
    "linear": "each layer's stream translated into the last one's by least squares, then the model's own tail",
    "tuned": "each layer's stream plus an affine map of it, fitted to the final output, then the model's own tail",
    "jacobian": "each layer's stream times the mean Jacobian of the last one's, then the model's own tail",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AffineLens:
    """A fitted lens: what leaves layer i, x, is read as x W[i] + b[i]; a tuned one as x + x W[i] + b[i].

    Laws: the last layer is never translated; where it falls back, it is the logit lens; it reads a row the same
    whatever is read beside it; what is loaded of it is what was saved.

    Attributes:
        kind: How it was fitted: "linear", "tuned" or "jacobian".
        weights: One matrix for the embeddings and for every layer but the last, applied from the right.
        biases: What is added.
        fallback: Layers at which it translates nothing; −1 for the embeddings.
        name: What its readings are called.
        facts: What it was fitted on, as JSON values.
        unembedding: What tells the model's tail from others, see `describe_unembedding`.
        reports: What it is worth on text that it was not fitted on, by lens: its own name and "logit".
    """

    kind: LensKind
    weights: Float[Tensor, "layer width width"]
    biases: Float[Tensor, "layer width"]
    fallback: tuple[int, ...] = ()
    name: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    unembedding: Mapping[str, Any] = field(default_factory=dict)
    reports: Mapping[str, LensReport] = field(default_factory=dict)
    _maps: LayerMaps = field(init=False, repr=False)
    _digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep it in float32 on the CPU, and know it by its numbers."""
        if self.kind not in KINDS:
            raise UsageError(f"kind must be one of {', '.join(KINDS)}, got {shown(self.kind)}.")
        weights, biases = (one.detach().to("cpu", torch.float32).contiguous() for one in (self.weights, self.biases))
        if weights.shape != (*biases.shape, biases.shape[-1]):
            raise UsageError(
                f"A lens has matrices [layer, width, width] and biases [layer, width], got {list(weights.shape)} and "
                f"{list(biases.shape)}."
            )
        object.__setattr__(self, "name", self.name or self.kind)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "biases", biases)
        object.__setattr__(self, "fallback", tuple(sorted(self.fallback)))
        object.__setattr__(self, "_maps", LayerMaps(name=self.name, weights=weights, biases=biases))
        object.__setattr__(self, "_digest", self._fingerprint())

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.kind} {self.fallback}".encode())
        for one in (self.weights, self.biases):
            digest.update(one.numpy().astype("<f4").tobytes())
        return digest.hexdigest()

    @property
    def meaning(self) -> str:
        """What it does, in one sentence."""
        where = f"; nothing is translated at {_layers(self.fallback)}" if self.fallback else ""
        return f"{_MEANINGS[self.kind]}{where}"

    @property
    def details(self) -> dict[str, Any]:
        """Where it comes from, as JSON values: its kind, what it was fitted on, its reports, a fingerprint."""
        return {
            **self.facts,
            "kind": self.kind,
            "fallback": list(self.fallback),
            "fingerprint": self._digest,
            "reports": {name: report.to_json() for name, report in self.reports.items()},
        }

    @property
    def quality(self) -> LensReport:
        """What it is worth on text that it was not fitted on.

        Raises:
            UsageError: If nobody measured that: `measure_lens_quality` does.
        """
        if self.name not in self.reports:
            raise UsageError(
                f"Nobody measured what the lens {self.name!r} is worth: it came without a report. Measure it: "
                "layertracer.tracing.measure_lens_quality(model, texts, lenses=lens)."
            )
        return self.reports[self.name]

    def renamed(self, name: str) -> AffineLens:
        """The same lens under another name."""
        reports = {name if own == self.name else own: report for own, report in self.reports.items()}
        reports = {own: replace(report, lens=own) for own, report in reports.items()}
        return replace(self, name=name, reports=reports)

    def refuse_misfit(self, *, n_layers: int, width: int) -> None:
        """See `FittedLens`: it has a matrix for the embeddings and for every layer but the last, of one model."""
        self._maps.refuse_misfit(n_layers=n_layers, width=width)

    def translate(self, rows: Float[Tensor, "row width"], layer: int) -> Float[Tensor, "row width"]:
        """Rows as they would leave the last layer, in float32; as they are where it falls back.

        Raises:
            UsageError: If it was fitted on a model of another width or of fewer layers.
        """
        self._maps.refuse_rows(rows, layer)
        if layer in self.fallback:
            return rows
        given = rows.float()
        made = self._maps.applied(given, layer)
        return given + made if self.kind == "tuned" else made

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Save it as a folder, whole or not at all: a safetensors file, and a header that says what it is.

        Args:
            path: The folder to make.
            overwrite: Whether a lens that lies there is replaced.

        Raises:
            RunError: If something lies at `path` that may not be replaced, or the disk refuses.
        """
        stored = StoredLens(
            kind=self.kind,
            name=self.name,
            fallback=self.fallback,
            facts=self.facts,
            unembedding=self.unembedding,
            reports={name: report.to_json() for name, report in self.reports.items()},
            tensors={"weights": self.weights, "biases": self.biases},
        )
        return write_lens(stored, Path(path), overwrite=overwrite)


def _layers(layers: tuple[int, ...]) -> str:
    named = ["the embeddings" if layer < 0 else str(layer) for layer in layers]
    few = named if len(named) <= 8 else [*named[:7], "…"]
    return f"{len(named)} rows ({', '.join(few)})"
