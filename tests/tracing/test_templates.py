"""Traces of tasks with several templates: intervals resample what prompts share."""

from __future__ import annotations

import layertracer as lt
from layertracer.reports._values.reproduce import command_line, python_code
from layertracer.tasks import cross_task

TEMPLATES = ("{input} -> {output}", "{input} {output}", "{input} = {output}")


def test_templates_are_what_intervals_resample() -> None:
    """With several templates the units of a trace are the templates; fewer than five give no interval."""
    task = lt.load_task("antonym", n_shot=1, limit=6, templates=TEMPLATES)
    trace = lt.trace("mini/attention", task, audit=0)
    assert trace.sampling.units == (0, 1, 2, 0, 1, 2)
    assert trace.task_particle.interval is None
    assert command_line(trace) is None
    assert f"templates={list(TEMPLATES)!r}" in python_code(trace)


def test_crossed_prompts_are_one_cluster() -> None:
    """Where sets and templates are crossed, resampling one of the two would leave out the other: no interval."""
    crossed = cross_task("antonym", demonstration_sets=2, templates=TEMPLATES[:2], n_queries=2, n_shot=1)
    trace = lt.trace("mini/attention", crossed.task, audit=0)
    assert set(trace.sampling.units or ()) == {0}
    assert trace.task_particle.interval is None
    assert command_line(trace) is None
