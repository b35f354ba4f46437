"""The fields of `run.json` as data: what each holds, and what it may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from layertracer._types import MEASURE_NAME, MOST_MEANING, MOST_UNIT
from layertracer.runs._json_rules import (
    Anything,
    Entries,
    Fields,
    Items,
    Line,
    Nullable,
    Number,
    OneOf,
    Rule,
    Text,
    Truth,
    Whole,
)
from layertracer.runs._schema import LARGEST_TABLE_BYTES, MOST_NAMED, RUN_FORMAT, RUN_FORMAT_VERSION, SIZES, TABLES
from layertracer.runs._verification.certificate_fields import CERTIFICATE


@dataclass(frozen=True, kw_only=True, slots=True)
class HeaderField:
    """One field of `run.json`.

    Attributes:
        name: Name.
        type: JSON type.
        meaning: What it holds, with its unit.
        rule: What it may be.
        optional: Whether it is absent in runs that were stored before there was such a field.
    """

    name: str
    type: str
    meaning: str
    rule: Rule
    optional: bool = False


_LONGEST_NAME = 200
_METHOD = Text(choices=("ladder", "plain"))
_ERROR = Number(finite=False)
"""Measured errors, and estimates."""
_SHA256 = Text(pattern=("[0-9a-f]{64}", "64 hexadecimal digits"))
_SEED = Whole(high=None)
_COUNT = Whole(high=2**31 - 1)
_BYTES = Whole(high=2**62)
_TEXTS = Items(Text())
_NAME = Text(pattern=(MEASURE_NAME.pattern, "an identifier of at most 64 letters, digits and underscores"))

_PLAN = Fields(
    optional={
        "prefixes": Items(Entries(Anything())),
        "buckets": Items(Entries(Anything())),
        "n_passes": Whole(),
        "widest_rows": Whole(),
        "flops": Entries(_ERROR),
        "weight_bytes": _BYTES,
        "weight_bytes_read": Whole(),
        "peak_bytes": Whole(),
        "live_bytes": Whole(),
        "budget_bytes": _BYTES,
        "seconds": _ERROR,
        "is_measured": Truth(),
        "notes": _TEXTS,
    }
)

_PERTURBATION = Fields(
    required={"kind": Text()},
    optional={
        "site": Text(),
        "draws": _COUNT,
        "fraction": Number(low=1e-12, high=1.0),
        "scale": Number(),
        "seed": _SEED,
        "scheme": Text(),
        "fill": Text(),
        "positions": Text(),
        "shape": Items(Whole()),
        "sha256": _SHA256,
    },
)

_TASK = Fields(
    optional={
        "name": Text(),
        "kind": Text(),
        "source": Text(),
        "n_shot": Nullable(_COUNT),
        "limit": Nullable(Whole()),
        "seed": Nullable(_SEED),
        "template": Nullable(Text()),
        "system": Nullable(Text()),
        "template_arguments": Nullable(Entries(Anything())),
    }
)

_SPEC = Fields(
    required={
        "task": _TASK,
        "perturbation": _PERTURBATION,
        "onset": Fields(required={"kind": Text()}),
        "target": Text(choices=("answer", "model")),
        "target_tokens": Text(choices=("first", "all")),
        "seed": _SEED,
        "further_perturbations": Items(_PERTURBATION, most=MOST_NAMED),
        "lenses": Items(_NAME, most=MOST_NAMED),
    },
    closed=True,
)

_LAYER = Fields(
    required={"index": _COUNT, "path": Text(), "mixer": Text(), "mlp": Text(), "n_parameters": Whole()}, closed=True
)

_MODEL = Fields(
    required={
        "name": Text(),
        "class_name": Text(),
        "revision": Nullable(Text()),
        "d_model": Whole(low=1, high=2**31 - 1),
        "d_vocab": Whole(low=1, high=2**31 - 1),
        "n_parameters": Whole(),
        "device": Text(),
        "dtype": Text(),
        "fingerprint": Text(),
        "layers": Items(_LAYER),
    },
    closed=True,
)

_CHECK = Fields(
    required={
        "name": Text(),
        "error": _ERROR,
        "tolerance": _ERROR,
        "unit": Text(),
        "passed": Truth(),
        "meaning": Text(),
    },
    closed=True,
)

_SELF_CHECK = Fields(
    required={"checks": Items(_CHECK), "method": _METHOD, "row_by_row": Truth(), "notes": _TEXTS}, closed=True
)

_AUDIT = Fields(
    required={
        "share": Number(high=1.0),
        "n_cells": Whole(),
        "n_forwards": Whole(),
        "n_drawn": Whole(),
        "worst_nats": Nullable(_ERROR),
        "worst_bits": Nullable(_ERROR),
        "notes": _TEXTS,
    },
    closed=True,
)

PROVENANCE = Fields(
    optional={
        "layertracer": Nullable(Text()),
        "packages": Entries(Text()),
        "python": Text(),
        "platform": Text(),
        "n_cpus": Nullable(_COUNT),
        "git_commit": Nullable(Text()),
        "git_dirty": Nullable(Truth()),
        "command": Nullable(_TEXTS),
        "started_at": Text(),
        "finished_at": Text(),
    }
)

_SHAPE = Fields(
    required={
        "n_prompts": _COUNT,
        "n_draws": _COUNT,
        "n_further_draws": Items(_COUNT, most=MOST_NAMED),
        "n_layers": Whole(low=1, high=2**31 - 1),
        "top_k": _COUNT,
    }
)

_BOUND = Nullable(OneOf((Number(low=-math.inf), Text(choices=SIZES))))
_COLUMN = Fields(
    required={
        "name": Line(_LONGEST_NAME),
        "type": Line(_LONGEST_NAME),
        "unit": Nullable(Line(MOST_UNIT)),
        "meaning": Line(MOST_MEANING),
        "nullable": Truth(),
        "low": _BOUND,
        "high": _BOUND,
    }
)
_FILE: Mapping[str, Rule] = {"sha256": _SHA256, "n_bytes": Whole(high=LARGEST_TABLE_BYTES), "n_rows": _BYTES}
FILES = Fields(required={table.file: Fields(required=_FILE) for table in TABLES}, closed=True)
"""The tables, and nothing else: no other name is ever opened."""

_NAMED_FILE = Fields(required={**_FILE, "columns": Items(_COLUMN, most=8 * MOST_NAMED)})
_NAMED_FILES = Fields(required={table.file: _NAMED_FILE for table in TABLES}, closed=True)

_LENS = Fields(required={"name": _NAME, "meaning": Line(MOST_MEANING), "details": Entries(Anything())}, closed=True)

HEADER_FIELDS = (
    HeaderField(name="format", type="string", meaning=f'always "{RUN_FORMAT}"', rule=Text(choices=(RUN_FORMAT,))),
    HeaderField(
        name="format_version",
        type="integer",
        meaning=f"version of this format, now {RUN_FORMAT_VERSION}",
        rule=Whole(low=1, high=RUN_FORMAT_VERSION),
    ),
    HeaderField(
        name="sha256",
        type="string",
        meaning="checksum of `run.json` itself, computed with these 64 digits written as zeros",
        rule=_SHA256,
    ),
    HeaderField(
        name="status",
        type="string",
        meaning='"complete", "interrupted" or "failed"',
        rule=Text(choices=("complete", "interrupted", "failed")),
    ),
    HeaderField(
        name="error",
        type="object or null",
        meaning="what ended a failed run: `type` and `message`; null in a complete one",
        rule=Nullable(Fields(required={"type": Text(), "message": Text()})),
    ),
    HeaderField(
        name="warnings", type="array of strings", meaning="what a user should know about the numbers", rule=_TEXTS
    ),
    HeaderField(
        name="method",
        type="string",
        meaning='"ladder" (one pass) or "plain" (one hooked forward at a time)',
        rule=_METHOD,
    ),
    HeaderField(name="elapsed_s", type="number", meaning="wall-clock time of the trace, seconds", rule=Number()),
    HeaderField(
        name="n_requested",
        type="integer",
        meaning="number of prompts that were asked for; at least as many as were finished",
        rule=_COUNT,
    ),
    HeaderField(
        name="plan",
        type="object or null",
        meaning="what the trace was going to do, as it was planned: `prefixes`, `buckets`, `n_passes`, `widest_rows`, "
        "`flops` (products of matrices and attention), `weight_bytes`, `weight_bytes_read`, `peak_bytes` (estimate of "
        "what the process grows by), `live_bytes` (of what its tensors take of that; absent in older runs), "
        "`budget_bytes`, `seconds` (estimate), `is_measured`, `notes`. Null where a run failed "
        "before; absent in runs that were written when there were no plans",
        rule=Nullable(_PLAN),
        optional=True,
    ),
    HeaderField(
        name="shape",
        type="object",
        meaning="`n_prompts` (finished), `n_draws`, `n_further_draws` (of every perturbation beyond the first), "
        "`n_layers`, `top_k`",
        rule=_SHAPE,
    ),
    HeaderField(
        name="layers_without_site",
        type="array of integers",
        meaning="layers that have nothing to perturb at the site: their `js_bits` is NaN for every prompt and draw. "
        "For people and other programs: LayerTracer finds them anew in the table. Absent in runs that were written "
        "when every layer had to have the site",
        rule=Items(_COUNT),
        optional=True,
    ),
    HeaderField(
        name="demonstration_sets",
        type="array of integers or null",
        meaning="for every prompt the number of the set of demonstrations that it begins with, which intervals "
        "resample. Null where all prompts share one set, or have none; absent in runs that were written when there was "
        "only one",
        rule=Nullable(Items(_COUNT)),
        optional=True,
    ),
    HeaderField(
        name="spec",
        type="object",
        meaning="what was asked: `task`, `perturbation`, `onset`, `target`, `target_tokens`, `seed` (of the "
        "bootstrap), `further_perturbations` (beyond the first one) and `lenses` (those beside the logit lens)",
        rule=_SPEC,
    ),
    HeaderField(
        name="lenses",
        type="array of objects",
        meaning="the lenses beside the logit lens: `name`, `meaning` and `details` (where it came from, what it was "
        "fitted on)",
        rule=Items(_LENS, most=MOST_NAMED),
    ),
    HeaderField(
        name="model",
        type="object",
        meaning="`name`, `class_name`, `revision`, `d_model`, `d_vocab`, `n_parameters`, `device`, `dtype`, "
        '`fingerprint` ("v2-" and a SHA-256 of the names, shapes, types and values of all weights, and of the settings '
        "that a forward reads; older runs hold one of shapes and of the output embedding, without that beginning) and "
        "`layers` (`index`, `path`, `mixer`, `mlp`, `n_parameters`)",
        rule=_MODEL,
    ),
    HeaderField(
        name="self_check",
        type="object",
        meaning="the proof at load: `checks` (`name`, `error`, `tolerance`, `unit`, `passed`, `meaning`), `method`, "
        "`row_by_row`, `notes`",
        rule=_SELF_CHECK,
    ),
    HeaderField(
        name="audit",
        type="object or null",
        meaning="what was measured again, the plain way: `share` of the trace's arithmetic that it was to take (0: "
        "nothing), `n_cells` numbers that were compared, `n_forwards`, `n_drawn` of these by the seed alone, "
        "`worst_nats` and `worst_bits` (largest disagreements; null where nothing was compared) and `notes`; null "
        "where a run failed before, absent in runs that were written when there were no audits",
        rule=Nullable(_AUDIT),
        optional=True,
    ),
    HeaderField(
        name="certificate",
        type="object",
        meaning="of a trace that was to stop once a layer is certified (`until`): `order` (the prompts that were read, "
        "by their numbers in the task without copies, in the order of the rounds), `js_bits` (for each layer the mean "
        "over the draws of each round in which it was measured, bits), `particles` (of each round's prompt; null where it "
        "has none), `confidence`, `budget` (cells; null without one), `ending`, `n_prompts` (that there were), `n_whole` (rounds "
        "in which all layers were measured: the prompts of the tables), and what follows from these: `layer`, "
        "`contenders`, `n_cells`, `n_total`, `low_js_bits`, `high_js_bits`, `particle`. Each prompt of such a run has "
        "masks (or noise) of its own. Absent in other traces",
        rule=CERTIFICATE,
        optional=True,
    ),
    HeaderField(
        name="provenance",
        type="object",
        meaning="package versions, Python, platform, git commit of the working folder (`git_dirty`, whether tracked "
        "files were altered, is null since no program is run to see it), command line, times (UTC); no host name, no "
        "home folder",
        rule=PROVENANCE,
    ),
    HeaderField(
        name="summary",
        type="object",
        meaning="task particle, vulnerable layer, robustness and results by kind of mixer, over all prompts and over "
        "the solved ones; for people and other programs: LayerTracer computes them anew from the tables",
        rule=Entries(Anything()),
    ),
    HeaderField(
        name="files",
        type="object",
        meaning="for every table its `sha256`, `n_bytes`, `n_rows` and `columns`, in their order: each has a `name`, a "
        "`type`, a `unit` (null where it is no quantity), a `meaning`, whether it is `nullable`, and the bounds `low` "
        "and `high` of its numbers (null where there is none)",
        rule=_NAMED_FILES,
    ),
)

HEADER = Fields(
    required={field.name: field.rule for field in HEADER_FIELDS if not field.optional},
    optional={field.name: field.rule for field in HEADER_FIELDS if field.optional},
)
"""All of `run.json`. Fields that later versions of LayerTracer add are left alone."""
