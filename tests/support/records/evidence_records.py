"""Evidence made by hand: with every field in use, and at several extremes. No model is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from layertracer._types import Interval, LayerMeasure, MeasureInfo
from layertracer.evidence import (
    Agreement,
    CausalRecord,
    Control,
    DoseResponse,
    EvidenceRecord,
    LensQuality,
    ParticleReading,
    Probing,
    PromptsNeeded,
    SiteEffect,
    VarianceShares,
    Verdict,
)

from tests.support.records.advice_records import HOSTILE
from tests.support.records.causal_records import PROVENANCE, make_causal, model_of

LENSES = ("logit", "tuned", "jacobian")
CRITERIA = ("rise", "half_max", "change_point", "first_top1", "ratio", "abs_ratio")
SITES = ("block_output", "mixer_output", "mlp_output")

INFOS = {
    info.name: info
    for info in (
        MeasureInfo(
            name="skip_js_bits", unit="bits", meaning="JS divergence where the layer is skipped", low=0.0, high=1.0
        ),
        MeasureInfo(
            name="zero_mixer_js_bits",
            unit="bits",
            meaning="JS divergence where the mixer adds nothing",
            low=0.0,
            high=1.0,
        ),
        MeasureInfo(
            name="zero_mlp_js_bits", unit="bits", meaning="JS divergence where the MLP adds nothing", low=0.0, high=1.0
        ),
        MeasureInfo(
            name="block_influence", unit="ratio", meaning="1 − cosine of what enters and what leaves", low=0.0, high=2.0
        ),
        MeasureInfo(name="angular_distance", unit="half-turns", meaning="angle between them", low=0.0, high=1.0),
        MeasureInfo(name="gradient_block", unit="nats", meaning="first-order estimate of zero-ablation"),
        MeasureInfo(name="dla_mixer", unit="nats", meaning="direct logit attribution of the mixer"),
        MeasureInfo(name="dla_mlp", unit="nats", meaning="direct logit attribution of the MLP"),
    )
}

QUESTIONS: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "threshold",
        "Is the task particle a product of the threshold?",
        "no",
        "4 of 6 criteria agree within one layer (3 to 4 of 8) over 16 prompts; Ratio and AbsRatio name others.",
        "Each criterion has thresholds of its own.",
    ),
    (
        "lens",
        "Is it a product of the lens?",
        "undecided",
        "The tuned lens names layer 2, 95 % interval 1 to 4, and the logit lens layer 3, 3 to 4, over 16 prompts.",
        "The intervals overlap; that is no proof of agreement.",
    ),
    (
        "causal",
        "Does it agree with causal tracing?",
        "no",
        "Pearson 0.12, 95 % interval −0.4 to 0.6, p 0.6 over 14 prompts; the paper states 0.68.",
        "",
    ),
    (
        "importance",
        "Does JS agree with other measures of importance?",
        "yes",
        "At mixer_output 3 of 4 measures correlate above 0.5 over 8 layers, Holm-corrected p at most 0.04.",
        "A correlation of layers' order says nothing of the size of effects.",
    ),
    (
        "controls",
        "Do controls come out as they should?",
        "no",
        "5 of 6 controls do; with arbitrary labels a particle is found in 0.31 of 16 prompts.",
        "",
    ),
    (
        "dose",
        "Does it depend on how much is masked?",
        "yes",
        "The order of layers at 1 % correlates with that at 10 % by 0.41, over 8 layers.",
        "",
    ),
    (
        "dominant",
        "Is it due to a few dominant dimensions?",
        "undecided",
        "Without the 3 dominant dimensions JS falls by 62 % at layer 6, and 6 stays the largest.",
        "",
    ),
    ("prompts", "Are there enough prompts?", "no", "±1 layer takes about 40 prompts; there are 16.", "Extrapolated."),
    (
        "templates",
        "Is it the same in other templates?",
        "not measured",
        "There was one template: give a task with several.",
        "",
    ),
    (
        "false_positives",
        "How often does a criterion fire on nothing?",
        "yes",
        "Rise fires on 0.02 of 512 random targets, 95 % interval 0.01 to 0.04; AbsRatio on 0.44.",
        "",
    ),
    (
        "running_text",
        "Does it hold on running text?",
        "yes",
        "On 32 pieces of text the same layer is the most vulnerable at 2 of 3 sites.",
        "",
    ),
)


class _Maker:
    """Numbers that look like those of a model of `n_layers`, from a seed."""

    def __init__(self, n_layers: int, n_prompts: int, n_texts: int) -> None:
        self.rng = np.random.default_rng(n_layers + n_prompts)
        self.n_layers, self.n_prompts, self.n_texts = n_layers, n_prompts, n_texts
        self.depth = np.linspace(0.0, 1.0, n_layers)

    def around(self, centre: float, width: float) -> np.ndarray:
        """A bump over the depth."""
        return np.exp(-((self.depth - centre) ** 2) / width)

    def effect(self, site: str, rows: str, number: int) -> SiteEffect:
        """JS at a site."""
        n_rows = self.n_prompts if rows == "task" else self.n_texts
        noise = self.rng.uniform(0.7, 1.3, (n_rows, self.n_layers))
        js = np.clip(0.5 * self.around(0.2 + 0.3 * number, 0.05) * noise, 0, 1)
        if site == "mlp_output" and self.n_layers > 4:
            js[:, 1] = np.nan
        mean = np.nan_to_num(js, nan=-1.0).mean(axis=0)
        layer = int(np.argmax(mean))
        contenders = tuple(int(one) for one in np.flatnonzero(mean > 0.9 * mean[layer]))
        return SiteEffect(
            site=site, rows=rows, js_bits=js, layer=layer, is_clear=len(contenders) == 1, contenders=contenders
        )

    def measures(self, names: tuple[str, ...], n_rows: int) -> Mapping[str, LayerMeasure]:
        """Measures by name."""
        found = {}
        for number, name in enumerate(names):
            values = 0.4 * self.around(0.1 * number, 0.1) * self.rng.uniform(0.5, 1.5, (n_rows, self.n_layers))
            found[name] = LayerMeasure(info=INFOS[name], values=np.clip(values, 0, 1))
        return found

    def particle(self, lens: str, criterion: str, number: int) -> ParticleReading:
        """What one criterion finds in one lens's curves."""
        drawn = np.clip(self.rng.normal(self.n_layers * 0.5, 1.0, self.n_prompts).round(), 0, self.n_layers - 1)
        per_prompt = tuple(None if index % 5 == number % 5 else int(one) for index, one in enumerate(drawn))
        found = [layer for layer in per_prompt if layer is not None]
        layer = round(float(np.median(found))) if found and criterion != "first_top1" else None
        rate = (0.02, 0.04, 0.05, 0.0, 0.31, 0.44)[number % 6]
        is_measured = lens == "logit"
        return ParticleReading(
            lens=lens,
            criterion=criterion,
            layer=layer,
            interval=None
            if layer is None or self.n_prompts < 2
            else Interval(low=float(max(layer - 1, 0)), high=float(min(layer + 1, self.n_layers - 1))),
            share_found=len(found) / len(per_prompt),
            per_prompt=per_prompt,
            false_positive_rate=rate if is_measured else float("nan"),
            false_positive_interval=Interval(low=max(0.0, rate - 0.01), high=rate + 0.03) if is_measured else None,
            n_random=512 if is_measured else 0,
        )

    def dose(self, site: str) -> DoseResponse:
        """Dose and response."""
        fractions = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
        js = np.stack([np.clip(f**0.5 * self.around(0.3 + 0.4 * f, 0.05), 0, 1) for f in fractions])
        return DoseResponse(
            site=site,
            fractions=fractions,
            js_bits=js,
            layer=tuple(int(one) for one in js.argmax(axis=1)),
            rank_correlation=np.array([0.41, 0.6, 0.9, 1.0, 0.95, 0.7, float("nan")]),
            reference=0.1,
            without_dominant=js[3] * 0.4 if site == "block_output" else None,
            only_dominant=js[3] * 0.6 if site == "block_output" else None,
            n_dominant=3 if site == "block_output" else 0,
        )

    def lens(self, name: str, number: int) -> LensQuality:
        """How well a lens reads."""
        rows = np.linspace(0, 1, self.n_layers + 1)
        return LensQuality(
            lens=name,
            kl_nats=7 * (1 - rows) ** (1 + number),
            bias_nats=4 * (1 - rows) ** (1 + number),
            top1=rows ** (1.5 - 0.4 * number),
            fallback=() if name == "logit" else (-1, self.n_layers - 1),
            n_tokens=4096,
        )

    def probes(self) -> tuple[Probing, ...]:
        """What can be read off the stream."""
        found = []
        for kind, k in (("linear", 0), ("k_sparse", 4)):
            for layer in range(-1, self.n_layers):
                accuracy = min(0.98, 0.3 + 0.6 * (layer + 2) / (self.n_layers + 1) - 0.1 * (k > 0))
                found.append(
                    Probing(
                        layer=layer,
                        kind=kind,
                        k=k,
                        accuracy=accuracy,
                        interval=Interval(low=max(0.0, accuracy - 0.1), high=min(1.0, accuracy + 0.08)),
                        control_accuracy=0.27,
                        selectivity=accuracy - 0.27,
                        chance=0.25,
                        n_test=64,
                    )
                )
        return tuple(found)


