"""Small trained models of every mixer: their corpus, their training, their checkpoints.

A program beside LayerTracer, not a part of it: `python -m training` from the root of the repository makes
`miniatures/` and the four models inside the package; `study/` measures them. It needs PyTorch 2.9 (for its Muon) and
the Transformers of constraints.txt, some functions of which it replaces while it trains; LayerTracer itself needs
neither.
"""

from training.build import build_untrained
from training.corpus import Batch, draw_batch, draw_document
from training.data_card import write_data_card
from training.evaluation import Score, share_solved
from training.families import EMBEDDED, FAMILIES, SCALED, Family, Miniature, list_miniatures
from training.loop import Recipe, Trained, train
from training.make import FAST, FULL, ask_miniatures, find_miniature, locate_miniatures, make_miniatures
from training.questions import Question, Questionnaire, write_questionnaires, write_samples
from training.vocabulary import make_tokenizer

__all__ = [
    "EMBEDDED",
    "FAMILIES",
    "FAST",
    "FULL",
    "SCALED",
    "Batch",
    "Family",
    "Miniature",
    "Question",
    "Questionnaire",
    "Recipe",
    "Score",
    "Trained",
    "ask_miniatures",
    "build_untrained",
    "draw_batch",
    "draw_document",
    "find_miniature",
    "list_miniatures",
    "locate_miniatures",
    "make_miniatures",
    "make_tokenizer",
    "share_solved",
    "train",
    "write_data_card",
    "write_questionnaires",
    "write_samples",
]
