"""What the tests share keeps its promises: shapes are checked, and shared models stay as they are."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Float, TypeCheckError

from layertracer.measures import percentile_interval

from tests.support import tiny as door
from tests.support.durations import grossly_longer, places_of, spread
from tests.support.shapes import names_shapes
from tests.support.tiny import fresh, tiny

Curve = Float[np.ndarray, " layer"]
TESTS = Path(__file__).parents[1]


@dataclass
class _Data:
    values: Curve | None


class _Things:
    @property
    def curve(self) -> Float[np.ndarray, " layer"]:
        """A shape."""
        return np.zeros(3)

    @property
    def count(self) -> int:
        """No shape."""
        return 3

    @staticmethod
    def among(curves: list[Curve]) -> int:
        """A shape behind a name, inside something else."""
        return len(curves)

    def without(self, floats: list[float]) -> str:
        """No shape."""
        return str(floats)


def test_shapes_are_checked_under_test() -> None:
    """A function of the package that names a shape refuses another one."""
    with pytest.raises(TypeCheckError, match=r"(?s)values.*Float"):
        percentile_interval(np.zeros((3, 4)), 0.9)


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (_Data, True),
        (vars(_Things)["curve"], True),
        (vars(_Things)["count"], False),
        (vars(_Things)["among"], True),
        (vars(_Things)["without"], False),
        (_Things, False),
    ],
    ids=["dataclass", "property", "plain property", "static method", "method", "class"],
)
def test_what_names_a_shape_is_found(thing: object, *, named: bool) -> None:
    """Under a name of its own, inside another type, in a property or a dataclass; what names none is left alone."""
    assert names_shapes(thing) is named


@pytest.mark.parametrize("name", ["llama", "hybrid", "planted", "encdec:t5"])
def test_tiny_models_are_as_constructors_leave_them(name: str) -> None:
    """The door hands out one model a process, in evaluation mode, whose parameters require gradients, as copies do."""
    assert tiny(name) is tiny(name)
    for module in (tiny(name).module, fresh(name)):
        assert not module.training
        assert all(parameter.requires_grad for parameter in module.parameters())
    assert tiny(name).module is not fresh(name)


def test_a_changed_model_is_noticed() -> None:
    """A parameter, a hook or a mode that a test leaves behind is a change; what is put back is none."""
    module = tiny("llama").module
    assert door.changed() == []
    handle = module.model.layers[1].register_forward_hook(lambda *_: None)
    assert door.changed() == ["llama"]
    handle.remove()
    module.model.layers[2].train()
    assert door.changed() == ["llama"]
    module.eval()
    with torch.no_grad():
        weight = module.lm_head.weight
        kept = weight[0, 0].clone()
        weight[0, 0] += 1
        assert door.changed() == ["llama"]
        weight[0, 0] = kept
    assert door.changed() == []


def test_a_file_that_takes_grossly_longer_is_named() -> None:
    """Shares are compared: a slower machine changes nothing, a file of five times its share is named, with both."""
    kept = {"a.py": 60.0, "b.py": 30.0, "c.py": 10.0}
    assert grossly_longer({file: 7 * seconds for file, seconds in kept.items()}, kept) == []
    (told,) = grossly_longer({"a.py": 60.0, "b.py": 30.0, "c.py": 90.0}, kept)
    assert told == "c.py: 50.0% of the tests' time (90 s), 10.0% when it was kept"
    assert grossly_longer({"a.py": 60.0, "b.py": 30.0, "c.py": 40.0}, kept) == []


def test_small_and_new_files_are_left_alone() -> None:
    """Up to a twentieth of a run more is nothing; a file of which nothing was kept changes no other file's share."""
    kept = {"a.py": 100.0, "b.py": 0.1}
    assert grossly_longer({"a.py": 100.0, "b.py": 1.0}, kept) == []
    assert len(grossly_longer({"a.py": 100.0, "b.py": 20.0}, kept)) == 1
    assert grossly_longer({"a.py": 100.0, "b.py": 0.1, "new.py": 900.0}, kept) == []
    assert grossly_longer({"a.py": 100.0}, {}) == []


@pytest.mark.parametrize(
    ("n", "n_chosen", "places"), [(10, 3, [0, 3, 6]), (10, 0, [0]), (4, 9, [0, 1, 2, 3]), (1, 1, [0])]
)
def test_a_fast_run_takes_tests_from_all_over_a_file(n: int, n_chosen: int, places: list[int]) -> None:
    """At equal distances, at least one, and never more than there are."""
    assert spread(n, n_chosen) == places


@pytest.mark.parametrize(
    ("seconds", "places"), [(0.3, [0, 1, 2, 3]), (2.0, [0, 2]), (19.0, [0]), (21.0, []), (None, [0, 2])]
)
def test_a_fast_run_takes_a_second_of_a_file(seconds: float | None, places: list[int]) -> None:
    """Of four tests all that fit, one at least unless each takes five seconds, and two where nothing was kept."""
    assert places_of(4, seconds) == places


def test_oracles_share_no_code_with_the_tool() -> None:
    """What is right is worked out by modules that import nothing of LayerTracer, nor of what imports it."""
    seen: dict[str, set[str]] = {}
    pending = [f"tests.support.oracles.{path.stem}" for path in (TESTS / "support" / "oracles").glob("*.py")]
    while pending:
        name = pending.pop()
        if name not in seen:
            seen[name] = _imports(TESTS.parent / f"{name.replace('.', '/')}.py")
            pending += [one for one in seen[name] if one.startswith("tests.")]
    assert "tests.support.models.registry" in seen
    assert [name for name, own in seen.items() if any(one.startswith("layertracer") for one in own)] == []


def _imports(path: Path) -> set[str]:
    """The modules that a file imports; of `from a import b` also a.b where that is a file of the tests."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            files = {name for name in below if (TESTS.parent / f"{name.replace('.', '/')}.py").is_file()}
            found |= files or {node.module}
    return found


def test_what_tests_share_lies_in_support() -> None:
    """At the top of the tests stand what pytest reads, the strategies, what was kept of a run, and folders."""
    names = {path.name for path in TESTS.iterdir() if path.is_file()}
    assert names == {"conftest.py", "strategies.py", "durations.json"}
