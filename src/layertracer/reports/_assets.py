"""Files that the page is made of, and the rules under which a browser runs them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def read_asset(name: str) -> str:
    """The text of a file beside the templates."""
    return (files("layertracer.reports") / "assets" / name).read_text(encoding="utf-8")


@cache
def plotly_script() -> str:
    """Plotly's script, as the plotly package ships it. It ships one bundle for pages, about 4.8 MB."""
    source: str = import_module("plotly.offline").get_plotlyjs()
    return source


@cache
def page_environment() -> Environment:
    """Jinja2 with escaping on for every template, and an error for every name that is missing."""
    return Environment(
        loader=PackageLoader("layertracer.reports", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        lstrip_blocks=True,
    )


def content_policy(scripts: Iterable[str]) -> str:
    """A Content-Security-Policy that runs the given scripts and no other, and loads nothing.

    Plotly writes style elements of its own, so styles may be inline; images are the data and blob
    addresses from which Plotly makes PNG files.
    """
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def to_script_json(value: Any) -> str:
    """JSON that can stand inside a script element: it holds no character that markup knows.

    Example:
        >>> to_script_json({"token": "</script>"})
        '{"token":"\\\\u003c/script\\\\u003e"}'
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)
