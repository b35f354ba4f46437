"""Stages of a validation, a file each: what is measured, as numbers that are kept."""
