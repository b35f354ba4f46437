"""Who takes part. Each module has `load(model, folder)`, which gives the function that does the job.

The modules run in environments of their own and import nothing of each other; this one imports nothing at all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

REFERENCE = "plain_hooks"
"""Whose numbers all others must give."""

SUBJECT = "layertracer"
"""Whose time the others' is divided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to do the job.

    Attributes:
        label: What it is called in tables.
        how: What it does, in a sentence.
        module: Its module in this package.
        environment: Folder of its environment under benchmarks/.venvs; None for the project's own.
        packages: Distributions whose versions matter.
        is_regular: Whether every prompt is promised to cost the same arithmetic, and every layer's mask the same on
            top of the clean run (which is checked), so that parts of a job are enough to count all of it.
    """

    label: str
    how: str
    module: str
    environment: str | None
    packages: tuple[str, ...]
    is_regular: bool = True


CONTENDERS: Mapping[str, Contender] = {
    "plain_hooks": Contender(
        label="plain hooks",
        how="PyTorch's forward hooks on the model of Transformers; one forward for each layer, `logits_to_keep=1`.",
        module="with_plain_hooks",
        environment=None,
        packages=("torch", "transformers"),
    ),
    "nnsight": Contender(
        label="nnsight",
        how="`TransformersModel.trace` with one invoke for each layer, as many together as keep the batch below 1024 "
        "positions, `logits_to_keep=1`.",
        module="with_nnsight",
        environment="nnsight",
        packages=("nnsight", "torch", "transformers"),
    ),
    "nnsight_per_layer": Contender(
        label="nnsight, a trace a layer",
        how="The same with one trace for each layer, as its tutorials do.",
        module="with_nnsight_per_layer",
        environment="nnsight",
        packages=("nnsight", "torch", "transformers"),
    ),
    "nnterp": Contender(
        label="nnterp",
        how="`StandardizedTransformer.trace` with invokes as in nnsight's; it needs an nnsight below 0.8.",
        module="with_nnterp",
        environment="nnterp",
        packages=("nnterp", "nnsight", "torch", "transformers"),
    ),
    "transformer_lens": Contender(
        label="TransformerLens",
        how="`TransformerBridge.run_with_hooks` on `blocks.i.hook_resid_post`, weights unprocessed; one forward for "
        "each layer, `logits_to_keep=1`.",
        module="with_transformer_lens",
        environment="transformer_lens",
        packages=("transformer-lens", "torch", "transformers"),
    ),
    "layertracer": Contender(
        label="LayerTracer",
        how="`lt.trace` with `lt.Mask.explicit`: the whole trace, bootstrap intervals and logit lens included.",
        module="with_layertracer",
        environment=None,
        packages=("layertracer", "torch", "transformers"),
        is_regular=False,
    ),
}
