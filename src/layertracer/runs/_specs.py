"""What was asked, of which model, with which prompts: the parts of a trace that are not arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from layertracer._types import WHOLE_FINGERPRINT, LayerRecord, TargetKind, TargetTokens


def storable_text(text: str) -> str:
    r"""The text with lone surrogates replaced by U+FFFD, so that it can be written as UTF-8.

    Example:
        >>> storable_text("a\ud800b") == "a\ufffdb"
        True
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRecord:
    """One prompt as the model saw it, and what the model made of it.

    Attributes:
        prompt_ids: Token ids of the prompt.
        answer_ids: Token ids of the answer; empty where the sample has none.
        target_ids: Tokens whose probability is followed; several with `target_tokens="all"`.
        top_id: The model's own top token at the first position that is read.
        top_prob: Its probability, in [0, 1].
        solved: Whether the model gives the whole answer, or one of several: each of its tokens is the top one behind
            those before it, white space at its beginning left aside. None where there is no answer, and where it is
            not known: the answer does not fit into the context, or the run was stored when only the tokens that are
            followed were compared and those agree.
        prompt_text: Text of the prompt; None where only ids were given.
        answer_text: Text of the answer; None where only an id was given or there is none.
        begins: Whether the model's top token is the first token that is followed of the answer, or of one of several;
            None where there is no answer.
        n_lead: How many tokens of `answer_ids` say nothing of the answer (white space, pieces of a character). They are
            read as the end of the prompt where an answer is followed, and the token behind them is the first followed.
        other_answer_ids: Token ids of the other answers that are right.
        other_answer_texts: Their texts; empty where they are ids.
        demonstration_set: Which set of demonstrations it begins with; None where the task has only one, or none. Where
            there are several templates, which prompts share one, each writing its demonstrations in its own way.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    target_ids: tuple[int, ...]
    top_id: int
    top_prob: float
    solved: bool | None
    prompt_text: str | None = None
    answer_text: str | None = None
    begins: bool | None = None
    n_lead: int = 0
    other_answer_ids: tuple[tuple[int, ...], ...] = ()
    other_answer_texts: tuple[str, ...] = ()
    demonstration_set: int | None = None

    def __post_init__(self) -> None:
        """Make the texts storable."""
        for name in ("prompt_text", "answer_text"):
            text = getattr(self, name)
            if text is not None:
                object.__setattr__(self, name, storable_text(text))
        object.__setattr__(self, "other_answer_texts", tuple(map(storable_text, self.other_answer_texts)))


@dataclass(frozen=True, kw_only=True, slots=True)
class TraceSpec:
    """What was asked, in JSON values.

    Attributes:
        task: Name, number of demonstrations, limit, seed and template of the task.
        perturbation: `to_dict()` of the perturbation.
        onset: `to_dict()` of the onset criterion.
        target: "answer" or "model": whose token is followed.
        target_tokens: "first" or "all": how much of the answer is followed.
        seed: Seed of the bootstrap.
        further_perturbations: `to_dict()` of those beside it, where several were asked for at once.
        lenses: Names of the lenses beside the logit lens.
    """

    task: Mapping[str, Any]
    perturbation: Mapping[str, Any]
    onset: Mapping[str, Any]
    target: TargetKind
    target_tokens: TargetTokens
    seed: int
    further_perturbations: tuple[Mapping[str, Any], ...] = ()
    lenses: tuple[str, ...] = ()

    @property
    def perturbations(self) -> tuple[Mapping[str, Any], ...]:
        """All perturbations, in the order in which they were asked for."""
        return (self.perturbation, *self.further_perturbations)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelRecord:
    """A model, described without its weights.

    Attributes:
        name: Name under which it was loaded.
        class_name: Class of its module.
        revision: Revision of the checkpoint, where there is one.
        layers: Its decoder layers, in order.
        d_model: Width of the last axis of a layer's output.
        d_vocab: Number of tokens in its output distribution.
        n_parameters: Number of parameters.
        device: Device it ran on.
        dtype: Type of its weights.
        fingerprint: "v2-" and a hash of the names, shapes, types and values of all weights, and of the settings that a
            forward reads; runs of older versions hold a hash of their shapes and of the output embedding, without that
            beginning.
    """

    name: str
    class_name: str
    revision: str | None
    layers: tuple[LayerRecord, ...]
    d_model: int
    d_vocab: int
    n_parameters: int
    device: str
    dtype: str
    fingerprint: str

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @property
    def has_whole_fingerprint(self) -> bool:
        """Whether the fingerprint covers all weights, as that of older versions does not."""
        return self.fingerprint.startswith(WHOLE_FINGERPRINT)
