"""What plainly is a model, prompts, a criterion or a perturbation is taken; the rest has one clear error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import layertracer as lt
from layertracer._types import SITES, is_site_asked
from layertracer.api._taken import (
    describe,
    take_choice,
    take_flag,
    take_onset,
    take_path,
    take_perturbation,
    take_perturbations,
)
from layertracer.tasks import task_from_records
from layertracer.tracing import take_lenses

MASK = lt.Mask(draws=1, scheme="random")


@pytest.fixture(scope="module")
def model() -> lt.TracedModel:
    """A trained miniature with a tokenizer."""
    return lt.load_model("mini/attention")


@pytest.fixture(scope="module")
def samples() -> list[lt.Sample]:
    """Four prompts with answers, of equal length in tokens."""
    return list(lt.load_task("antonym", n_shot=3, limit=4))


@pytest.fixture(scope="module")
def ids(model: lt.TracedModel, samples: list[lt.Sample]) -> list[list[int]]:
    """Their tokens."""
    return [model.tokenizer(sample.prompt)["input_ids"] for sample in samples]


@pytest.fixture(scope="module")
def expected(model: lt.TracedModel, samples: list[lt.Sample]) -> lt.Trace:
    """The trace of the samples."""
    return lt.trace(model, samples, perturbation=MASK)


def assert_same(trace: lt.Trace, expected: lt.Trace, *, n: int = 4) -> None:
    """The first prompts of a trace, with its divergences within rounding of another batch."""
    assert [prompt.prompt_ids for prompt in trace.prompts] == [prompt.prompt_ids for prompt in expected.prompts[:n]]
    np.testing.assert_allclose(trace.js_bits, expected.js_bits[:n], atol=1e-6)


# ---------------------------------------------------------------- prompts


WITH_ANSWERS: dict[str, Callable[[list[tuple[str, str]]], Any]] = {
    "pairs": lambda pairs: pairs,
    "pairs as lists": lambda pairs: [list(pair) for pair in pairs],
    "a tuple of pairs": tuple,
    "a generator": lambda pairs: (lt.Sample(prompt=prompt, answer=answer) for prompt, answer in pairs),
    "dictionaries": lambda pairs: [{"prompt": prompt, "answer": answer} for prompt, answer in pairs],
    "records": lambda pairs: [{"prompt": one, "answer": other, "id": 3} for one, other in pairs],
    "columns": lambda pairs: {"prompt": [pair[0] for pair in pairs], "answer": [pair[1] for pair in pairs]},
    "a DataFrame": lambda pairs: pd.DataFrame(pairs, columns=["prompt", "answer"]),
    "a DataFrame of more": lambda pairs: pd.DataFrame(pairs, columns=["prompt", "answer"]).assign(id=3),
}


@pytest.mark.parametrize("make", WITH_ANSWERS.values(), ids=WITH_ANSWERS)
def test_prompts_with_answers_are_taken(
    make: Callable[[Any], Any], model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace
) -> None:
    """However prompt and answer stand together, the trace is that of the samples, its answers followed."""
    trace = lt.trace(model, make([(sample.prompt, sample.answer) for sample in samples]), perturbation=MASK)
    assert_same(trace, expected)
    np.testing.assert_allclose(trace.target_log_prob, expected.target_log_prob, atol=1e-5)


def test_a_dataset_is_taken(model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace) -> None:
    """A Dataset's rows are records; of several parts one must be chosen."""
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list([{"prompt": sample.prompt, "answer": sample.answer} for sample in samples])
    assert_same(lt.trace(model, data, perturbation=MASK), expected)
    with pytest.raises(lt.UsageError, match=r"several parts: 'train', 'test'\. Choose one"):
        lt.trace(model, datasets.DatasetDict(train=data, test=data))


def test_a_cell_that_is_no_text_is_named(model: lt.TracedModel) -> None:
    """A missing answer in a table is refused with its row."""
    table = pd.DataFrame({"prompt": ["hot ->", "big ->"], "answer": [" cold", None]}).astype(object)
    table.loc[1, "answer"] = float("nan")
    with pytest.raises(lt.UsageError, match=r"task\[1\]: answer must be text \(str\), got nan"):
        lt.trace(model, table)


