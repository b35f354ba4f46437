"""The two claims about layers, put to the test on the miniatures: `python -m study` makes docs/miniatures.md."""
