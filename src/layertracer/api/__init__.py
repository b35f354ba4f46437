"""What a user's program calls: trace a model, load a run, save it, write its report. No torch before a trace."""

from layertracer.api._trace import Trace, load_run, trace

__all__ = ["Trace", "load_run", "trace"]
