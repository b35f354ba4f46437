"""The report of design advice."""
