"""Traces as data on a disk: records, run folders, provenance. No torch."""

from layertracer.runs._effects import EffectRecord, effect_keys
from layertracer.runs._folders.claims import FolderClaim, claim_folder
from layertracer.runs._folders.full_paths import expand_home
from layertracer.runs._folders.siblings import name_limit, shorten_name
from layertracer.runs._folders.whole_folders import write_file
from layertracer.runs._format_page import describe_format
from layertracer.runs._header_fields import HEADER_FIELDS, HeaderField
from layertracer.runs._lens_records import LensRecord
from layertracer.runs._parts import Parts, read_parts, remove_parts, write_part
from layertracer.runs._provenance import collect_provenance, package_version, shorten_path
from layertracer.runs._record import TraceRecord
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
from layertracer.runs._verification.verify import Verification, verify_run

__all__ = [
    "HEADER_FIELDS",
    "HEADER_FILE",
    "REPORT_FILE",
    "RUN_FORMAT_VERSION",
    "TABLES",
    "Column",
    "EffectRecord",
    "FolderClaim",
    "HeaderField",
    "LensRecord",
    "ModelRecord",
    "Parts",
    "PromptRecord",
    "Table",
    "TraceRecord",
    "TraceSpec",
    "Verification",
    "claim_folder",
    "collect_provenance",
    "describe_format",
    "effect_keys",
    "expand_home",
    "name_limit",
    "package_version",
    "read_parts",
    "read_run",
    "remove_parts",
    "save_run",
    "shorten_name",
    "shorten_path",
    "storable_text",
    "summarize_loss",
    "summarize_mixer",
    "summarize_particle",
    "summarize_record",
    "summarize_vulnerable",
    "verify_run",
    "write_file",
    "write_part",
]
