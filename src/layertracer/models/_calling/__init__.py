"""How a module is called and watched: token ids in, logits out, hooks on its parts."""
