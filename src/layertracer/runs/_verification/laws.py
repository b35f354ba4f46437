"""How the numbers of one trace go together, whatever the model: each of them may be in its range, and all a lie.

Only laws of what is written are faults. They are exact, but for rounding: rank, probability, entropy and the most
probable tokens of a row come of the same logits. Runs without an audit are older, or ended before anything was held
against anything; of them nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layertracer.runs._json_rules import described
from layertracer.runs._record import TraceRecord
from layertracer.runs._schema import LAYERS, PERTURBATIONS, PROMPTS, TOKENS

_NATS, _BITS, _PROB = 1e-3, 1e-2, 1e-4
"""Rounding of a log-probability, of an entropy over 10^5 tokens, and of a probability."""

_LEAST_BITS = 2e-3
"""Rounding of a JS divergence beside probabilities that were read another way."""

Found = Iterator[tuple[str, str]]
"""A file, and what is wrong with it."""


def is_lawful(header: Mapping[str, Any]) -> bool:
    """Whether a run was written when the laws held of all that was written: it says what it measured again."""
    return header.get("audit") is not None


def find_contradictions(header: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]) -> Found:
    """What no trace can write together, in tables whose values are right by themselves.

    Laws: a rank r says that r - 1 tokens are as probable, so the target's probability is 1 / r at most; a single target
    stands among the top tokens exactly at its rank, with its probability; the entropy of a single position lies between
    the least and the most that its top tokens allow; what the model predicts is what its last layer does.

    Args:
        header: The content of `run.json`, its fields right by themselves.
        columns: The columns of every table, likewise.
    """
    if not header["shape"]["n_prompts"]:
        return
    prompts, layers = columns[PROMPTS.file], columns[LAYERS.file]
    shape = [header["shape"][f"n_{axis}s"] for axis in ("prompt", "layer")]
    ids = layers["top_ids"].reshape(*shape, -1)
    prob = layers["top_prob"].reshape(*shape, -1).astype(np.float64)
    ranks = layers["target_rank"].reshape(shape)[:, -1].tolist()
    told = _judge_prompts(header["spec"], {**prompts, "rank": ranks}, ids, prob)
    yield from ((PROMPTS.file, words) for words in told)
    d_vocab = header["model"]["d_vocab"]
    rows = _Rows(prompts, layers, ids=ids, prob=prob, d_vocab=d_vocab)
    yield from ((LAYERS.file, words) for words in rows.faults())
    named = {*np.unique(ids).tolist(), *prompts["top_id"]}
    for lens in header["lenses"]:
        read = _read_by(lens["name"], layers)
        yield from ((LAYERS.file, f"{words}, of the lens {lens['name']}") for words in _judge_lens(read, layers))
        lens_ids, lens_prob = (read[name].reshape(*shape, -1) for name in ("top_ids", "top_prob"))
        lens_rows = _Rows(prompts, read, ids=lens_ids, prob=lens_prob.astype(np.float64), d_vocab=d_vocab)
        yield from ((LAYERS.file, f"{words}, of the lens {lens['name']}") for words in lens_rows.faults())
        named.update(np.unique(lens_ids).tolist())
    yield from ((PERTURBATIONS.file, words) for words in _judge_effects(rows, columns[PERTURBATIONS.file]))
    for name in ("prompt_ids", "answer_ids", "target_ids"):
        named.update(*prompts[name])
    missing = sorted(named - set(columns[TOKENS.file]["token_id"]))
    if missing:
        yield TOKENS.file, f"token {missing[0]} has no text (and {len(missing) - 1} more), and the run names it"


def _read_by(lens: str, layers: Mapping[str, Any]) -> dict[str, Any]:
    """What a lens reads after each layer, by the names that the logit lens's columns have."""
    prefix = f"{lens}."
    return {name.removeprefix(prefix): values for name, values in layers.items() if name.startswith(prefix)}


def _judge_lens(read: Mapping[str, Any], layers: Mapping[str, Any]) -> Iterator[str]:
    """No lens translates the last layer: what it reads there is what the model says."""
    own, clean = read["target_log_prob"][:, -1], layers["target_log_prob"][:, -1]
    with np.errstate(invalid="ignore"):
        wrong = ~((own == clean) | (np.abs(own - clean) <= _NATS * np.maximum(1, np.abs(clean))))
    if wrong.any():
        row = int(wrong.argmax())
        yield f"target_log_prob is {own[row]:g} at the last layer of prompt {row}, and the model's own {clean[row]:g}"


