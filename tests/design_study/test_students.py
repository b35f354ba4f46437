"""Students: made of their parent, aligned layer by layer, distilled, judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from layertracer._errors import UsageError

from design_study.alignment import Aligned, align_mixers
from design_study.distillation import Parent, distil
from design_study.judgement import judge, ratio_std_error, recall_questions
from design_study.plan import HELD_OUT_SEED, Job, Recipe, all_placements, every_placement, list_jobs, read_placement
from design_study.students import draw_mixers, load_trained, make_student
from design_study.trained import collect_students, train_students
from training import draw_batch

RECIPE = Recipe(n_alignment_steps=2, n_steps=2, n_documents=3, n_tokens=16, n_held_out=4, n_questions=3)
IDS = torch.arange(2, 34).reshape(2, 16)


@pytest.fixture(scope="module")
def parent() -> Any:
    """The first attention miniature."""
    return load_trained("attention")


@pytest.fixture(scope="module")
def aligned(parent: Any) -> Aligned:
    """Its mixers after two steps."""
    return align_mixers(parent, 0, RECIPE)


def test_student_that_keeps_all_is_the_parent(parent: Any) -> None:
    """With every layer kept, the student's logits are the parent's."""
    student = make_student(parent, range(8), {})
    with torch.no_grad():
        assert torch.equal(student(input_ids=IDS).logits, parent(input_ids=IDS).logits)


def test_student_shares_all_but_the_replaced_mixers(parent: Any, aligned: Aligned) -> None:
    """Kept layers are attention, the others Gated DeltaNet; every other weight is a copy with gradients on."""
    student = make_student(parent, (1, 6), aligned.mixers)
    theirs = dict(parent.named_parameters())
    for name, weight in student.named_parameters():
        assert weight.requires_grad
        if ".linear_attn." in name:
            layer = int(name.split(".")[2])
            assert layer not in {1, 6}
            assert torch.equal(weight, aligned.mixers[layer][name.partition(".linear_attn.")[2]])
        else:
            assert torch.equal(weight, theirs[name])
            assert weight.data_ptr() != theirs[name].data_ptr()
    assert {type(layer.self_attn).__name__ for layer in (student.model.layers[1], student.model.layers[6])} == {
        "Qwen3_5Attention"
    }


def test_fresh_mixers_are_of_seed_and_layer(parent: Any) -> None:
    """The same seed gives the same weights, another seed or another layer others; no global state is touched."""
    before = torch.random.get_rng_state()
    first, again, other = (draw_mixers(parent, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    weight = [[mixer.in_proj_qkv.weight for mixer in mixers] for mixers in (first, again, other)]
    assert all(torch.equal(one, two) for one, two in zip(weight[0], weight[1], strict=True))
    assert not torch.equal(weight[0][0], weight[2][0])
    assert not torch.equal(weight[0][0], weight[0][1])


def test_alignment_brings_mixers_nearer(parent: Any, aligned: Aligned, tmp_path: Path) -> None:
    """More steps miss less in every layer; what was kept is read again."""
    path = tmp_path / "aligned.pt"
    longer = align_mixers(parent, 0, replace(RECIPE, n_alignment_steps=25), state_file=path)
    assert all(after < before for after, before in zip(longer.errors, aligned.errors, strict=True))
    again = align_mixers(parent, 0, RECIPE, state_file=path)
    assert again.errors == longer.errors
    assert torch.equal(again.mixers[3]["conv1d.weight"], longer.mixers[3]["conv1d.weight"])


def test_distillation_lowers_the_divergence(parent: Any, aligned: Aligned) -> None:
    """A student is nearer to its parent after some steps, and equal seeds lead to equal weights; the parent stays."""
    recipe = replace(RECIPE, n_steps=12)
    kept, before = Parent(parent, recipe), {name: one.clone() for name, one in parent.state_dict().items()}
    first, second = (make_student(parent, (0, 4), aligned.mixers) for _ in range(2))
    start = judge(first, kept, recipe)
    distil(first.train(), kept, 0, recipe)
    distil(second, kept, 0, recipe)
    assert judge(first, kept, recipe).kl_all_nats < start.kl_all_nats
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), second.parameters(), strict=True))
    assert all(torch.equal(one, before[name]) for name, one in parent.state_dict().items())


def test_judgement_is_that_of_plain_torch(parent: Any, aligned: Aligned) -> None:
    """KL(parent ‖ student) by torch's own kl_div and the loss by its cross_entropy, on determined tokens."""
    student = make_student(parent, (0, 4), aligned.mixers).eval()
    found = judge(student, Parent(parent, RECIPE), RECIPE)
    batch = draw_batch(seed=HELD_OUT_SEED, step=0, n_documents=RECIPE.n_held_out, n_tokens=RECIPE.n_tokens + 1)
    ids, determined = torch.from_numpy(batch.ids), torch.from_numpy(batch.weights == 1.0)
    with torch.no_grad():
        theirs, ours = (module(input_ids=ids[:, :-1]).logits.log_softmax(-1) for module in (parent, student))
    kl = functional.kl_div(ours, theirs, log_target=True, reduction="none").sum(-1)
    loss = functional.cross_entropy(ours.transpose(1, 2), ids[:, 1:], reduction="none")
    assert found.kl_nats == pytest.approx(float(kl[determined].mean()), rel=1e-4)
    assert found.kl_all_nats == pytest.approx(float(kl.mean()), rel=1e-4)
    assert found.loss_nats == pytest.approx(float(loss[determined].mean()), rel=1e-4)


def test_parent_recalls_and_is_no_divergence_from_itself(parent: Any) -> None:
    """The parent as its own student: KL 0, and recall of known words as its card says."""
    recipe = replace(RECIPE, n_questions=30)
    found = judge(parent, Parent(parent, recipe), recipe)
    assert (found.kl_nats, found.kl_all_nats) == (0.0, 0.0)
    assert found.recall == 1.0
    assert [one.novelty for one in recall_questions(30)] == ["prompts", "pairs"]


def test_standard_error_by_hand() -> None:
    """Of equal counts it is that of a mean over rows: rows with means 1 and 3 have √2 · √2 / 2 = 1."""
    assert ratio_std_error(np.array([2.0, 6.0]), np.array([2.0, 2.0])) == pytest.approx(1.0)


def test_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What is there is not trained again; another recipe is refused; rows of the table are sorted."""
    jobs = [Job(parent="attention", seed=seed, kept=kept) for kept in ((2, 5), (0, 4)) for seed in (1, 0)]
    assert len(list(train_students(jobs[:1], tmp_path, RECIPE))) == 1
    paths = list(train_students(jobs[:2], tmp_path, RECIPE))
    assert [path.stem for path in paths] == ["attention-0-2+5"]
    record = json.loads(paths[0].read_text(encoding="utf-8"))
    assert record["kept"] == "2+5"
    assert record["n_steps"] == RECIPE.n_steps
    table = collect_students(tmp_path)
    assert table[["kept", "seed"]].to_numpy().tolist() == [["2+5", 0], ["2+5", 1]]
    with pytest.raises(UsageError, match="another recipe"):
        list(train_students(jobs, tmp_path, replace(RECIPE, n_steps=3)))


def test_jobs_are_listed_once() -> None:
    """All placements of 2 of 8 from each parent come first; no job is listed twice; a placement can be read again."""
    jobs = list(list_jobs())
    assert len(jobs) == len(set(jobs))
    assert {job.kept for job in jobs[:28]} == set(all_placements(2))
    assert every_placement("attention", 3) == every_placement("attention", 3)
    assert read_placement("0+4") == (0, 4)
