"""The command line: parse, call, print. Heavy packages are imported inside the commands that need them."""

from layertracer.cli._main import main

__all__ = ["main"]
