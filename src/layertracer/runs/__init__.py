"""Traces as data on a disk: records, run folders, provenance. No torch."""

from layertracer.runs._effects import EffectRecord, effect_keys
from layertracer.runs._equality import same_values
from layertracer.runs._folders.checkpoints import Checkpoints
from layertracer.runs._folders.claims import FolderClaim, claim_folder, require_claim
from layertracer.runs._folders.full_paths import expand_home, full_path
from layertracer.runs._folders.kinds import ADVICE, CAUSAL, EVIDENCE, LENS, RUN, FolderKind, kinds_at
from layertracer.runs._folders.siblings import name_limit, shorten_name
from layertracer.runs._folders.whole_folders import refuse_occupied, write_file, write_folder
from layertracer.runs._format_page import describe_format
from layertracer.runs._header import decode_header, encode_header, has_valid_checksum, stored_checksum, to_json_value
from layertracer.runs._header_fields import HEADER_FIELDS, PROVENANCE, HeaderField
from layertracer.runs._json_rules import (
    Anything,
    Entries,
    Fields,
    Items,
    Nullable,
    Number,
    Rule,
    Text,
    Truth,
    Whole,
    described,
    flatten_rules,
    in_words,
)
from layertracer.runs._lens_records import LensRecord
from layertracer.runs._parts import Parts, has_parts, read_parts, remove_parts, write_part
from layertracer.runs._provenance import collect_provenance, package_version, shorten_path
from layertracer.runs._record import TraceRecord
from layertracer.runs._record_folders.flat_rows import (
    Columns,
    Tree,
    columns_of,
    deepen,
    flat_columns,
    flatten,
    rows_of,
)
from layertracer.runs._record_folders.hints import hints_of
from layertracer.runs._record_folders.pages import FormatWords, describe_record_format
from layertracer.runs._record_folders.record_format import RecordFormat
from layertracer.runs._record_folders.rules import Array, OrNan, RecordRules
from layertracer.runs._record_folders.storage import read_record, save_record
from layertracer.runs._record_folders.trees import from_tree, to_tree
from layertracer.runs._record_folders.verifying import verify_record
from layertracer.runs._schema import (
    HEADER_FILE,
    REPORT_FILE,
    RUN_FORMAT_VERSION,
    TABLES,
    Column,
    Table,
)
from layertracer.runs._specs import ModelRecord, PromptRecord, TraceSpec, storable_text
from layertracer.runs._storage import read_run, save_run
from layertracer.runs._summary import (
    summarize_loss,
    summarize_mixer,
    summarize_particle,
    summarize_record,
    summarize_vulnerable,
)
from layertracer.runs._tables import decode_rows, encode_rows
from layertracer.runs._verification.examine import UNUSABLE, Fault, reason_of
from layertracer.runs._verification.opening import read_of_folder, require_folder
from layertracer.runs._verification.verify import Verification, checked_digest, find_extra_files, verify_run

__all__ = [
    "ADVICE",
    "CAUSAL",
    "EVIDENCE",
    "HEADER_FIELDS",
    "HEADER_FILE",
    "LENS",
    "PROVENANCE",
    "REPORT_FILE",
    "RUN",
    "RUN_FORMAT_VERSION",
    "TABLES",
    "UNUSABLE",
    "Anything",
    "Array",
    "Checkpoints",
    "Column",
    "Columns",
    "EffectRecord",
    "Entries",
    "Fault",
    "Fields",
    "FolderClaim",
    "FolderKind",
    "FormatWords",
    "HeaderField",
    "Items",
    "LensRecord",
    "ModelRecord",
    "Nullable",
    "Number",
    "OrNan",
    "Parts",
    "PromptRecord",
    "RecordFormat",
    "RecordRules",
    "Rule",
    "Table",
    "Text",
    "TraceRecord",
    "TraceSpec",
    "Tree",
    "Truth",
    "Verification",
    "Whole",
    "checked_digest",
    "claim_folder",
    "collect_provenance",
    "columns_of",
    "decode_header",
    "decode_rows",
    "deepen",
    "describe_format",
    "describe_record_format",
    "described",
    "effect_keys",
    "encode_header",
    "encode_rows",
    "expand_home",
    "find_extra_files",
    "flat_columns",
    "flatten",
    "flatten_rules",
    "from_tree",
    "full_path",
    "has_parts",
    "has_valid_checksum",
    "hints_of",
    "in_words",
    "kinds_at",
    "name_limit",
    "package_version",
    "read_of_folder",
    "read_parts",
    "read_record",
    "read_run",
    "reason_of",
    "refuse_occupied",
    "remove_parts",
    "require_claim",
    "require_folder",
    "rows_of",
    "same_values",
    "save_record",
    "save_run",
    "shorten_name",
    "shorten_path",
    "storable_text",
    "stored_checksum",
    "summarize_loss",
    "summarize_mixer",
    "summarize_particle",
    "summarize_record",
    "summarize_vulnerable",
    "to_json_value",
    "to_tree",
    "verify_record",
    "verify_run",
    "write_file",
    "write_folder",
    "write_part",
]
