"""The fields of `advice.json` that are not the record's own."""

from __future__ import annotations

from layertracer.advice._schema import ADVICE_FORMAT, ADVICE_FORMAT_VERSION, ADVICE_KIND, ADVICE_TABLES
from layertracer.runs import PROVENANCE, Anything, Entries, Fields, Items, Text, Whole

_SHA256 = Text(pattern=("[0-9a-f]{64}", "64 hexadecimal digits"))
_LARGEST_TABLE_BYTES = 256 * 2**20

FILES = Fields(
    required={
        table.file: Fields(
            required={
                "sha256": _SHA256,
                "n_bytes": Whole(high=_LARGEST_TABLE_BYTES),
                "n_rows": Whole(high=2**31 - 1),
            },
            closed=True,
        )
        for table in ADVICE_TABLES
    },
    closed=True,
)
"""The tables, and nothing else: no other name is ever opened."""

MODEL = Fields(
    required={"name": Text(), "n_layers": Whole(low=1, high=2**31 - 1)},
    optional={"mixers": Items(Text()), "fingerprint": Text()},
)

HEAD = Fields(
    required={
        "format": Text(choices=(ADVICE_FORMAT,)),
        "format_version": Whole(low=1, high=ADVICE_FORMAT_VERSION),
        "sha256": _SHA256,
        "kind": Text(choices=(ADVICE_KIND,)),
        "model": MODEL,
        "provenance": PROVENANCE,
        "spec": Entries(Anything()),
        "files": FILES,
    }
)
"""What is the same of every advice. Fields that later versions of LayerTracer add are left alone."""