def test_one_prompt_alone_is_taken(model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace) -> None:
    """One sample, one pair or one dictionary is a task of one prompt."""
    prompt, answer = samples[0].prompt, samples[0].answer
    for one in (samples[0], (prompt, answer), {"prompt": prompt, "answer": answer}):
        assert_same(lt.trace(model, one, perturbation=MASK), expected, n=1)


WITHOUT_ANSWERS: dict[str, Callable[[list[str]], Any]] = {
    "texts": lambda texts: texts,
    "a Series": pd.Series,
    "an array": np.array,
    "a column": lambda texts: {"prompt": texts},
    "dictionaries": lambda texts: [{"prompt": text} for text in texts],
}


@pytest.mark.parametrize("make", WITHOUT_ANSWERS.values(), ids=WITHOUT_ANSWERS)
def test_texts_are_taken_where_no_answer_is_followed(
    make: Callable[[Any], Any], model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace
) -> None:
    """Texts are prompts with target="model"; with an answer to follow, the error says what is missing."""
    given = make([sample.prompt for sample in samples])
    assert_same(lt.trace(model, given, target="model", perturbation=MASK), expected)
    assert lt.read_layers(model, given).log_probs.shape[:2] == (4, 8)
    with pytest.raises(lt.AnswerError, match=r"without an answer|has no answer") as caught:
        lt.trace(model, given)
    assert "target='model'" in str(caught.value)


IDS: dict[str, tuple[int, Callable[[list[list[int]]], Any]]] = {
    "one list": (1, lambda ids: ids[0]),
    "one tuple": (1, lambda ids: tuple(ids[0])),
    "one array": (1, lambda ids: np.array(ids[0])),
    "one tensor": (1, lambda ids: torch.tensor(ids[0])),
    "[1, n]": (1, lambda ids: torch.tensor(ids[:1])),
    "numbers of numpy": (1, lambda ids: [np.int64(token) for token in ids[0]]),
    "lists": (4, lambda ids: ids),
    "[b, n] tensor": (4, torch.tensor),
    "[b, n] array": (4, np.array),
    "tensors": (4, lambda ids: [torch.tensor(row) for row in ids]),
    "[1, n] tensors": (4, lambda ids: [torch.tensor([row]) for row in ids]),
    "input_ids": (4, lambda ids: {"input_ids": ids}),
    "encodings": (4, lambda ids: [{"input_ids": row, "attention_mask": [1] * len(row)} for row in ids]),
}


@pytest.mark.parametrize(("n", "make"), IDS.values(), ids=IDS)
def test_token_ids_are_taken(
    n: int, make: Callable[[Any], Any], model: lt.TracedModel, ids: list[list[int]], expected: lt.Trace
) -> None:
    """Token ids in any container are one prompt, or one a row."""
    assert_same(lt.trace(model, make(ids), target="model", perturbation=MASK), expected, n=n)


def test_ids_with_an_answers_id_are_taken(model: lt.TracedModel, ids: list[list[int]], expected: lt.Trace) -> None:
    """(ids, id) is a prompt with the token that is followed."""
    answer = expected.prompts[0].answer_ids[0]
    trace = lt.trace(model, [(torch.tensor(ids[0]), answer)], perturbation=MASK)
    assert_same(trace, expected, n=1)
    assert trace.prompts[0].target_ids == (answer,)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_taken_off_by_its_mask(side: str, model: lt.TracedModel, samples: list[lt.Sample]) -> None:
    """What a tokenizer returned, padded on either side, is read without its padding, row by row."""
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.pad_token, tokenizer.padding_side = tokenizer.convert_ids_to_tokens(0), side
    texts = [samples[0].prompt, "hot ->", samples[1].prompt]
    padded = tokenizer(texts, return_tensors="pt", padding=True)
    assert int(padded["attention_mask"].min()) == 0
    trace = lt.trace(model, padded, target="model", perturbation=MASK)
    assert [list(prompt.prompt_ids) for prompt in trace.prompts] == [tokenizer(text)["input_ids"] for text in texts]
    alone = lt.trace(model, texts, target="model", perturbation=MASK)
    np.testing.assert_allclose(trace.js_bits, alone.js_bits, atol=1e-6)
    padding = lt.wrap_model(model.module, tokenizer)
    with pytest.raises(lt.UsageError, match=r"Row 1 of the token ids (begins|ends) with \d+ of the padding's token 0"):
        lt.trace(padding, padded["input_ids"], target="model", perturbation=MASK)


