"""Causal traces made by hand: with every field in use, and at several extremes. No model is run."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from layertracer._types import Audit, Interval
from layertracer.evidence import CausalRecord, ExcludedSample, LogitDifference, RoleEffects

from tests.support.records.advice_records import HOSTILE

ROLES = ("first_subject", "middle_subject", "last_subject", "first_subsequent", "further", "last")
WORDS = ("The", " Space", " Needle", " is", " in", " the", " heart", " of", " the", " city", " of")

PROVENANCE = {
    "layertracer": "0.1.0",
    "packages": {"numpy": "2.0.0"},
    "python": "3.12.0",
    "platform": "Linux-6.1-x86_64",
    "n_cpus": 2,
    "git_commit": None,
    "git_dirty": None,
    "started_at": "2026-01-02T03:04:05+00:00",
    "finished_at": "2026-01-02T03:24:05+00:00",
}


def model_of(name: str, n_layers: int) -> dict[str, Any]:
    """What is known of a model."""
    return {
        "name": name,
        "n_layers": n_layers,
        "mixers": ["attention"] * n_layers,
        "fingerprint": "v2-" + "0123456789abcdef" * 4,
        "class_name": "TinyForCausalLM",
        "n_parameters": 1_234_567,
        "dtype": "float32",
        "device": "cpu",
    }


def _roles_of(length: int, first: int, end: int) -> list[str | None]:
    """What each position is to its prompt: the last named of what it is."""
    roles: list[str | None] = [None] * length
    for position in range(first, length):
        role = "further"
        if position < end:
            role = "first_subject" if position == first else "middle_subject"
            role = "last_subject" if position == end - 1 else role
        elif position == end:
            role = "first_subsequent"
        roles[position] = "last" if position == length - 1 else role
    return roles


def _by_role(values: np.ndarray, roles: list[list[str | None]]) -> RoleEffects:
    """The mean over prompts of each one's mean over positions of a role."""
    n_layers = values.shape[1]
    mean = np.full((len(ROLES), n_layers), np.nan)
    low, high = mean.copy(), mean.copy()
    n_prompts = np.zeros(len(ROLES), np.int64)
    for row, role in enumerate(ROLES):
        of_role = []
        for prompt, of_prompt in enumerate(roles):
            positions = [position for position, one in enumerate(of_prompt) if one == role]
            if positions and not np.isnan(values[prompt][:, positions]).all():
                of_role.append(np.nanmean(values[prompt][:, positions], axis=1))
        n_prompts[row] = len(of_role)
        if of_role:
            mean[row] = np.mean(of_role, axis=0)
        if len(of_role) > 1:
            half = 1.96 * np.std(of_role, axis=0, ddof=1) / np.sqrt(len(of_role))
            low[row], high[row] = np.maximum(mean[row] - half, -1), np.minimum(mean[row] + half, 1)
    return RoleEffects(roles=ROLES, mean=mean, low=low, high=high, n_prompts=n_prompts)


