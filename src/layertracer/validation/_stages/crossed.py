"""Queries, demonstration sets and templates crossed: where the spread of a number comes from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from layertracer._types import Mask, Site
from layertracer.measures import NONE_FOUND, Rise, TargetCurves
from layertracer.tasks import WORD_PAIR_TEMPLATES, CrossedTask, cross_task
from layertracer.tracing import Progress, trace_model
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured
from layertracer.validation._stages.traces import options_of

_N_QUERIES = 6


def crossed_prompts(setting: Setting) -> CrossedTask | None:
    """The task with several sets of demonstrations and several templates; None where it has none.

    Raises:
        EmptyTaskError: If there are too few pairs.
    """
    task, options = setting.task, setting.options
    if task is None or not setting.has_demonstrations or task.recipe is None:
        return None
    templates = tuple(dict.fromkeys((*task.recipe.templates, *WORD_PAIR_TEMPLATES)))[: options.n_templates]
    return cross_task(
        task,
        demonstration_sets=options.n_demonstration_sets,
        templates=templates,
        n_queries=_N_QUERIES,
        n_shot=task.recipe.options.n_shot,
        seed=options.seed,
        tokenizer=setting.model.tokenizer,
    )


def measure_crossed(setting: Setting, site: Site, tell: Callable[[Progress], None]) -> Found:
    """The task with several sets of demonstrations and several templates, traced at one site.

    Returns:
        Arrays [query, demonstration set, template, …]: `particle`, the layer of each prompt, NaN where there is none;
        `js_bits` [.., draw, layer]; and `mean_particle` [demonstration set, template], of the mean curve over queries.

    Raises:
        EmptyTaskError: If there are too few pairs.
    """
    crossed = crossed_prompts(setting)
    if crossed is None:
        return not_measured("The task has no demonstrations and templates of which there could be others.")
    templates = crossed.task.spec["templates"]
    trace_options = options_of(setting, [Mask(site=str(site), seed=setting.options.seed)])
    record = trace_model(setting.model, crossed.task.samples, trace_options, on_progress=tell)
    layers = np.array(
        [np.nan if layer is None else float(layer) for layer in record.task_particle.per_prompt], dtype=np.float64
    )
    curves = [crossed.arrange(one) for one in (record.target_log_prob, record.embedding_log_prob[:, None])]
    top = crossed.arrange((record.target_rank == 1).astype(np.float64))
    _, n_sets, n_templates = layers_shape = crossed.arrange(layers).shape
    mean = np.full((n_sets, n_templates), np.nan)
    for place in np.ndindex(n_sets, n_templates):
        at = (slice(None), *place)
        found = int(
            Rise().find(
                TargetCurves(log_prob=curves[0][at], embedding_log_prob=curves[1][at][:, 0], top1_share=top[at]).mean()
            )
        )
        mean[place] = np.nan if found == NONE_FOUND else found
    return Found(
        facts={"site": str(site), "shape": list(layers_shape), "templates": list(templates), "notes": []},
        arrays={
            "particle": crossed.arrange(layers),
            "mean_particle": mean,
            "js_bits": crossed.arrange(record.js_bits),
            "target_log_prob": curves[0],
        },
    )
