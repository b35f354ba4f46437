"""What a user's program calls: plan, trace, load, save, compare, write reports. No torch before that."""

from layertracer.api._compare import Comparison, compare
from layertracer.api._trace import Trace, load_run, plan, trace

__all__ = ["Comparison", "Trace", "compare", "load_run", "plan", "trace"]