def _agreements(maker: _Maker, names: tuple[str, ...], *, has_causal: bool) -> tuple[Agreement, ...]:
    found = []
    for number, (site, name) in enumerate((site, name) for site in SITES for name in names):
        value = float(np.clip(0.9 - 0.13 * (number % 13), -1, 1))
        p = 0.001 * (1 + number % 13) ** 2
        found.append(
            Agreement(
                one=f"js_bits at {site}",
                other=name,
                family="layers",
                method="spearman",
                value=value,
                interval=Interval(low=max(-1.0, value - 0.3), high=min(1.0, value + 0.2)),
                p=p,
                p_holm=min(1.0, p * 12),
                n_units=maker.n_layers,
                units="layers",
            )
        )
    found += [
        dataclasses.replace(one, family="layers on running text", value=None, interval=None, p=None, p_holm=None)
        for one in found[: len(names)]
    ]
    found += [
        dataclasses.replace(
            found[0], one=f"js_bits at {site}", other=f"js_bits at {site} on text", family="task and running text"
        )
        for site in SITES
    ]
    for lens in LENSES if has_causal else ():
        for criterion in CRITERIA:
            is_known = criterion != "first_top1"
            found += [
                Agreement(
                    one=f"particle ({lens}, {criterion})",
                    other="depth of the causal effect",
                    family="prompts",
                    method=method,
                    value=0.12 if is_known else None,
                    interval=Interval(low=-0.4, high=0.6) if is_known else None,
                    p=0.6 if is_known else None,
                    p_holm=1.0 if is_known else None,
                    n_units=14 if is_known else 1,
                    units="prompts",
                    note="" if is_known else "Found in one prompt alone.",
                )
                for method in ("pearson", "spearman")
            ]
    return tuple(found)


