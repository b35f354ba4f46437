"""What trained miniatures are asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training import write_questionnaires, write_samples
from training.evaluation import evaluate, share_solved
from training.questions import Question, Questionnaire
from training.relations import RELATIONS, known_pairs
from training.vocabulary import token_ids


class Echo(nn.Module):
    """A language model that repeats the last token."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input_ids: Tensor, *, use_cache: bool) -> nn.Module:
        """One-hot logits of the token that was read."""
        assert not use_cache
        self.logits = nn.functional.one_hot(input_ids, len(token_ids())).float() * self.scale
        return self


@pytest.fixture(scope="module")
def questionnaires() -> tuple[Questionnaire, ...]:
    """Ten questions of each kind."""
    return write_questionnaires(n=10)


def test_equal_seeds_ask_the_same(questionnaires: tuple[Questionnaire, ...]) -> None:
    """Equal arguments give equal questions, another seed gives others."""
    assert write_questionnaires(n=10) == questionnaires
    assert write_questionnaires(n=10, seed=1) != questionnaires


def test_every_relation_is_asked(questionnaires: tuple[Questionnaire, ...]) -> None:
    """Each relation is asked in every degree of novelty; `next` holds no pairs out."""
    kinds = {(asked.task, asked.novelty) for asked in questionnaires}
    expected = {(relation, novelty) for relation in RELATIONS for novelty in ("prompts", "pairs", "templates", "words")}
    assert expected - kinds == {("next", "pairs")}


def test_questions_are_known_words(questionnaires: tuple[Questionnaire, ...]) -> None:
    """Prompts and answers are words of the vocabulary."""
    words = {
        word
        for asked in questionnaires
        for question in asked.questions
        for word in (*question.words, *question.right, *question.wrong)
    }
    assert words <= set(token_ids())


def test_demonstrations_do_not_tell(questionnaires: tuple[Questionnaire, ...]) -> None:
    """No demonstration of a known relation holds the query or its answer."""
    for asked in questionnaires:
        if (asked.task, asked.novelty) in {("antonym", "prompts"), ("synonym", "pairs")}:
            for question in asked.questions:
                query = question.words[-2]
                assert question.words[-1] == "->"
                assert question.words.count(query) == 1
                assert question.right[0] not in question.words


def test_held_out_pairs_are_asked(questionnaires: tuple[Questionnaire, ...]) -> None:
    """Questions about held-out pairs ask held-out pairs."""
    held_out = {(line[0][0], line[1]) for line in known_pairs("antonym").held_out}
    (asked,) = (one for one in questionnaires if (one.task, one.novelty) == ("antonym", "pairs"))
    assert {(question.words[-2], question.right[0]) for question in asked.questions} <= held_out


def test_samples_are_questions() -> None:
    """Samples for a trace are prompts up to the answer, as text."""
    samples = write_samples("recall", n=5)
    assert len(samples) == 5
    for sample in samples:
        assert sample.prompt is not None
        assert sample.answer is not None
        assert "<s>" not in sample.prompt
        assert sample.answer.strip() in sample.prompt.split()


def test_evaluation_counts() -> None:
    """A right answer is the most probable word; where wrong words are given, the right ones must outweigh them."""
    cat, dog = Question(words=("<s>", "cats"), right=("cats",)), Question(words=("<s>", "cats"), right=("dogs",))
    weighed = Question(words=("<s>", "big", "cats"), right=("dogs", "cats"), wrong=("big",))
    asked = Questionnaire(task="copy", novelty="prompts", questions=(cat, dog, weighed))
    (score,) = evaluate(Echo(), [asked])
    assert (score.n, score.n_right) == (3, 2)
    assert share_solved([score], "prompts") == pytest.approx(2 / 3)
