"""The target's log-probability in perturbed rows: what a perturbation leaves of what is followed."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from layertracer._types.measures import TARGET_LOG_PROB, MeasureInfo
from layertracer.tracing._distributions.row_measures import PerturbedRows


class TargetLogProb:
    """Log-probability of the target in perturbed rows, nats; of any of several tokens, the logarithm of their sum.

    As for the clean rows: the sum over the positions that are read where several tokens are followed one behind the
    other, and at the last of them any of the tokens that count as well. Of several answers these are the ones that go
    as the first does up to their last token: with `target_tokens="first"` all of them. Answers that begin otherwise are
    added to the clean rows alone, since they would take perturbed rows of their own; the record states no loss then.
    """

    info: MeasureInfo = TARGET_LOG_PROB
    over_positions: Literal["mean", "sum"] = "sum"

    def __call__(self, rows: PerturbedRows) -> Float[Tensor, "*row"]:
        """See `RowMeasure`."""
        found = rows.target_log_probs()
        return found[..., 0] if found.shape[-1] == 1 else found.logsumexp(dim=-1)