def _controls(n_layers: int) -> tuple[Control, ...]:
    def control(name: str, measured: str, passed: bool | None, sentence: str, **more: Any) -> Control:
        fields: dict[str, Any] = {
            "expected": "nothing",
            "layer": None,
            "share_found": float("nan"),
            "rank_correlation": None,
            "value": 0.1,
            "true_value": 0.8,
            "unit": "share",
        }
        return Control(name=name, measured=measured, passed=passed, sentence=sentence, **fields | more)

    return (
        control(
            "arbitrary_labels",
            "particle",
            False,
            "With arbitrary labels a particle is found in 0.31 of 16 prompts, with true ones in 0.8.",
            share_found=0.31,
            value=0.31,
            layer=min(2, n_layers - 1),
        ),
        control(
            "shuffled_demonstrations",
            "particle",
            True,
            "With shuffled demonstrations a particle is found in 0.06 of 16 prompts.",
            share_found=0.06,
            value=0.06,
        ),
        control(
            "reinitialised_model",
            "js_bits at block_output",
            True,
            "With new weights the layers' order correlates with the true one by 0.08.",
            rank_correlation=0.08,
            value=0.08,
            true_value=1.0,
            unit="correlation",
        ),
        control(
            "random_directions",
            "js_bits at block_output",
            None,
            "Random perturbations of equal norm give 0.9 of the JS; the intervals overlap.",
            rank_correlation=0.7,
            value=float("nan"),
            unit="bits",
        ),
    )


