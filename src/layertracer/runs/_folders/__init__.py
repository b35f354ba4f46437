"""Run folders on a disk: claimed, written whole, replaced, and recovered after a kill."""