@pytest.mark.parametrize(
    ("mask", "message"),
    [([[1, 0, 1]], "tokens between others"), ([[0, 0, 0]], "leaves out all"), ([[1, 1]], "another shape")],
)
def test_a_mask_that_is_no_padding_is_refused(mask: list[list[int]], message: str, model: lt.TracedModel) -> None:
    """Gaps, nothing at all and other shapes cannot be read as tokens in a row."""
    with pytest.raises(lt.UsageError, match=message):
        lt.trace(model, {"input_ids": [[5, 6, 7]], "attention_mask": mask}, target="model")


def test_records_are_read_as_a_file_would_be(tmp_path: Path) -> None:
    """Fields that a file may have mean in a list what they mean in the file: the same prompts."""
    words = [("hot", "cold"), ("big", "small"), ("fast", "slow"), ("high", "low"), ("old", "new"), ("full", "empty")]
    records = [{"input": one, "output": other} for one, other in [*words, *(pair[::-1] for pair in words)]]
    path = tmp_path / "words.jsonl"
    pd.DataFrame(records).to_json(path, orient="records", lines=True)
    assert task_from_records(records).samples == lt.load_task(path).samples


def test_a_record_that_is_not_understood_is_named() -> None:
    """The error names the record and its fields."""
    with pytest.raises(lt.TaskFileError, match="record 0: the fields 'x' are not known"):
        task_from_records([{"x": "hot"}])


def test_a_built_in_task_by_its_name_has_a_moderate_number_of_prompts(model: lt.TracedModel, tmp_path: Path) -> None:
    """By name a built-in task gives 32 prompts, a file all of its own."""
    assert lt.plan(model, "antonym").n_prompts == 32
    path = tmp_path / "many.jsonl"
    path.write_text("\n".join(['{"prompt": "hot ->", "answer": " cold"}'] * 40))
    for name in (str(path), path):
        assert lt.plan(model, name).n_prompts == 40


@pytest.mark.parametrize(
    "given",
    [None, 5, 2.5, True, b"abc", object(), lt.Sample, print, [None], [2.5], [("a", "b", "c")], [[]], [True],
     [[[1, 2], [3, 4]]],
     torch.tensor(3), torch.tensor([1.0, 2.0]), torch.ones(2, 2, 2, dtype=torch.long)],
    ids=lambda given: type(given).__name__,  # representations hold addresses, which differ between processes
)  # fmt: skip
def test_what_is_no_prompt_is_refused(given: object, model: lt.TracedModel) -> None:
    """One error: the argument, what was got, and what is taken."""
    for call in (lt.trace, lt.plan, lt.read_layers):
        with pytest.raises(
            lt.UsageError, match=r"^task(\[\d\])? cannot be (of type|the class) .*pairs \(prompt, answer\)"
        ):
            call(model, given)


def test_a_text_in_place_of_a_name_is_explained(model: lt.TracedModel) -> None:
    """A prompt where a name belongs: the error says to put it in a list."""
    with pytest.raises(lt.UnknownNameError, match=r"Unknown task .* is given in a list: \[text\]"):
        lt.trace(model, "hot -> cold\nwide ->")


# ---------------------------------------------------------------- models


def test_models_are_taken_as_they_are(
    model: lt.TracedModel, ids: list[list[int]], samples: list[lt.Sample], expected: lt.Trace
) -> None:
    """A name, a module and a pipeline of transformers are traced like the model that they stand for."""
    pairs = [(row, prompt.answer_ids[0]) for row, prompt in zip(ids, expected.prompts, strict=True)]
    pipeline = SimpleNamespace(model=model.module, tokenizer=model.tokenizer)
    for given, task in (("mini/attention", samples), (model.module, pairs), (pipeline, samples)):
        assert_same(lt.trace(given, task, perturbation=MASK), expected)
    assert lt.read_layers(model.module, ids).log_probs.shape == (4, 8, 1801)
    assert lt.plan("mini/attention", samples).n_prompts == 4


