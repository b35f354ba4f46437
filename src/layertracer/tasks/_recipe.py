"""What a task is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from layertracer._errors import UsageError
from layertracer._types import checked_whole
from layertracer.tasks._files.material import FieldNames, Material


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallOptions:
    """How prompts of the built-in task recall are made.

    Attributes:
        n_keys: Keys with values in a prompt.
        min_distance: Fewest pairs that stand behind the one that is asked for.
    """

    n_keys: int = 8
    min_distance: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no number, or out of range."""
        for name in ("n_keys", "min_distance"):
            object.__setattr__(self, name, checked_whole(name, getattr(self, name)))
        if self.n_keys < 2:
            raise UsageError(f"n_keys must be at least 2, got {self.n_keys}. It is the number of keys with values.")
        if not 0 <= self.min_distance < self.n_keys:
            raise UsageError(
                f"min_distance must be from 0 to {self.n_keys - 1} with n_keys={self.n_keys}, got {self.min_distance}. "
                "It is the number of pairs that at least stand behind the one that is asked for."
            )

    def refuse_shots(self, n_shot: int) -> None:
        """Raise where there are fewer other keys than demonstrations.

        Raises:
            UsageError: If that is so.
        """
        if n_shot >= self.n_keys:
            raise UsageError(
                f"n_shot={n_shot} demonstrations, each of a key that is not asked for, need at least {n_shot + 1} "
                f"keys, got n_keys={self.n_keys}. Raise n_keys or give a smaller n_shot."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How prompts are made; the arguments of `load_task`, checked."""

    n_shot: int
    limit: int | None
    seed: int
    template: str | None
    names: FieldNames
    prompt_words: int
    demonstration_sets: int = 1
    templates: tuple[str, ...] = ()
    recall: RecallOptions = field(default_factory=RecallOptions)

    def __post_init__(self) -> None:
        """Refuse what is no number, or out of range."""
        for name in ("n_shot", "limit", "seed", "prompt_words"):
            given = getattr(self, name)
            object.__setattr__(self, name, None if name == "limit" and given is None else checked_whole(name, given))
        if self.n_shot < 0:
            raise UsageError(f"n_shot must be at least 0, got {self.n_shot}. It is the number of demonstrations.")
        if self.demonstration_sets < 1 or (self.demonstration_sets > 1 and self.n_shot == 0):
            raise UsageError(
                f"demonstration_sets must be at least 1, and 1 without demonstrations, got {self.demonstration_sets} "
                f"with n_shot={self.n_shot}. It is the number of sets of demonstrations that prompts take turns with."
            )
        if self.limit is not None and self.limit < self.demonstration_sets and self.demonstration_sets > 1:
            raise UsageError(
                f"demonstration_sets={self.demonstration_sets} need as many prompts, got limit={self.limit}. Raise the "
                "limit, or give fewer sets."
            )
        self._check_templates()
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1, got {self.limit}. Leave it out (None) for all samples.")
        if self.prompt_words < 1:
            raise UsageError(f"prompt_words must be at least 1, got {self.prompt_words}. It is a prompt's length.")
        if self.names.answer is not None and self.names.prompt == self.names.answer:
            raise UsageError(f"prompt_field and answer_field are both {self.names.prompt!r}. Name two fields.")
        if self.names.marker is not None and not self.names.marker.strip():
            raise UsageError("answer_marker is empty. Give the text before the final answer, e.g. '####'.")
        if self.names.prefix is not None and not self.names.prefix:
            raise UsageError("answer_prefix is empty. Give the text to put before answers, e.g. ' '.")

    def _check_templates(self) -> None:
        """Refuse templates that cannot be clusters of prompts.

        Raises:
            UsageError: If that is so.
        """
        n_templates, n_sets = len(self.templates), self.demonstration_sets
        if not n_templates:
            return
        if self.template is not None:
            raise UsageError("Give template= for one template or templates= for several, not both.")
        twice = [text for text, count in Counter(self.templates).items() if count > 1]
        if twice:
            raise UsageError(f"templates= names {twice[0]!r} twice. Prompts take turns with templates that differ.")
        if n_sets > 1 and n_sets % n_templates:
            raise UsageError(
                f"demonstration_sets={n_sets} sets cannot be shared out over {n_templates} templates. Each set is "
                f"written in one template: give {n_templates}, {2 * n_templates} or another multiple of sets, or one."
            )
        if self.limit is not None and self.limit < n_templates:
            raise UsageError(
                f"templates= names {n_templates} templates, which need as many prompts, got limit={self.limit}. Raise "
                "the limit, or give fewer templates."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a task is made of: enough to make it again, or a part of it.

    Attributes:
        source: What `load_task` was given.
        material: What the source holds.
        options: How prompts are made of that.
    """

    source: str
    material: Material
    options: TaskOptions

    @property
    def templates(self) -> tuple[str, ...]:
        """All templates that prompts take turns with; mostly there is one."""
        if self.options.templates:
            return self.options.templates
        return (self.material.template if self.options.template is None else self.options.template,)
