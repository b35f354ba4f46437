"""Prompts in batches that fit into memory: token ids, rows, shared prefixes."""
