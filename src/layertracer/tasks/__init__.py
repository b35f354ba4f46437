"""Prompts: built-in tasks, loaders for files, few-shot prompts, and their tokens. No torch."""

from layertracer.tasks._builtin import PAIR_NAMES, RECALL, builtin_pairs, list_tasks
from layertracer.tasks._causal_encoding import encode_causally
from layertracer.tasks._confined import CallFailedError, ConfinedCall
from layertracer.tasks._crossed import CrossedTask, cross_task
from layertracer.tasks._deadline import TookTooLong, within
from layertracer.tasks._exchanged_answers import with_arbitrary_labels, with_shuffled_demonstrations
from layertracer.tasks._files.beginning import Beginning, read_beginning
from layertracer.tasks._files.content import expand_home, is_file
from layertracer.tasks._lent_contrasts import lend_contrasts, pool_of
from layertracer.tasks._load import default_limit, load_task
from layertracer.tasks._make import limit_task
from layertracer.tasks._recall import recall_words
from layertracer.tasks._recall_contrasts import with_other_keys
from layertracer.tasks._records import task_from_records
from layertracer.tasks._subjects import with_subjects
from layertracer.tasks._task import Task, TaskInfo
from layertracer.tasks._template import WORD_PAIR_TEMPLATES
from layertracer.tasks._tokens.contrasts import read_ids
from layertracer.tasks._tokens.encode import EncodedTask, encode_samples
from layertracer.tasks._tokens.known_words import fit_task
from layertracer.tasks._tokens.passages import Passages, cut_passages
from layertracer.tasks._tokens.show import show_tokens
from layertracer.tasks._tokens.tokenizer import Tokenizer

__all__ = [
    "PAIR_NAMES",
    "RECALL",
    "WORD_PAIR_TEMPLATES",
    "Beginning",
    "CallFailedError",
    "ConfinedCall",
    "CrossedTask",
    "EncodedTask",
    "Passages",
    "Task",
    "TaskInfo",
    "Tokenizer",
    "TookTooLong",
    "builtin_pairs",
    "cross_task",
    "cut_passages",
    "default_limit",
    "encode_causally",
    "encode_samples",
    "expand_home",
    "fit_task",
    "is_file",
    "lend_contrasts",
    "limit_task",
    "list_tasks",
    "load_task",
    "pool_of",
    "read_beginning",
    "read_ids",
    "recall_words",
    "show_tokens",
    "task_from_records",
    "with_arbitrary_labels",
    "with_other_keys",
    "with_shuffled_demonstrations",
    "with_subjects",
    "within",
]