def make_evidence(
    n_layers: int = 8,
    n_prompts: int = 16,
    *,
    name: str = "mini/attention",
    has_causal: bool = True,
    has_text: bool = True,
    quick: bool = False,
    causal: CausalRecord | None = None,
    **changes: Any,
) -> EvidenceRecord:
    """Evidence on a model with everything that evidence can have.

    Args:
        n_layers: Layers of the model.
        n_prompts: Prompts.
        name: Name of the model.
        has_causal: Whether there was causal tracing.
        has_text: Whether there was running text.
        quick: Whether the short form was asked for.
        causal: The causal trace, where another one is wanted.
        **changes: Other fields of the record.
    """
    maker = _Maker(n_layers, n_prompts, 32)
    lenses = ("logit",) if quick else LENSES
    names = tuple(INFOS)[:4] if quick else tuple(INFOS)
    rows = [(site, "task") for site in SITES] + [(site, "text") for site in SITES if has_text]
    rising = np.linspace(0, 1, n_layers + 1)
    fields: dict[str, Any] = {
        "model": model_of(name, n_layers),
        "task": {"name": "antonym", "n_shot": 5, "n_prompts": n_prompts},
        "n_prompts": n_prompts,
        "solved_share": 0.875,
        "quick": quick,
        "seed": 7,
        "verdicts": tuple(
            Verdict(question=question, asked=asked, answer=answer, sentence=sentence, caveat=caveat)
            for question, asked, answer, sentence, caveat in QUESTIONS
        ),
        "particles": tuple(
            maker.particle(lens, criterion, number) for lens in lenses for number, criterion in enumerate(CRITERIA)
        ),
        "target_prob": {lens: 0.8 * rising ** (4 - number) for number, lens in enumerate(lenses)},
        "effects": tuple(maker.effect(site, kind, SITES.index(site)) for site, kind in rows),
        "importance": maker.measures(names, n_prompts),
        "text_importance": maker.measures(names[:4], 32) if has_text else {},
        "causal": (causal or make_causal(n_layers, min(n_prompts, 6), name=name, n_excluded=min(n_prompts - 1, 2)))
        if has_causal
        else None,
        "causal_reason": "" if has_causal else "The task says no subjects, and nothing was given to swap them with.",
        "agreements": _agreements(maker, names, has_causal=has_causal),
        "controls": _controls(n_layers),
        "doses": tuple(maker.dose(site) for site in SITES[:2]),
        "variance": (
            VarianceShares(
                of="particle",
                shares={"prompts": 0.5, "demonstrations": 0.2, "templates": 0.1, "rest": 0.2},
                levels={"prompts": n_prompts, "demonstrations": 3, "templates": 2},
                note="Few levels say little of a variance.",
            ),
            VarianceShares(
                of="js_bits at block_output",
                shares={"prompts": 0.3, "draws": 0.6, "rest": 0.1},
                levels={"prompts": n_prompts, "draws": 10},
            ),
        ),
        "prompts_needed": (
            PromptsNeeded(of="particle (logit, rise)", n_prompts=40, measured={4: 2.5, 8: 1.8, 16: 1.2}, note="1/√n."),
            PromptsNeeded(of="particle (logit, ratio)", n_prompts=None, measured={4: 4.0, 16: 3.9}),
        ),
        "lenses": tuple(maker.lens(lens, number) for number, lens in enumerate(lenses)),
        "probes": () if quick else maker.probes(),
        "gradient_fidelity": {} if quick else {"gradient_mixer": 0.71, "gradient_mlp": -0.1, "gradient_block": 0.4},
        "provenance": {**PROVENANCE, "command": ["layertracer", "validate", name, "--task", "antonym"]},
        "spec": {"task": "antonym", "quick": quick, "seed": 7, "lenses": list(lenses)},
        "notes": ("2 of 16 prompts are not solved; they count.",),
    }
    return EvidenceRecord(**fields | changes)