def test_a_loaded_module_is_not_loaded_again(model: lt.TracedModel) -> None:
    """`load_model` and `wrap_model` take what is there already; a device or a type cannot be chosen for it."""
    assert lt.load_model(model) is lt.wrap_model(model) is model
    assert lt.load_model(model.module).module is model.module
    assert lt.wrap_model(model, name="mine").name == "mine"
    assert lt.wrap_model(model, name="mine").tokenizer is model.tokenizer
    with pytest.raises(lt.UsageError, match="device, dtype cannot be chosen for a model that is loaded already"):
        lt.load_model(model.module, device="cpu", dtype="float32")


def test_the_tokenizer_of_a_local_checkpoint_is_found(
    model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace, tmp_path: Path
) -> None:
    """A module that transformers loaded from a folder is traced on text, with the tokenizer in that folder."""
    from transformers import AutoModelForCausalLM

    model.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert_same(lt.trace(loaded, samples, perturbation=MASK), expected)
    assert lt.load_model(loaded).tokenizer is not None


@pytest.mark.parametrize(
    "given", [5, None, nn.Linear, lambda ids: ids, {"model": 1}], ids=lambda given: type(given).__name__
)
def test_what_is_no_model_is_refused(given: object) -> None:
    """One error at every door, which says what was got and what is taken."""
    for call in (lt.trace, lt.plan, lt.read_layers):
        with pytest.raises(lt.UsageError, match=r"^model cannot be .*torch\.nn\.Module"):
            call(given, [(1, 2)])
    with pytest.raises(lt.UsageError, match=r"^name_or_path cannot be .*torch\.nn\.Module"):
        lt.load_model(given)
    with pytest.raises(lt.UsageError, match=r"^module cannot be .* there is load_model"):
        lt.wrap_model(given)


def test_tokenizers_are_taken_in_any_form(
    model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace, tmp_path: Path
) -> None:
    """One of the library tokenizers, a processor, a folder and a tokenizer.json read text as transformers' own does."""
    model.tokenizer.save_pretrained(tmp_path)
    raw = model.tokenizer.backend_tokenizer
    for given in (
        raw,
        SimpleNamespace(tokenizer=model.tokenizer),
        tmp_path,
        str(tmp_path),
        tmp_path / "tokenizer.json",
    ):
        wrapped = lt.wrap_model(model.module, given)
        assert_same(lt.trace(wrapped, samples, perturbation=MASK), expected)
    with pytest.raises(lt.UsageError, match="chat template"):
        lt.trace(lt.wrap_model(model.module, raw), samples, chat=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "tokenizer cannot be of type int"),
        (dict, "tokenizer cannot be the class dict"),
        ("no/such/folder", "neither a folder nor a file"),
        (Path(__file__).parent, "No tokenizer can be loaded from"),
    ],
)
def test_what_is_no_tokenizer_is_refused(given: object, message: str, model: lt.TracedModel) -> None:
    """The error says what was got and what is taken."""
    with pytest.raises(lt.UsageError, match=message):
        lt.wrap_model(model.module, given)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("given", ["ratio", "Ratio", "RATIO ", lt.Ratio, {"kind": "ratio"}, lt.Ratio()], ids=str)
def test_a_criterion_by_name_class_or_specification(given: object) -> None:
    """However it is named, it is the criterion."""
    assert take_onset(given) == lt.Ratio()


@pytest.mark.parametrize("given", ["first_top1", "FirstTop1", "first-top1", "first top 1"])
def test_names_of_several_words_are_taken_however_they_are_joined(given: str) -> None:
    """Case, hyphens and spaces do not matter."""
    assert take_onset(given) == lt.FirstTop1()


