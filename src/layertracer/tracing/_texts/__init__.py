"""Running text as rows of token ids: cut out of what is given, or written by the model itself."""
