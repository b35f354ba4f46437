"""The form of fingerprints of weights."""

from __future__ import annotations

WHOLE_FINGERPRINT = "v2-"
"""Begins the fingerprint of all weights and settings. Those of older versions, of shapes and the unembedding, begin
otherwise."""