def test_no_criterion_is_refused() -> None:
    """Near matches for a name; what was got and what is taken for anything else."""
    assert take_onset(None) == lt.Rise()
    with pytest.raises(lt.UnknownNameError, match="Did you mean 'ratio'"):
        take_onset("ratoi")
    for given in (5, [lt.Rise()], lt.Mask):
        with pytest.raises(lt.UsageError, match=r"^onset cannot be .*Give one criterion"):
            take_onset(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, lt.Mask()),
        (lt.Mask, lt.Mask()),
        (lt.Skip, lt.Skip()),
        ("noise", lt.Noise()),
        ("mlp_output", lt.Mask(site="mlp_output")),
        ("MLP-output", lt.Mask(site="mlp_output")),
        (lt.Mask(seed=3, site="state").to_dict(), lt.Mask(seed=3, site="state")),
        (lt.Noise(scale=0.3).to_dict(), lt.Noise(scale=0.3)),
        (lt.Skip(positions="last").to_dict(), lt.Skip(positions="last")),
    ],
    ids=str,
)
def test_a_perturbation_by_name_class_or_specification(given: object, expected: object) -> None:
    """A site's name is a mask there; what a run stored is what it was."""
    assert take_perturbation(given) == expected


def test_no_perturbation_is_refused() -> None:
    """Near matches for a name; what was got and what is taken for anything else."""
    with pytest.raises(lt.UnknownNameError, match="Did you mean 'mlp_output'"):
        take_perturbation("mlp_out")
    for given in (0.2, [lt.Mask()], np.ones((8, 1, 4)), lt.Rise(), {"kind": "wish"}):
        with pytest.raises(lt.UsageError, match=r"^perturbation cannot be .*Mask, Noise or Skip"):
            take_perturbation(given)


def test_several_perturbations_are_taken_in_their_order() -> None:
    """A list of anything that stands for a perturbation, and "all" for every site; one is one of them."""
    given = ["mlp_output", lt.Mask(site="state"), lt.Skip, {"kind": "noise", "scale": 0.3}]
    expected = (lt.Mask(site="mlp_output"), lt.Mask(site="state"), lt.Skip(), lt.Noise(scale=0.3))
    assert take_perturbations(given) == take_perturbations(tuple(given)) == expected
    assert take_perturbations(None) == (lt.Mask(),)
    everywhere = take_perturbations("all")
    assert everywhere[0] == lt.Mask()
    assert sorted(one.site for one in everywhere) == sorted(SITES)
    assert not any(is_site_asked(one) for one in everywhere)
    with pytest.raises(lt.UsageError, match="Give at least one"):
        take_perturbations([])
    with pytest.raises(lt.UsageError, match="Give a Mask, Noise or Skip"):
        take_perturbations([lt.Mask(), [lt.Mask()]])


class Halved:
    """A lens as far as it can be taken."""

    name, meaning, details = "halved", "half the stream", {}

    def translate(self, rows: object, layer: int) -> object:
        """The rows, whatever the layer."""
        del layer
        return rows


def test_lenses_are_taken_one_or_several() -> None:
    """One lens, a list, or none, beside the logit lens; what is no lens, and two of one name, are refused."""
    lens = Halved()
    assert take_lenses(None) == ()
    assert take_lenses(lens) == take_lenses([lens]) == (lens,)
    assert take_lenses("logit") == ()
    assert take_lenses(["logit", lens]) == (lens,)
    for given in (5, Halved, [lens, object()]):
        with pytest.raises(lt.UsageError, match=r"^lens cannot be .*translate"):
            take_lenses(given)
    with pytest.raises(lt.UnknownNameError, match="lens"):
        take_lenses([lens, "tunned"])
    with pytest.raises(lt.UsageError, match="Two lenses are called 'halved'"):
        take_lenses([lens, Halved()])


