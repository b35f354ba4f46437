"""Fingerprint of a network's weights and settings: equal for equal ones, whatever they were loaded from or onto."""

from __future__ import annotations

import hashlib

from torch import Tensor, nn

from layertracer._types import WHOLE_FINGERPRINT
from layertracer.models._weights.digests import digest_all, digest_values
from layertracer.models._weights.offload import fetch_weight
from layertracer.models._weights.settings import describe_settings
from layertracer.models._weights.shapes import named_weights

_UNREAD = "unread"


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names, shapes, types and values of all of a network's weights, and over its settings.

    Laws: equal weights and settings give equal fingerprints, on every device, tied or not, offloaded or not, however
    they lie in memory, before a run and after it; another name, shape or type, one other bit in any weight, or two
    weights exchanged give another one, and so does another setting that a forward reads: a value of the configuration,
    a scale, a rotary table, an adapter that is switched off.

    Weights are the parameters and the buffers that checkpoints keep. Packed (quantised) ones enter by their raw bytes;
    what a package keeps beside them, in neither, does not enter. Offloaded ones are fetched, one at a time. Those whose
    values cannot be read enter by name, shape and type only.

    Nothing is remembered between calls: weights may be changed in place without a trace, and reading them is cheap.

    Args:
        module: Any network.

    Returns:
        "v2-" and 64 hexadecimal digits.

    Example:
        >>> fingerprint(nn.Linear(2, 3)) == fingerprint(nn.Linear(2, 4))
        False
    """
    weights = dict(sorted(named_weights(module).items()))
    digests = digest_all({name: tensor for name, tensor in weights.items() if not tensor.is_meta})
    whole = hashlib.sha256()
    for name, tensor in weights.items():
        values = digests[name] if name in digests else _digest_offloaded(module, name, tensor)
        whole.update(f"{name!r}\t{tuple(tensor.shape)}\t{tensor.dtype}\t{values or _UNREAD}\n".encode())
    for line in describe_settings(module):
        whole.update(f"{line}\n".encode("utf-8", "backslashreplace"))
    return WHOLE_FINGERPRINT + whole.hexdigest()


def _digest_offloaded(module: nn.Module, name: str, tensor: Tensor) -> str | None:
    fetched = fetch_weight(module, name)
    # In the type in which it is used, whatever it is stored in.
    return None if fetched is None else digest_values(fetched.to(tensor.dtype))
