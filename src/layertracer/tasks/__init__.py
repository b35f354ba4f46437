"""Prompts: built-in tasks, loaders for files, few-shot prompts, and their tokens. No torch."""

from layertracer.tasks._builtin import builtin_pairs, list_tasks
from layertracer.tasks._confined import CallFailedError, ConfinedCall
from layertracer.tasks._deadline import TookTooLong, within
from layertracer.tasks._load import default_limit, load_task
from layertracer.tasks._records import task_from_records
from layertracer.tasks._task import Task, TaskInfo
from layertracer.tasks._tokens.encode import EncodedTask, encode_samples
from layertracer.tasks._tokens.known_words import fit_task
from layertracer.tasks._tokens.show import show_tokens
from layertracer.tasks._tokens.tokenizer import Tokenizer

__all__ = [
    "CallFailedError",
    "ConfinedCall",
    "EncodedTask",
    "Task",
    "TaskInfo",
    "Tokenizer",
    "TookTooLong",
    "builtin_pairs",
    "default_limit",
    "encode_samples",
    "fit_task",
    "list_tasks",
    "load_task",
    "show_tokens",
    "task_from_records",
    "within",
]
