"""Prompts that are no independent draws: clusters of them, crossed designs, and how many it takes."""
