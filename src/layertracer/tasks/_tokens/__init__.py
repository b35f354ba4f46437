"""Samples in a tokenizer's terms: where the answer begins, which token tells, what the tokenizer knows."""
