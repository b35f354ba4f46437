"""Small trained models of every mixer: their corpus, their training, their checkpoints."""

from layertracer.miniatures._build import build_untrained
from layertracer.miniatures._corpus import Batch, draw_batch, draw_document
from layertracer.miniatures._data_card import write_data_card
from layertracer.miniatures._evaluation import Score, share_solved
from layertracer.miniatures._families import EMBEDDED, FAMILIES, SCALED, Family, Miniature, list_miniatures
from layertracer.miniatures._make import FAST, FULL, ask_miniatures, find_miniature, locate_miniatures, make_miniatures
from layertracer.miniatures._questions import Question, Questionnaire, write_questionnaires, write_samples
from layertracer.miniatures._training import Recipe, Trained, train
from layertracer.miniatures._vocabulary import make_tokenizer

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