def rich_evidence() -> EvidenceRecord:
    """Eight layers, 16 prompts, everything measured."""
    return make_evidence()


def quick_evidence() -> EvidenceRecord:
    """The short form on 30 layers: no causal tracing, one lens, no probes, no text."""
    return make_evidence(30, 16, name="smollm2", has_causal=False, has_text=False, quick=True)


def bare_evidence() -> EvidenceRecord:
    """One prompt, two layers, and nothing optional."""
    record = make_evidence(2, 1, has_causal=False, has_text=False)
    no_verdicts = tuple(dataclasses.replace(one, answer="not measured") for one in record.verdicts[:1])
    nothing: dict[str, Any] = dict.fromkeys(
        ("agreements", "controls", "doses", "variance", "prompts_needed", "lenses", "probes", "notes"), ()
    )
    return dataclasses.replace(
        record,
        verdicts=no_verdicts,
        particles=record.particles[:1],
        effects=record.effects[:1],
        importance={},
        gradient_fidelity={},
        solved_share=float("nan"),
        **nothing,
    )


def large_evidence() -> EvidenceRecord:
    """Eighty layers and 400 prompts."""
    return make_evidence(80, 400, name="large/eighty-layers")


def hostile_evidence() -> EvidenceRecord:
    """Every text that a file or a model brings is hostile."""
    record = make_evidence(4, 3, name=HOSTILE, notes=(HOSTILE,))
    causal = make_causal(4, 3, name=HOSTILE, n_excluded=1, words=(HOSTILE,) * 6, notes=(HOSTILE,))
    return dataclasses.replace(
        record,
        causal=causal,
        task={"name": HOSTILE, HOSTILE: HOSTILE},
        verdicts=(
            Verdict(question=HOSTILE, asked=HOSTILE, answer="yes", sentence=HOSTILE, caveat=HOSTILE),
            *record.verdicts,
        ),
        particles=tuple(dataclasses.replace(one, lens=HOSTILE, criterion=HOSTILE) for one in record.particles[:3]),
        target_prob={HOSTILE: record.target_prob["logit"]},
        effects=tuple(dataclasses.replace(one, site=HOSTILE) for one in record.effects),
        agreements=tuple(
            dataclasses.replace(
                one, one=f"{HOSTILE} {number}", other=HOSTILE, family=HOSTILE, units=HOSTILE, note=HOSTILE
            )
            for number, one in enumerate(record.agreements[:4])
        ),
        controls=tuple(
            dataclasses.replace(one, name=HOSTILE, measured=HOSTILE, expected=HOSTILE, unit=HOSTILE, sentence=HOSTILE)
            for one in record.controls
        ),
        doses=tuple(dataclasses.replace(one, site=HOSTILE) for one in record.doses),
        variance=(VarianceShares(of=HOSTILE, shares={HOSTILE: 1.0}, levels={HOSTILE: 3}, note=HOSTILE),),
        prompts_needed=(PromptsNeeded(of=HOSTILE, n_prompts=None, measured={}, note=HOSTILE),),
        lenses=tuple(dataclasses.replace(one, lens=HOSTILE) for one in record.lenses),
        gradient_fidelity={HOSTILE: 0.5},
        provenance={**record.provenance, "command": [HOSTILE], "platform": HOSTILE},
        spec={HOSTILE: HOSTILE},
    )


EVIDENCE_RECORDS = {
    "rich": rich_evidence,
    "quick": quick_evidence,
    "bare": bare_evidence,
    "hostile": hostile_evidence,
}
"""What makes each, by name; `large_evidence` is apart, as it takes its time."""
