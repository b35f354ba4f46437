"""Tokenizers of checkpoints and users: which is taken, and what of them is refused."""
