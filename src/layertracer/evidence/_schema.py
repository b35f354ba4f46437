"""The format of evidence folders as data: their files, and the columns of their tables."""

from __future__ import annotations

from layertracer.evidence._causal_tables import CAUSAL_TABLES
from layertracer.evidence._records import Agreement, Probing
from layertracer.runs import Column, Table, flat_columns, hints_of

EVIDENCE_FORMAT, CAUSAL_FORMAT = "layertracer-evidence", "layertracer-causal"
"""What `evidence.json` and `causal.json` say they are."""

EVIDENCE_FORMAT_VERSION = CAUSAL_FORMAT_VERSION = 1
"""The versions that are written. Every version up to these can be read."""

EVIDENCE_KIND, CAUSAL_KIND = "evidence", "causal trace"

_PROMPT = Column(name="prompt", type="int32", meaning="index of the prompt, or of the piece of running text")
_LAYER = Column(name="layer", type="int32", meaning="index of the decoder layer, from 0")
_ROW = Column(name="layer", type="int32", meaning="index of the decoder layer; −1 for the embeddings")
_LENS = Column(name="lens", type="string", meaning="name of the lens")
_SITE = Column(name="site", type="string", meaning="the site")
_ROWS = Column(name="rows", type="string", meaning='"task" or "text"')


def _number(of: str) -> Column:
    return Column(name="number", type="int32", meaning=f"place in `{of}`, from 0")


JS = Table(
    file="js.parquet",
    rows="effect × prompt × layer",
    axes=(),
    columns=(
        Column(name="effect", type="int32", meaning="place in `effects`, from 0"),
        _SITE,
        _ROWS,
        _PROMPT,
        _LAYER,
        Column(
            name="js_bits",
            type="float64",
            unit="bits",
            meaning="JS divergence between the clean and the perturbed output, mean over draws; NaN at layers without "
            "the site",
        ),
    ),
)

IMPORTANCE = Table(
    file="importance.parquet",
    rows="measure × prompt × layer, those on the task first",
    axes=(),
    columns=(
        _ROWS,
        Column(name="measure", type="string", meaning="name of the measure; its unit stands in `importance`"),
        _PROMPT,
        _LAYER,
        Column(name="value", type="float32", meaning="the measure; NaN where a layer has none"),
    ),
)

TARGET_PROB = Table(
    file="target_prob.parquet",
    rows="lens × layer, the embeddings first",
    axes=(),
    columns=(
        _LENS,
        _ROW,
        Column(
            name="target_prob",
            type="float64",
            unit="probability",
            meaning="mean probability of the target",
        ),
    ),
)

LENSES = Table(
    file="lenses.parquet",
    rows="lens × layer, the embeddings first",
    axes=(),
    columns=(
        _number("lenses"),
        _LENS,
        _ROW,
        Column(name="kl_nats", type="float64", unit="nats", meaning="KL(final ‖ lens), mean over tokens"),
        Column(name="bias_nats", type="float64", unit="nats", meaning="KL of the mean distributions, final ‖ lens"),
        Column(
            name="top1", type="float64", unit="share", meaning="share of tokens at which both have the same top token"
        ),
    ),
)

PARTICLES = Table(
    file="particles.parquet",
    rows="reading × prompt",
    axes=(),
    columns=(
        _number("particles"),
        _LENS,
        Column(name="criterion", type="string", meaning="name of the criterion"),
        _PROMPT,
        Column(
            name="layer", type="int32", meaning="the particle of the prompt; null where there is none", nullable=True
        ),
    ),
)

DOSES = Table(
    file="doses.parquet",
    rows="dose-response × share masked × layer, then × what is done with dominant dimensions × layer",
    axes=(),
    columns=(
        _number("doses"),
        _SITE,
        Column(
            name="masked",
            type="string",
            meaning='"fraction": dimensions drawn at random; "without_dominant": the same, the dominant ones never '
            'among them; "only_dominant": these alone',
        ),
        Column(
            name="fraction",
            type="float64",
            unit="share",
            meaning="share of the dimensions masked; the reference where `masked` speaks of dominant ones",
        ),
        _LAYER,
        Column(name="js_bits", type="float64", unit="bits", meaning="mean JS divergence over prompts and draws"),
    ),
)

AGREEMENTS = Table(
    file="agreements.parquet",
    rows="comparison",
    axes=(),
    columns=tuple(
        flat_columns(Agreement, always=("one", "other", "family", "method", "n_units", "units", "note")),
    ),
)

PROBES = Table(
    file="probes.parquet",
    rows="probe",
    axes=(),
    columns=tuple(flat_columns(Probing, always=tuple(hints_of(Probing)))),
)

EVIDENCE_TABLES = (
    *(JS, IMPORTANCE, TARGET_PROB, LENSES, PARTICLES, AGREEMENTS, DOSES, PROBES),
    *CAUSAL_TABLES,
)
"""Every table of an evidence folder; the last three are those of a causal trace."""
