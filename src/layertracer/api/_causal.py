"""Causal tracing asked for, and what came of it: a record that saves itself and writes its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np

from layertracer.api._asked import ModelLike, ProgressLike, TaskLike, prompts_for
from layertracer.api._claimed import claimed_folder
from layertracer.api._progress import telling_progress
from layertracer.api._taken import take_flag, take_model, take_path
from layertracer.evidence import CausalRecord, find_peak, read_causal, role_of, same_causal, save_causal
from layertracer.runs import CAUSAL

if TYPE_CHECKING:
    import pandas as pd

    from layertracer.tracing import TracedModel
    from layertracer.validation import CausalSettings

    Frame = pd.DataFrame
else:  # under test, annotations are looked up when a function is called, and torch is not imported before
    CausalSettings = Frame = TracedModel = Any


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CausalTrace(CausalRecord):
    """What is restored, or disrupted, by putting the values of one run into another, layer by layer and token by token.

    See `CausalRecord` for everything in it. In short: `clean_prob`, `corrupted_prob`, `restored_prob` [prompt, layer,
    position], `indirect_effect`, `total_effect`, `recovery`, `logit_difference` (where samples have a contrast answer),
    `by_role` (means with intervals), `subject_spans`, and `excluded`: the samples that could not be used, and why.
    """

    @classmethod
    def from_record(cls, record: CausalRecord) -> CausalTrace:
        """The same trace, with `save`, `report` and `to_pandas`."""
        return cls(**{field.name: getattr(record, field.name) for field in dataclasses.fields(CausalRecord)})

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Save the causal trace as a folder, whole or not at all.

        Args:
            path: The folder to make.
            overwrite: Whether a causal trace that lies there is replaced.

        Returns:
            The folder.

        Raises:
            RunError: If something lies at `path` that may not be replaced, or the disk refuses.
        """
        return save_causal(self, take_path("path", path), overwrite=take_flag("overwrite", overwrite))

    def report(self, path: str | Path) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Args:
            path: The file to write; one that is there is replaced.

        Returns:
            The file.

        Raises:
            UsageError: If `path` is a folder, or no path.
        """
        from layertracer.reports import write_causal_report

        return write_causal_report(self, take_path("path", path))

    def to_pandas(self) -> Frame:
        """A table, one row a cell that was patched: prompt, layer, position, its role and token, and its effects."""
        import pandas as pd

        prompts, layers, positions = np.nonzero(np.isfinite(self.restored_prob))
        spans, lengths, texts = self.subject_spans.tolist(), self.lengths.tolist(), self.token_texts
        cells = list(zip(prompts.tolist(), positions.tolist(), strict=True))
        columns: dict[str, Any] = {"prompt": prompts, "layer": layers, "position": positions}
        columns["role"] = [role_of(at, tuple(spans[prompt]), lengths[prompt]) for prompt, at in cells]
        columns["token"] = [texts[prompt][at] if texts and texts[prompt] else None for prompt, at in cells]
        measured = {
            "restored_prob": self.restored_prob,
            "indirect_effect": self.indirect_effect,
            "recovery": self.recovery,
        }
        if self.logit_difference is not None:
            measured["restored_logit_difference"] = self.logit_difference.restored
        columns |= {name: values[prompts, layers, positions] for name, values in measured.items()}
        return pd.DataFrame(columns)

    def __eq__(self, other: object) -> bool:
        """Whether both hold the same causal trace: arrays element by element, NaN equal to NaN."""
        return same_causal(self, other) if isinstance(other, CausalRecord) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what is equal by its arrays has no hash

    def __repr__(self) -> str:
        """The answer in lines."""
        n, n_used = len(self.lengths), len(self.lengths) - len(self.excluded)
        corrupted = f"{self.corrupt}, {self.n_draws} draws" if self.corrupt == "noise" else self.corrupt
        head = f"Causal trace of {self.model['name']} at {self.site} ({corrupted}, direction {self.direction})"
        lines = [f"{head}, {n_used} of {n} prompts:"]
        for roles in (("last",), tuple(role for role in self.by_role.roles if role != "last")):
            peak = find_peak(self.by_role, roles)
            if peak is not None:
                ends = "" if peak.interval is None else f" [{peak.interval.low:.3g}, {peak.interval.high:.3g}]"
                sure = "" if peak.is_clear else f"; {len(peak.contenders)} other cells cannot be told from it"
                where = "last token" if peak.role == "last" else peak.role.replace("_", " ")
                lines.append(f"  {where}: largest indirect effect {peak.mean:.3g}{ends} at layer {peak.layer}{sure}")
        return "\n".join(lines)


def causal_trace(  # noqa: PLR0913 - what users call takes its settings by name
    model: ModelLike,
    samples: TaskLike,
    *,
    corrupt: str = "noise",
    site: str = "block_output",
    window: SupportsIndex = 1,
    draws: SupportsIndex = 10,
    noise_scale: float = 3.0,
    direction: str = "denoise",
    min_total_effect: float = 0.01,
    seed: SupportsIndex = 0,
    audit: float = 0.1,
    memory: str | int | None = None,
    chat: bool = False,
    system: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressLike = None,
    command: Sequence[str] | None = None,
) -> CausalTrace:
    """Where in the model, and at which token, lies what it needs to answer: activation patching (causal tracing).

    The prompt is run clean and corrupted; then, for every layer and every position from the first corrupted one on, the
    corrupted run once more with the clean values put back there, and what that restores is measured.

    Args:
        model: From `load_model` or `wrap_model`; or what those take.
        samples: Samples with subjects (noise) or contrasts (swap), a task, or what `load_task` takes: known facts as
            ROME writes them, contrast pairs, relations. With swap, a sample without a contrast borrows the subject of
            another fact of its relation with as many tokens.
        corrupt: "noise": Gaussian noise on the subject's token embeddings (Meng et al. 2022); "swap": the contrast
            prompt of equal length is run instead (the practice that Zhang & Nanda 2024 recommend).
        site: "block_output", "mixer_output" or "mlp_output".
        window: How many layers are patched together: of w, layers i − ⌊w/2⌋ … i + ⌈w/2⌉ − 1, cut off at the ends.
        draws: With noise: how often it is drawn; means are over draws.
        noise_scale: With noise: its standard deviation, in those of the subjects' embeddings over the samples.
        direction: "denoise": clean values into the corrupted run; "noise": corrupted values into the clean run.
        min_total_effect: Prompts whose answer's probability corruption moves less than this are not patched.
        seed: Seed of noise, borrowed contrasts, resamples, and of what the audit draws.
        audit: Share of the arithmetic that is done again the plain way, one prompt and one hook at a time.
        memory: Memory that the passes may take, e.g. "4GiB"; None for most of what is free.
        chat: Whether prompts are put into the tokenizer's chat template.
        system: Text of a system's turn before them.
        template_arguments: What else the template is given.
        out: Folder in which the causal trace is saved; None for nowhere.
        overwrite: Whether a causal trace that lies in `out` is replaced.
        progress: True for a bar, or a function of one object with `done`, `total` and `stage`, called as it goes on.
        command: The command line, for the provenance.

    Returns:
        The causal trace; samples that cannot be used have no numbers in `restored_prob` and stand in `excluded`.

    Raises:
        UsageError: If a setting is out of range or of another kind.
        UnknownNameError: If there is no such site, corruption or direction.
        TaskError: If no sample can be used; the message counts the reasons.
        SiteError: If the model reads with an encoder, or no layer has the site.
        RunError: If `out` holds something that may not be replaced.
        KeyboardInterrupt: On Ctrl-C; its `record` has the prompts that were finished, and `out` too.
    """
    from layertracer.validation import CausalSettings as Settings

    asked: dict[str, Any] = {"corrupt": corrupt, "draws": draws, "noise_scale": noise_scale, "direction": direction}
    asked |= {"site": site, "window": window, "min_total_effect": min_total_effect, "seed": seed, "audit": audit}
    asked |= {"memory": memory, "chat": take_flag("chat", chat), "system": system}
    settings = Settings(**asked, template_arguments=template_arguments or {})
    taken = take_model(model)
    given = prompts_for(taken, samples, needs_answers=True)

    if out is None:
        return _run(taken, given, settings, progress, command)
    with claimed_folder(out, overwrite=overwrite, kind=CAUSAL) as folder:
        try:
            found = _run(taken, given, settings, progress, command)
        except KeyboardInterrupt as stop:
            kept = getattr(stop, "record", None)
            if kept is not None:
                kept.save(folder, overwrite=True)
                stop.add_note(f"What was finished lies in {folder}.")
            raise
        found.save(folder, overwrite=True)
    return found


def _run(
    model: TracedModel, samples: Any, settings: CausalSettings, progress: ProgressLike, command: Sequence[str] | None
) -> CausalTrace:
    from layertracer.validation import CausalTraceInterrupted, trace_causally

    try:
        with telling_progress(progress, f"Patching {model.name}", unit="prompt") as advance:
            found = trace_causally(model, samples, settings, on_progress=advance, command=command)
    except CausalTraceInterrupted as stop:
        stop.record = CausalTrace.from_record(stop.record)
        raise
    return CausalTrace.from_record(found)


def load_causal(path: str | Path) -> CausalTrace:
    """A causal trace out of a folder; needs no torch.

    Args:
        path: The folder, or the file `causal.json` in it.

    Raises:
        RunError: If there is none at `path`.
        DamagedRunError: If a file is missing, cut short or altered, or holds what cannot be; the message names it.
        RunFormatError: If it was written by a newer version of LayerTracer.
    """
    return CausalTrace.from_record(read_causal(take_path("path", path)))
