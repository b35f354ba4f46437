"""Traces for people: a page, a terminal, a paper. Input: `runs.TraceRecord`, or several compared; no torch."""

from layertracer.reports._advice.document import advice_json, write_advice_csv
from layertracer.reports._advice.page import render_advice_page, write_advice_report
from layertracer.reports._advice.text import render_advice_text
from layertracer.reports._advice.words import next_steps
from layertracer.reports._causal.document import causal_json, write_causal_csv
from layertracer.reports._causal.page import render_causal_page, write_causal_report
from layertracer.reports._causal.text import render_causal_text
from layertracer.reports._comparison.page import render_comparison_page, write_comparison_report
from layertracer.reports._comparison.text import render_comparison_text
from layertracer.reports._evidence.document import evidence_json, write_evidence_csv
from layertracer.reports._evidence.page import render_evidence_page, write_evidence_report
from layertracer.reports._evidence.text import render_evidence_text
from layertracer.reports._evidence.words import next_evidence_steps
from layertracer.reports._json import summarize
from layertracer.reports._page import render_page, write_report
from layertracer.reports._paper import write_figures
from layertracer.reports._sections.protocol import Subject, register_section
from layertracer.reports._terminal import render_text
from layertracer.reports._values.parts import Table
from layertracer.reports._values.sentence import summary_sentence

__all__ = [
    "Subject",
    "Table",
    "advice_json",
    "causal_json",
    "evidence_json",
    "next_evidence_steps",
    "next_steps",
    "register_section",
    "render_advice_page",
    "render_advice_text",
    "render_causal_page",
    "render_causal_text",
    "render_comparison_page",
    "render_comparison_text",
    "render_evidence_page",
    "render_evidence_text",
    "render_page",
    "render_text",
    "summarize",
    "summary_sentence",
    "write_advice_csv",
    "write_advice_report",
    "write_causal_csv",
    "write_causal_report",
    "write_comparison_report",
    "write_evidence_csv",
    "write_evidence_report",
    "write_figures",
    "write_report",
]
