"""Design advice made by hand: with every field in use, and at several extremes. No model is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layertracer._types import Interval
from layertracer._types.substitutes import MeanMixer, Substitute, Window
from layertracer.advice import (
    Accuracy,
    AdviceRecord,
    Baseline,
    Divisions,
    EarlyExit,
    Evaluations,
    Gates,
    Judgement,
    Pairs,
    Placement,
    PublishedMatch,
    Ratio,
    Region,
    Singles,
    Switching,
)

TASKS = ("antonym", "recall")
N_RANDOM = 60
SINKS = Window(16, sinks=4)


class _Maker:
    """Numbers that look like those of a model of `n_layers`, from a seed."""

    def __init__(self, n_layers: int, placeable: Sequence[int], tasks: Sequence[str], *, has_text: bool) -> None:
        self.rng = np.random.default_rng(n_layers)
        self.n_layers, self.placeable, self.tasks, self.has_text = n_layers, tuple(placeable), tuple(tasks), has_text
        self.worth = np.sort(self.rng.gamma(1.0, 0.3, len(placeable)))[::-1].copy()
        self.rng.shuffle(self.worth)

    def cost(self, kept: Sequence[int]) -> float:
        """A KL that falls with the worth of what is kept."""
        lost = [w for layer, w in zip(self.placeable, self.worth, strict=True) if layer not in set(kept)]
        return float(0.1 * np.sum(lost) + 0.02 * np.square(lost).sum())

    def best(self, n_kept: int) -> tuple[int, ...]:
        """The layers that are worth most."""
        order = np.argsort(-self.worth, kind="stable")[:n_kept]
        return tuple(sorted(self.placeable[i] for i in order))

    def judgement(self, kept: Sequence[int]) -> Judgement:
        """What a placement costs."""
        kl = self.cost(kept)
        return Judgement(
            kept=tuple(kept),
            kl_nats=kl if self.has_text else float("nan"),
            kl_interval=Interval(low=0.9 * kl, high=1.12 * kl) if self.has_text else None,
            nll_change=0.8 * kl - 0.01 if self.has_text else float("nan"),
            nll_interval=Interval(low=0.7 * kl - 0.02, high=0.95 * kl) if self.has_text else None,
            accuracy={task: self.accuracy(kl, number) for number, task in enumerate(self.tasks)},
            n_rows=24 if self.has_text else 0,
            n_positions=24 * 160 if self.has_text else 0,
        )

    def accuracy(self, kl: float, number: int) -> Accuracy:
        """What a task loses; the second one has too few prompts for an interval of its KL."""
        share = max(0.0, 0.94 - 0.3 * kl - 0.05 * number)
        return Accuracy(
            share=share,
            interval=Interval(low=max(0.0, share - 0.09), high=min(1.0, share + 0.07)),
            full_share=0.96,
            n_prompts=48,
            kl_nats=0.4 * kl,
            kl_interval=None if number else Interval(low=0.3 * kl, high=0.5 * kl),
        )

    def baseline(self, name: str, placements: Sequence[Sequence[int]], **more: Any) -> Baseline:
        """Placements with what they cost."""
        judged = [self.judgement(kept) for kept in placements]
        return Baseline(
            name=name,
            placements=tuple(tuple(kept) for kept in placements),
            objective=np.array([one.objective for one in judged], dtype=np.float64),
            kl_nats=np.array([one.kl_nats for one in judged], dtype=np.float64),
            **{"percentile": None, "note": ""} | more,
        )

    def draw(self, n_kept: int) -> tuple[int, ...]:
        """A random placement."""
        return tuple(sorted(self.rng.choice(self.placeable, n_kept, replace=False).tolist()))


def make_advice(
    n_layers: int = 8,
    keep: Sequence[int] = (2, 3, 4),
    *,
    placeable: Sequence[int] | None = None,
    tasks: Sequence[str] = TASKS,
    has_text: bool = True,
    substitute: Substitute = SINKS,
    name: str = "mini/attention",
    mixers: Sequence[str] | None = None,
    n_random: int = N_RANDOM,
    **changes: Any,
) -> AdviceRecord:
    """Advice on a model with everything that advice can have.

    Args:
        n_layers: Layers of the model.
        keep: Numbers of layers kept.
        placeable: Layers that can be substituted; None for all.
        tasks: Names of tasks.
        has_text: Whether there was text to judge on.
        substitute: What stands in the layers that are not kept.
        name: Name of the model.
        mixers: Kinds of its mixers.
        n_random: Random placements of each size; 0 for none.
        **changes: Other fields of the record.
    """
    placeable = tuple(range(n_layers)) if placeable is None else tuple(placeable)
    maker = _Maker(n_layers, placeable, tasks, has_text=has_text)
    baselines = {k: _baselines(maker, k, n_random) for k in keep}
    placements = {k: _placement(maker, k, baselines[k], substitute, name) for k in keep}
    fields: dict[str, Any] = {
        "model": {
            "name": name,
            "n_layers": n_layers,
            "mixers": list(mixers or ["attention"] * n_layers),
            "fingerprint": "v2-" + "0123456789abcdef" * 4,
            "class_name": "TinyForCausalLM",
            "n_parameters": 1_234_567,
            "dtype": "float32",
            "device": "cpu",
        },
        "substitute": substitute,
        "search": "greedy",
        "seed": 7,
        "singles": _singles(maker),
        "pairs": _pairs(maker),
        "placements": placements,
        "baselines": baselines,
        "published": {k: _published(placements[k]) for k in keep},
        "ratio": _ratio(maker),
        "divisions": _divisions(maker),
        "gates": _gates(maker),
        "snippets": {k: _snippet(n_layers, placements[k].layers) for k in keep},
        "snippet_reason": "",
        "evaluations": _evaluations(maker),
        "provenance": {
            "layertracer": "0.1.0",
            "packages": {"numpy": "2.0.0"},
            "python": "3.12.0",
            "platform": "Linux-6.1-x86_64",
            "n_cpus": 2,
            "git_commit": None,
            "git_dirty": None,
            "command": ["layertracer", "design", name, "--keep", ",".join(map(str, keep))],
            "started_at": "2026-01-02T03:04:05+00:00",
            "finished_at": "2026-01-02T03:24:05+00:00",
        },
        "spec": {
            "tasks": list(tasks),
            "text": ".../corpus.txt" if has_text else None,
            "keep": list(keep),
            "substitute": substitute.to_dict(),
            "search": "greedy",
            "n_random": n_random,
            "pairs": True,
            "seed": 7,
        },
        "notes": ("Layers 0 and 7 agree with chance in one direction of two.",),
    }
    return AdviceRecord(**fields | changes)


def _baselines(maker: _Maker, n_kept: int, n_random: int) -> Mapping[str, Baseline]:
    placeable = maker.placeable
    spaced = tuple(placeable[i] for i in np.linspace(0, len(placeable) - 1, n_kept).round().astype(int))
    middle = max(0, len(placeable) // 2 - n_kept // 2)
    drawn = [maker.draw(n_kept) for _ in range(n_random)]
    percentile = 41.7 if n_random else None
    return {
        "uniform": maker.baseline("uniform", [spaced], percentile=percentile),
        "random": maker.baseline("random", drawn),
        "most_vulnerable": maker.baseline("most_vulnerable", [placeable[-n_kept:]], percentile=percentile),
        "around_particle": maker.baseline(
            "around_particle",
            [placeable[middle : middle + n_kept]],
            percentile=percentile,
            note="The task particle of antonym, layer 4.",
        ),
        "published": maker.baseline("published", [], note="No list of this model is known."),
    }


def _placement(
    maker: _Maker, n_kept: int, baselines: Mapping[str, Baseline], substitute: Substitute, name: str
) -> Placement:
    kept, random = maker.best(n_kept), baselines["random"].objective
    judgement = maker.judgement(kept)
    below = (
        float((random < judgement.objective).mean() + 0.5 * (random == judgement.objective).mean())
        if len(random)
        else 0
    )
    return Placement(
        layers=kept,
        substitute=substitute,
        n_layers=maker.n_layers,
        placeable=maker.placeable,
        model=name,
        chosen_by="greedy",
        judgement=judgement,
        percentile=100 * below if len(random) else None,
        percentile_interval=Interval(low=0.0, high=6.0) if len(random) else None,
        n_random=len(random),
        verdict="better" if len(random) and n_kept != 3 else "undecided",
        objective=judgement.objective,
        compared_kl_nats=judgement.kl_nats,
        config=_snippet(maker.n_layers, kept),
        linear_config={"attn": {"layers": list(kept), "num_heads": 4}},
        below_best_nats=float(random.min()) - judgement.objective if len(random) else None,
        below_best_interval=Interval(low=-0.002, high=0.03) if len(random) else None,
        kv_cache_share=n_kept / maker.n_layers,
        notes=("Greedy from both ends chose the same layers.",) if n_kept != 3 else (),
    )


def _singles(maker: _Maker) -> Singles:
    kinds = [*(["text"] if maker.has_text else []), *maker.tasks]
    scale = {kind: 1.0 / (1 + number) for number, kind in enumerate(kinds)}
    noise = maker.rng.uniform(0.8, 1.2, len(maker.placeable))
    joint = maker.worth / maker.worth.max() + noise / noise.max() * 0.8
    return Singles(
        layers=maker.placeable,
        removed_kl_nats={kind: maker.worth * scale[kind] * 0.1 for kind in kinds},
        restored_kl_nats={kind: (maker.worth.sum() - maker.worth * noise) * scale[kind] * 0.1 for kind in kinds},
        removed_accuracy={task: np.clip(0.96 - 0.2 * maker.worth, 0, 1) for task in maker.tasks},
        restored_accuracy={task: np.clip(0.1 + 0.2 * maker.worth, 0, 1) for task in maker.tasks},
        all_kl_nats={kind: float(maker.worth.sum() * scale[kind] * 0.1) for kind in kinds},
        joint_js=np.minimum(joint, 2.0),
        rank_agreement=0.81,
    )


def _pairs(maker: _Maker) -> Pairs:
    alone = 0.1 * maker.worth
    joint = np.add.outer(alone, alone) * 1.05
    np.fill_diagonal(joint, alone)
    interaction = np.add.outer(alone, alone) * 0.05
    np.fill_diagonal(interaction, 0.0)
    return Pairs(layers=maker.placeable, kl_nats=joint, interaction=interaction)


def _published(placement: Placement) -> tuple[PublishedMatch, ...]:
    last = placement.placeable[-len(placement.layers) :]
    return (
        PublishedMatch(
            selector="KL-guided",
            source="arXiv 2512.20569, table 3",
            layers=last,
            overlap=len(set(last) & set(placement.layers)),
            expected=len(last) ** 2 / len(placement.placeable),
            p=0.31,
            p_spaced=0.42,
            p_holm=0.62,
        ),
    )


def _ratio(maker: _Maker) -> Ratio:
    n_kept = (
        tuple(range(len(maker.placeable) + 1))
        if len(maker.placeable) < 12
        else (0, 2, 4, 8, 12, 20, len(maker.placeable))
    )
    return Ratio(
        n_kept=n_kept,
        judgements=tuple(maker.judgement(maker.best(k)) for k in n_kept),
        knee=n_kept[3],
        knee_interval=Interval(low=float(n_kept[2]), high=float(n_kept[-1])),
        note="Each number has the greedy choice of that size.",
    )


def _divisions(maker: _Maker) -> Divisions:
    n = maker.n_layers
    first, second = n // 3, 2 * n // 3
    depth = np.linspace(0, 1, n)
    gain = np.full(n, np.nan)
    gain[1:] = np.diff(depth**3)
    return Divisions(
        regions=(
            Region(name="reads the prompt", first=0, last=first - 1, first_interval=None, sets_apart=""),
            Region(
                name="forms the answer",
                first=first,
                last=second - 1,
                first_interval=Interval(low=float(first - 1), high=float(first + 1)),
                sets_apart="entropy of the readout falls by 3.1 bits",
            ),
            Region(
                name="settles",
                first=second,
                last=n - 1,
                first_interval=Interval(low=float(second), high=float(second)),
                sets_apart="KL to the final distribution falls by 2.0 nats",
            ),
        ),
        curves={
            "entropy": 11 - 9 * depth**2,
            "KL to the final distribution": 6 * (1 - depth),
            "gain of the target": gain,
        },
        units={"entropy": "bits", "KL to the final distribution": "nats", "gain of the target": "probability"},
        p=0.004,
        note="",
        cka=np.exp(-np.abs(np.subtract.outer(depth, depth)) * 2.0),
    )


def _gates(maker: _Maker) -> Gates:
    n, n_prompts = maker.n_layers, 12
    depth = np.arange(1, n + 1) / n
    agreement = depth**2
    before = np.abs(maker.rng.normal(0.3, 0.1, n_prompts))
    before[0] = np.nan
    return Gates(
        early_exit=EarlyExit(
            layers=tuple(range(n)),
            agreement=agreement,
            stays=0.9 * agreement,
            accuracy=0.9 * agreement,
            full_accuracy=0.92,
            compute_saved=1 - depth,
            thresholds=(0.5, 0.8, 0.95),
            exit_layer=np.array([0.5, 0.7, 0.9]) * (n - 1),
            threshold_agreement=np.array([0.82, 0.91, 0.99]),
            threshold_accuracy=np.array([0.8, 0.88, 0.92]),
            threshold_saved=np.array([0.4, 0.22, 0.06]),
            threshold_agreement_interval=np.array([[0.7, 0.9], [0.82, 0.97], [0.93, 1.0]]),
            threshold_net_saved=np.array([0.3, 0.1, -0.05]),
            threshold_net_saved_interval=np.array([[0.2, 0.4], [0.02, 0.18], [-0.1, 0.01]]),
            agreement_interval=np.stack([np.clip(agreement - 0.1, 0, 1), np.clip(agreement + 0.1, 0, 1)], axis=1),
        ),
        switching=Switching(
            before=before,
            after=before * 0.5,
            layers_before=np.full(n_prompts, n // 2, dtype=np.int64),
            layers_after=np.full(n_prompts, n - n // 2, dtype=np.int64),
            random=before * 0.8,
            random_after=before * 0.7,
            prompts=tuple(range(n_prompts)),
            note="Below the particle costs more than as many layers anywhere; above it, less.",
        ),
        is_worth_it=True,
        note="At a confidence of 0.8, 22 % of the layers' arithmetic is saved; 91 % of the answers stay.",
    )


def _evaluations(maker: _Maker) -> Evaluations:
    kinds = [*(["text"] if maker.has_text else []), *maker.tasks]
    return Evaluations(
        n_search_rows=dict.fromkeys(kinds, 24),
        n_held_out_rows=dict.fromkeys(kinds, 48),
        n_compared_rows=dict.fromkeys(kinds, 24),
        n_evaluations=1289,
        audit_cells=130,
        audit_worst_nats=3.1e-7,
        cpu_s=734.2,
        notes=("Text: corpus.txt, 48 passages of 160 tokens.",),
    )


def _snippet(n_layers: int, kept: Sequence[int]) -> Mapping[str, Any]:
    kinds = ["full_attention" if layer in kept else "sliding_attention" for layer in range(n_layers)]
    return {"layer_types": kinds, "sliding_window": 16, "use_sliding_window": True}


def rich_advice() -> AdviceRecord:
    """Eight layers, three numbers to keep, everything measured."""
    return make_advice()


def large_advice() -> AdviceRecord:
    """Thirty layers, one number to keep, no snippet, no pairs."""
    return make_advice(
        30,
        (8,),
        name="smollm2",
        n_random=200,
        pairs=None,
        snippets={8: None},
        snippet_reason="A window with sinks stands in no configuration of this family.",
        notes=(),
    )


def bare_advice() -> AdviceRecord:
    """A hybrid, tasks alone, nothing optional measured, nothing random to compare with."""
    record = make_advice(
        8,
        (1,),
        placeable=(1, 3, 5),
        tasks=("recall",),
        has_text=False,
        substitute=MeanMixer(),
        name="mini/hybrid",
        mixers=["mamba2", "attention"] * 3 + ["mamba2", "mamba2"],
        n_random=0,
        pairs=None,
        published={},
        ratio=None,
        divisions=None,
        gates=None,
        snippets={1: None},
        snippet_reason="No configuration has the mean of a mixer.",
        notes=(),
    )
    singles = dataclasses.replace(record.singles, joint_js=None, rank_agreement=float("nan"))
    evaluations = dataclasses.replace(record.evaluations, audit_cells=0, audit_worst_nats=float("nan"), notes=())
    return dataclasses.replace(record, singles=singles, evaluations=evaluations)


HOSTILE = '</script><img src=x onerror=alert(1)>\x1b[31m\u202e & "quoted" {{ 7 * 7 }} `rm`'
"""A text that wants to be markup, a command of the terminal, a template."""


def hostile_advice() -> AdviceRecord:
    """Every text that a file or a model brings is hostile."""
    record = make_advice(8, (2,), tasks=(HOSTILE, "recall"), name=HOSTILE, notes=(HOSTILE,))
    placement = record.placements[2]
    match = dataclasses.replace(record.published[2][0], selector=HOSTILE, source=HOSTILE)
    assert record.ratio is not None
    assert record.divisions is not None
    assert record.gates is not None
    assert record.gates.switching is not None
    regions = tuple(dataclasses.replace(one, name=HOSTILE, sets_apart=HOSTILE) for one in record.divisions.regions)
    curves = {HOSTILE: next(iter(record.divisions.curves.values()))}
    return dataclasses.replace(
        record,
        model={**record.model, "mixers": [HOSTILE] * 8, "class_name": HOSTILE},
        placements={2: dataclasses.replace(placement, notes=(HOSTILE,), chosen_by=HOSTILE)},
        published={2: (match,)},
        ratio=dataclasses.replace(record.ratio, note=HOSTILE),
        divisions=dataclasses.replace(
            record.divisions, regions=regions, curves=curves, units={HOSTILE: HOSTILE}, note=HOSTILE
        ),
        gates=dataclasses.replace(
            record.gates, note=HOSTILE, switching=dataclasses.replace(record.gates.switching, note=HOSTILE)
        ),
        snippets={2: {HOSTILE: [HOSTILE]}},
        evaluations=dataclasses.replace(record.evaluations, notes=(HOSTILE,)),
        provenance={**record.provenance, "command": [HOSTILE], "platform": HOSTILE},
        spec={**record.spec, HOSTILE: HOSTILE},
    )


ADVICE_RECORDS = {"rich": rich_advice, "large": large_advice, "bare": bare_advice, "hostile": hostile_advice}
"""What makes each, by name."""
