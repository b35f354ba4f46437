"""How large each dimension of a site is in clean runs, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from layertracer._types import Sample, Site
from layertracer.models import in_evaluation_mode, keeping_loaded, without_gradients
from layertracer.tasks import Task
from layertracer.tracing._batching.prompts import bind_batch
from layertracer.tracing._failures import explaining_failures
from layertracer.tracing._model import TracedModel, lay_out
from layertracer.tracing._observers.protocol import observing
from layertracer.tracing._observers.site_sums import SiteSums


@without_gradients()
def measure_site_rms(
    model: TracedModel, samples: Task | Sequence[Sample], sites: Sequence[Site]
) -> dict[Site, Float[Tensor, "layer width"]]:
    """Root mean square of each dimension of some sites, over all positions of the prompts; 0 at layers without one.

    Prompts are run one by one, so give few.

    Args:
        model: From `load_model` or `wrap_model`.
        samples: Prompts with answers, of which the first token is followed.
        sites: Sites at which dimensions of the stream stand.

    Raises:
        TaskError: If there is no prompt, or one is too long.
        SiteError: If the additions of a layer are not found again on these prompts.
    """
    network = model.network
    _, prompts = lay_out(model, samples, target="answer", target_tokens="first", chat=False)
    sums = {site: SiteSums.of(network, site) for site in sites}
    with in_evaluation_mode(network.call.module), explaining_failures(model.name, "while its sites were measured"):
        for prompt in prompts:
            bound, ids = bind_batch(network, [prompt])
            with keeping_loaded(network.outer_modules), observing(network, list(sums.values())):
                bound.call(ids)
    return {site: one.rms() for site, one in sums.items()}