def test_flags_and_paths_are_what_they_are() -> None:
    """A truth value or a path of any type; a word for yes or no is neither, and would count as True."""
    assert take_flag("chat", np.True_) is take_flag("chat", True) is True
    assert take_path("path", "runs/a") == take_path("path", Path("runs/a")) == Path("runs/a")
    for given in ("no", 1, None):
        with pytest.raises(lt.UsageError, match=r"^chat cannot be .*True or False"):
            take_flag("chat", given)
    for given in (5, None, b"x"):
        with pytest.raises(lt.UsageError, match=r"^path cannot be .*Give a path"):
            take_path("path", given)


def test_a_choice_is_one_of_its_names() -> None:
    """Anything else is refused with near matches or with what is taken."""
    assert take_choice("target", "model", ("answer", "model")) == "model"
    with pytest.raises(lt.UnknownNameError, match=r"Unknown target 'answr'\. Did you mean 'answer'"):
        take_choice("target", "answr", ("answer", "model"))
    with pytest.raises(lt.UsageError, match="target cannot be of type int"):
        take_choice("target", 5, ("answer", "model"))


def test_progress_is_a_bar_nothing_or_a_function(
    model: lt.TracedModel, samples: list[lt.Sample], capsys: pytest.CaptureFixture[str]
) -> None:
    """True draws a bar on standard error to its end, False and None nothing, a function is called."""
    seen: list[int] = []
    for progress, is_drawn in ((True, True), (False, False), (None, False), (lambda one: seen.append(one.done), False)):
        lt.trace(model, samples, perturbation=MASK, progress=progress)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert ("4/4" in captured.err) is is_drawn
    assert seen[-1] == 4
    for progress in (5, "yes", print.__class__):
        with pytest.raises(lt.UsageError, match=r"^progress cannot be .*True for a bar"):
            lt.trace(model, samples, perturbation=MASK, progress=progress)


def test_a_seed_of_numpy_is_stored(
    model: lt.TracedModel, samples: list[lt.Sample], expected: lt.Trace, tmp_path: Path
) -> None:
    """Numbers of NumPy are taken as Python's, also where they are stored as JSON."""
    mask = lt.Mask(draws=np.int64(1), scheme="random", fraction=np.float64(0.2), seed=np.int32(0))
    trace = lt.trace(model, samples, perturbation=mask, seed=np.int64(3))
    assert lt.load_run(trace.save(tmp_path / "run")) == trace
    assert_same(trace, expected)


class Unspeakable:
    """An object whose representation fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


def test_an_object_is_described_by_what_can_be_said_of_it() -> None:
    """Its type and the beginning of its representation; long ones are cut, failing ones left out."""
    assert describe(5) == "of type int (5)"
    assert describe(int) == "the class int"
    assert describe(Unspeakable()) == "of type Unspeakable"
    assert len(describe("x" * 999)) < 90


# ---------------------------------------------------------------- runs


def test_runs_are_compared_in_any_form(expected: lt.Trace, tmp_path: Path) -> None:
    """A list, several arguments, paths, run.json and a dictionary of names compare the same runs."""
    folder = expected.save(tmp_path / "run")
    whole = lt.compare([expected, expected]).to_dict()
    forms: list[tuple[Any, ...]] = [
        (expected, expected),
        (folder, str(folder)),
        (folder / "run.json", expected),
        (iter([folder, folder]),),
    ]
    for given in forms:
        assert lt.compare(*given).to_dict()["pairs"][0]["differences"] == whole["pairs"][0]["differences"]
    named = lt.compare({"one": expected, "other": folder})
    assert [one.label for one in named.models] == ["one", "other"]
    assert lt.load_run(folder / "run.json") == lt.load_run(str(folder)) == expected


def test_what_is_no_run_is_refused(expected: lt.Trace) -> None:
    """One run alone needs another; anything else is named with its place."""
    for one in (expected, "runs/a", Path("runs/a")):
        with pytest.raises(lt.UsageError, match=r"needs a list of runs, got the one (trace|path).*two runs or more"):
            lt.compare(one)
    with pytest.raises(lt.UsageError, match="at least two runs, got 1"):
        lt.compare([expected])
    with pytest.raises(lt.UsageError, match=r"traces\[1\] cannot be of type int"):
        lt.compare([expected, 5])
    with pytest.raises(lt.UsageError, match="traces cannot be of type int"):
        lt.compare(5)
