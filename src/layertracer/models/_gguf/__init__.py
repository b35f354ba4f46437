"""Models out of .gguf files: their header, settings, tensors and tokenizer."""
