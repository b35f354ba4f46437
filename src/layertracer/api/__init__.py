"""What a user's program calls: plan, trace a model, load a run, save it, write its report. No torch before that."""

from layertracer.api._trace import Trace, load_run, plan, trace

__all__ = ["Trace", "load_run", "plan", "trace"]
