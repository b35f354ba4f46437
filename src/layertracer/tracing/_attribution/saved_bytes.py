"""Memory of a backward pass: what autograd keeps of a forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


@dataclass(slots=True)
class SavedBytes:
    """What was kept.

    Attributes:
        n_bytes: How much, each storage once, the model's own weights aside.
    """

    n_bytes: int = 0
    _seen: set[int] = field(default_factory=set)

    def see(self, tensor: Tensor) -> Tensor:
        """Count a tensor that autograd keeps."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.n_bytes += storage.nbytes()
        return tensor


@contextmanager
def counting_saved(module: nn.Module) -> Iterator[SavedBytes]:
    """Counts what autograd keeps for backward passes in the block."""
    saved = SavedBytes(
        _seen={tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    )
    with saved_tensors_hooks(saved.see, lambda tensor: tensor):
        yield saved