def make_causal(
    n_layers: int = 8,
    n_prompts: int = 6,
    *,
    name: str = "mini/attention",
    corrupt: str = "swap",
    direction: str = "denoise",
    has_contrast: bool = True,
    has_tokens: bool = True,
    n_excluded: int = 2,
    words: tuple[str, ...] = WORDS,
    **changes: Any,
) -> CausalRecord:
    """A causal trace in which the last subject token matters early and the last token late.

    Args:
        n_layers: Layers of the model.
        n_prompts: Prompts, those that are excluded among them.
        name: Name of the model.
        corrupt: "swap" or "noise".
        direction: "denoise" or "noise".
        has_contrast: Whether there are contrast answers.
        has_tokens: Whether there is a tokenizer.
        n_excluded: How many of the prompts are excluded, the last ones.
        words: The tokens that prompts are made of.
        **changes: Other fields of the record.
    """
    rng = np.random.default_rng(n_layers + n_prompts)
    lengths = np.array([len(words) - index % 3 for index in range(n_prompts)], np.int64)
    first, end = 1, 3
    spans = np.tile(np.array([[first, end]], np.int64), (n_prompts, 1))
    used = np.arange(n_prompts) < n_prompts - n_excluded
    clean = rng.uniform(0.5, 0.9, n_prompts).astype(np.float32)
    corrupted = (clean * rng.uniform(0.02, 0.2, n_prompts)).astype(np.float32)
    spans[~used] = -1
    clean[~used] = np.nan
    corrupted[~used] = np.nan
    roles = [
        _roles_of(int(length), *(span if used[i] else (length, length)))
        for i, (length, span) in enumerate(zip(lengths, spans, strict=True))
    ]
    restored = np.full((n_prompts, n_layers, int(lengths.max(initial=0))), np.nan, np.float32)
    depth = np.linspace(0, 1, n_layers)
    shape = {"last_subject": np.exp(-((depth - 0.2) ** 2) / 0.03), "last": 1 / (1 + np.exp(-(depth - 0.6) * 14))}
    for prompt in np.flatnonzero(used):
        for position, role in enumerate(roles[prompt]):
            if role is not None:
                share = shape.get(role, np.full(n_layers, 0.05)) * rng.uniform(0.8, 1.0, n_layers)
                moved = corrupted[prompt] + share * (clean[prompt] - corrupted[prompt])
                if direction == "noise":
                    moved = clean[prompt] - share * (clean[prompt] - corrupted[prompt])
                restored[prompt, :, position] = moved
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = LogitDifference(
            clean=np.log(clean / 0.05), corrupted=np.log(corrupted / 0.3), restored=np.log(restored / 0.1)
        )
        effect = restored - corrupted[:, None, None] if direction == "denoise" else clean[:, None, None] - restored
        recovery = (restored - corrupted[:, None, None]) / (clean - corrupted)[:, None, None]
    total = clean[used] - corrupted[used]
    excluded = tuple(
        ExcludedSample(
            prompt=int(prompt),
            reason="unsolved",
            explanation="P(answer) is 0.012 on the clean prompt, below P(contrast answer), 0.3.",
        )
        for prompt in np.flatnonzero(~used)
    )
    fields: dict[str, Any] = {
        "model": model_of(name, n_layers),
        "corrupt": corrupt,
        "direction": direction,
        "site": "block_output",
        "window": 1,
        "n_draws": 10 if corrupt == "noise" else 1,
        "noise_scale": 3.0 if corrupt == "noise" else None,
        "noise_std": 0.41 if corrupt == "noise" else None,
        "seed": 7,
        "clean_prob": clean,
        "corrupted_prob": corrupted,
        "restored_prob": restored,
        "logit_difference": difference if has_contrast else None,
        "subject_spans": spans,
        "lengths": lengths,
        "token_texts": tuple(tuple(words[:length]) for length in lengths) if has_tokens else (),
        "excluded": excluded,
        "by_role": _by_role(effect, roles),
        "recovery_by_role": _by_role(recovery, roles),
        "total_effect_interval": _interval_of(total),
        "audit": Audit(share=0.1, n_cells=41, n_forwards=41, n_drawn=41, worst_nats=3e-7, worst_bits=None, notes=()),
        "method": "ladder",
        "provenance": {**PROVENANCE, "command": ["layertracer", "causal", name, "--corrupt", corrupt]},
        "spec": {"corrupt": corrupt, "direction": direction, "window": 1, "seed": 7},
        "notes": (),
    }
    return CausalRecord(**fields | changes)


def _interval_of(total: np.ndarray) -> Interval | None:
    if len(total) < 2:
        return None
    half = 1.96 * float(total.std(ddof=1)) / len(total) ** 0.5
    return Interval(low=max(-1.0, float(total.mean()) - half), high=min(1.0, float(total.mean()) + half))


def rich_causal() -> CausalRecord:
    """Six prompts, two of them excluded, with contrast answers."""
    return make_causal(notes=("Two facts are of one relation.",))


def noisy_causal() -> CausalRecord:
    """Noise on the subject, no contrast answer, no tokenizer, disruption, two layers without the site."""
    record = make_causal(10, 5, corrupt="noise", direction="noise", has_contrast=False, has_tokens=False, n_excluded=0)
    restored = record.restored_prob.copy()
    restored[:, [2, 7]] = np.nan
    return dataclasses.replace(record, restored_prob=restored, site="mixer_output", window=3)


def empty_causal() -> CausalRecord:
    """One prompt, two layers, and nothing that could be used."""
    return make_causal(2, 1, n_excluded=1)


def hostile_causal() -> CausalRecord:
    """Every text that a file or a model brings is hostile."""
    record = make_causal(4, 3, name=HOSTILE, n_excluded=1, words=(HOSTILE,) * 6, notes=(HOSTILE,))
    excluded = tuple(dataclasses.replace(one, reason=HOSTILE, explanation=HOSTILE) for one in record.excluded)
    audit = dataclasses.replace(record.audit, notes=(HOSTILE,))
    return dataclasses.replace(record, excluded=excluded, audit=audit, site=HOSTILE, method=HOSTILE)


CAUSAL_RECORDS = {"rich": rich_causal, "noisy": noisy_causal, "empty": empty_causal, "hostile": hostile_causal}
"""What makes each, by name."""