def _judge_effects(rows: _Rows, effects: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The divergence and the target's loss of a perturbed output that no two distributions have at once.

    Laws: both are missing at the same layers; two distributions are at least as far apart as what they say of one
    token: JS(P, Q) ≥ JS of (p, 1 − p) and (q, 1 − q).
    """
    for number, (key, columns) in enumerate(effects.items()):
        if "target_log_prob" not in columns:
            continue
        js = columns["js_bits"].astype(np.float64)
        log_q = columns["target_log_prob"].astype(np.float64)
        where = f"of effect {number} ({described(key)})"
        if bool((np.isnan(js) != np.isnan(log_q)).any()):
            yield f"target_log_prob and js_bits {where} are not missing at the same layers"
            continue
        least = _binary_js(np.exp(rows.log_prob[:, -1])[:, None, None], np.exp(log_q))
        with np.errstate(invalid="ignore"):
            wrong = rows.is_single[:, :, None] & (js < least - _LEAST_BITS)
        if wrong.any():
            at = tuple(int(index) for index in np.unravel_index(int(wrong.argmax()), wrong.shape))
            yield (
                f"js_bits is {js[at]:g} {where}, and the target's probability alone makes it {least[at]:.4g} or more, "
                f"at prompt {at[0]}, draw {at[1]}, layer {at[2]}"
            )


def _binary_js(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    """JS divergence of (p, 1 - p) and (q, 1 - q), bits."""
    p, q = np.clip(p, 0, 1), np.clip(q, 0, 1)
    return _binary_entropy((p + q) / 2) - (_binary_entropy(p) + _binary_entropy(q)) / 2


def _binary_entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(one > 0, -one * np.log2(one), 0.0) for one in (p, 1 - p)]
    return np.asarray(np.where(np.isnan(p), np.nan, parts[0] + parts[1]))


def find_oddities(record: TraceRecord) -> list[str]:
    """What a trace can have written and rarely does, for who wants to know whether to believe it."""
    found = []
    if record.status == "complete" and record.n_prompts < record.n_requested and record.certificate is None:
        found.append(
            f"It is complete, with {record.n_prompts} of {record.n_requested} prompts: those that were selected."
        )
    odd = [row for row, prompt in enumerate(record.prompts) if prompt.solved and prompt.begins is False]
    if odd:
        found.append(
            f"The model gives the whole answer of prompt {odd[0]} and does not begin with it ({len(odd)} of "
            f"{record.n_prompts} prompts). That is so only where it reads a text otherwise when more stands behind it."
        )
    largest = max((layer.n_parameters for layer in record.model.layers), default=0)
    if largest > record.model.n_parameters:
        found.append(f"model.n_parameters is {record.model.n_parameters}, and one of its layers has {largest}.")
    return found


def _judge_prompts(
    spec: Mapping[str, Any], prompts: Mapping[str, Any], ids: NDArray[np.int32], prob: NDArray[np.float64]
) -> Iterator[str]:
    """What is said of prompts against one another and against the last layer."""
    for row, top in enumerate(prompts["top_id"]):
        if ids.shape[-1] and (top != ids[row, -1, 0] or abs(prompts["top_prob"][row] - prob[row, -1, 0]) > _PROB):
            yield (
                f"top_id {top} with top_prob {prompts['top_prob'][row]:g} at prompt {row} are not the last layer's "
                f"top token {ids[row, -1, 0]} with {prob[row, -1, 0]:g}"
            )
            return
    for row in range(len(prompts["top_id"])):
        words = _judge_answer(spec, {name: values[row] for name, values in prompts.items()})
        if words is not None:
            yield f"{words} at prompt {row}"
            return


def _judge_answer(spec: Mapping[str, Any], prompt: Mapping[str, Any]) -> str | None:
    """What is wrong with how a prompt's answer is judged and followed; None where nothing is."""
    answer, target, lead = prompt["answer_ids"], prompt["target_ids"], prompt.get("n_lead", 0)
    has_others = bool(prompt.get("other_answer_ids"))
    if prompt["solved"] and prompt.get("begins") is False and not has_others:
        return "solved is true and begins false"
    if spec["target"] == "model":
        is_own = list(target) == [prompt["top_id"]]
        return None if is_own else f"target_ids is {list(target)[:9]} and not the model's top token {prompt['top_id']}"
    if not answer:
        return "answer_ids is empty, and the answer is followed"
    if has_others:
        return None  # what all answers begin with is followed then, and any of them may be given
    followed = answer[lead : lead + 1] if spec["target_tokens"] == "first" else answer[lead:]
    if list(target) != list(followed):
        return f"target_ids is {list(target)[:9]} and not {list(followed)[:9]}, what is followed of answer_ids,"
    begins = prompt["top_id"] == target[0]
    if prompt.get("begins") not in (None, begins):
        return f"begins is {str(prompt['begins']).lower()}, top_id {prompt['top_id']} and the target {target[0]}"
    # All of the answer is followed: nothing more was to be read to see whether it is given.
    is_given = prompt["rank"] == 1
    if len(answer) == len(target) and prompt["solved"] not in (None, is_given):
        return f"solved is {str(prompt['solved']).lower()} and the last target_rank {prompt['rank']}"
    return None


class _Rows:
    """The rows of the lens, [prompt, layer], as far as they have one position and one target."""

    def __init__(
        self,
        prompts: Mapping[str, Any],
        layers: Mapping[str, Any],
        *,
        ids: NDArray[np.int32],
        prob: NDArray[np.float64],
        d_vocab: int,
    ) -> None:
        shape = ids.shape[:2]
        self.log_prob = layers["target_log_prob"].reshape(shape).astype(np.float64)
        self.rank = layers["target_rank"].reshape(shape)
        self.entropy = layers["entropy_bits"].reshape(shape).astype(np.float64)
        self.ids, self.prob, self.d_vocab = ids, prob, d_vocab
        others: Sequence[Sequence[Any]] = prompts.get("other_answer_ids", [()] * shape[0])
        self.n_targets = np.array([1 + len(one) for one in others])[:, None]
        has_one = np.array([len(one) == 1 for one in prompts["target_ids"]])[:, None]
        self.is_single = has_one & (self.n_targets == 1)
        self.has_one_position = has_one
        self.target = np.array([one[0] for one in prompts["target_ids"]])[:, None]

    def faults(self) -> Iterator[str]:
        """The first place of each law that is broken."""
        wrong = self.log_prob > np.log(self.n_targets / self.rank) + _NATS
        yield from self._told(wrong, lambda at: f"target_rank is {self.rank[at]} and {self._target(at)}")
        if not self.ids.shape[-1]:
            return
        is_target = self.ids == self.target[..., None]
        place = np.where(is_target.any(axis=-1), is_target.argmax(axis=-1) + 1, 0)
        expected = np.where(self.rank <= self.ids.shape[-1], self.rank, 0)
        wrong = self.is_single & (place != expected)
        yield from self._told(
            wrong, lambda at: f"target_rank is {self.rank[at]} and the target's place in top_ids {place[at] or 'none'}"
        )
        listed = np.take_along_axis(self.prob, np.maximum(place - 1, 0)[..., None], axis=-1)[..., 0]
        own = np.exp(self.log_prob)
        wrong = self.is_single & np.where(place > 0, np.abs(own - listed) > _PROB, own > self.prob[..., -1] + _PROB)
        yield from self._told(
            wrong, lambda at: f"{self._target(at)} and top_prob is {self.prob[at].round(6).tolist()[:9]}"
        )
        least, most = _entropy_bounds(self.prob, self.d_vocab)
        wrong = self.has_one_position & ((self.entropy < least - _BITS) | (self.entropy > most + _BITS))
        yield from self._told(
            wrong,
            lambda at: f"entropy_bits is {self.entropy[at]:g}, and top_prob allows {least[at]:.4g} to {most[at]:.4g}",
        )

    def _target(self, at: tuple[int, int]) -> str:
        return f"target_log_prob is {self.log_prob[at]:g}, a probability of {np.exp(self.log_prob[at]):.4g},"

    @staticmethod
    def _told(wrong: NDArray[np.bool_], words: Any) -> Iterator[str]:
        if wrong.any():
            prompt, layer = (int(index) for index in np.unravel_index(int(wrong.argmax()), wrong.shape))
            others = int(wrong.sum()) - 1
            yield f"{words((prompt, layer))} at prompt {prompt}, layer {layer}" + (
                f" (and {others} more)" * bool(others)
            )


def _entropy_bounds(prob: NDArray[np.float64], d_vocab: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the most entropy, in bits, of a distribution whose largest probabilities are known.

    What is left is spread over all other tokens for the most; for the least it stands on as few as may be, none of them
    more probable than the last that is known.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        known = np.nan_to_num(-prob * np.log2(prob), nan=0.0).sum(axis=-1)
        rest = np.clip(1 - prob.sum(axis=-1), 0, 1)
        n_rest = max(d_vocab - prob.shape[-1], 1)
        least = known + np.nan_to_num(-rest * np.log2(prob[..., -1]), nan=0.0, posinf=0.0)
        most = known + np.nan_to_num(rest * np.log2(n_rest / rest), nan=0.0, posinf=0.0)
    return least, most
