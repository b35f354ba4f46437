"""What lenses read of the answers, and of tokens that are not the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from layertracer._types import EncodedSample, Sample
from layertracer.tracing import Lens, Progress, encode_for, read_layers
from layertracer.validation._setting import Setting
from layertracer.validation._stages.keeping import Found, not_measured

Tell = Callable[[Progress], None]

LOGIT = "logit"
N_OTHERS, N_ORDINARY = 8, 8
"""Random targets of each prompt: answers of other prompts, and ordinary tokens."""
_VALUES_AT_A_TIME = 2**27
"""Log-probabilities that are kept whole while they are read: half a gigabyte."""
_BEHIND_AN_ENCODER = "Answers begin with tokens that say nothing of them, behind what an encoder has read."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPrompt:
    """A prompt as it is read, and the tokens that are looked at.

    Attributes:
        sample: The prompt up to where the followed token stands.
        answers: Tokens any of which is right.
        others: Answers of other prompts that are none of its own.
        ordinary: Tokens drawn from all that have no special meaning.
    """

    sample: Sample
    answers: tuple[int, ...]
    others: tuple[int, ...]
    ordinary: tuple[int, ...]

    @property
    def random(self) -> tuple[int, ...]:
        """All random targets."""
        return (*self.others, *self.ordinary)


def lay_out_targets(setting: Setting) -> tuple[ReadPrompt, ...]:
    """Every prompt with its answers and its random targets, which the seed draws; the same for every lens."""
    generator = np.random.default_rng([setting.options.seed, 7])
    plain = setting.model.anatomy.plain_tokens.cpu().numpy()
    plain = plain[plain < setting.model.anatomy.d_vocab]
    answers = [followed_answers(sample) for sample in setting.encoded]
    every = sorted({token for some in answers for token in some})
    prompts = []
    for sample, own, given in zip(setting.encoded, answers, setting.samples, strict=True):
        prompts.append(
            ReadPrompt(
                sample=_as_read(sample, given),
                answers=own,
                others=_draw(generator, [token for token in every if token not in own], N_OTHERS),
                ordinary=_draw(generator, [token for token in plain.tolist() if token not in every], N_ORDINARY),
            )
        )
    return tuple(prompts)


def followed_answers(sample: EncodedSample) -> tuple[int, ...]:
    """The tokens that are followed of a sample's answers, those that stand at one position."""
    lead = sample.answer_ids[: sample.n_lead]
    alike = [answer for answer in sample.answers if answer.ids[: answer.n_lead] == lead]
    return tuple(dict.fromkeys(answer.ids[answer.n_lead] for answer in alike if len(answer.ids) > answer.n_lead))


def _as_read(sample: EncodedSample, given: Sample) -> Sample:
    """The prompt with the tokens of its answer that say nothing of it."""
    if sample.decoder_ids is not None or not sample.n_lead:
        return given
    return Sample(prompt_ids=sample.prompt_ids + sample.answer_ids[: sample.n_lead])


def _draw(generator: np.random.Generator, tokens: Sequence[int], n: int) -> tuple[int, ...]:
    picks = generator.permutation(len(tokens))[:n]
    return tuple(int(tokens[pick]) for pick in picks)


def read_lens(setting: Setting, lens: Lens | None, tell: Tell) -> Found:
    """Log-probabilities of the answers and of random targets after every layer, as one lens reads them.

    Args:
        setting: What is measured on.
        lens: The lens; None for the logit lens.
        tell: Is told how far it is.

    Returns:
        Arrays `log_prob` [prompt, 1 + layer] and `is_top` of the answers, `random_log_prob` and `random_is_top`
        [prompt, target, 1 + layer] of the random targets, NaN where a prompt has fewer, and `n_others` [prompt], how
        many of these are other prompts' answers.
    """
    if setting.model.network.call.has_encoder and any(sample.n_lead for sample in setting.encoded):
        return not_measured(_BEHIND_AN_ENCODER)
    return _read_prompts(setting, lay_out_targets(setting), lens, tell)


def read_answers(setting: Setting, samples: Sequence[Sample], tell: Tell) -> Found:
    """Log-probabilities of the answers of other prompts than the task's, as the logit lens reads them.

    Returns:
        As `read_lens`, without random targets.
    """
    encoded = encode_for(setting.model, samples, chat=False).samples
    if setting.model.network.call.has_encoder and any(sample.n_lead for sample in encoded):
        return not_measured(_BEHIND_AN_ENCODER)
    prompts = [
        ReadPrompt(sample=_as_read(one, given), answers=followed_answers(one), others=(), ordinary=())
        for one, given in zip(encoded, samples, strict=True)
    ]
    return _read_prompts(setting, prompts, None, tell)


def _read_prompts(setting: Setting, prompts: Sequence[ReadPrompt], lens: Lens | None, tell: Tell) -> Found:
    """What a lens reads of some prompts' tokens."""
    n_rows = 1 + setting.n_layers
    shape = (len(prompts), N_OTHERS + N_ORDINARY, n_rows)
    arrays: dict[str, NDArray[np.float32]] = {
        "log_prob": np.full((len(prompts), n_rows), np.nan, np.float32),
        "is_top": np.zeros((len(prompts), n_rows), np.float32),
        "random_log_prob": np.full(shape, np.nan, np.float32),
        "random_is_top": np.zeros(shape, np.float32),
    }
    at_once = max(1, _VALUES_AT_A_TIME // ((1 if lens is None else 2) * n_rows * setting.model.anatomy.d_vocab))
    for first in range(0, len(prompts), at_once):
        some = prompts[first : first + at_once]
        read = read_layers(
            setting.model,
            [prompt.sample for prompt in some],
            lens=LOGIT if lens is None else lens,
            audit=setting.options.audit,
            seed=setting.options.seed,
        )
        own = read if lens is None else read.lenses[lens.name]
        for place, prompt in enumerate(some):
            rows = torch.cat((own.embedding_log_probs[place][None], own.log_probs[place]))
            _take(arrays, first + place, prompt, rows)
        tell(Progress(min(len(prompts), first + at_once), len(prompts), "reading"))
    n_others = np.array([len(prompt.others) for prompt in prompts])
    return Found(facts={"lens": LOGIT if lens is None else lens.name}, arrays={**arrays, "n_others": n_others})


def _take(
    arrays: dict[str, NDArray[np.float32]], index: int, prompt: ReadPrompt, rows: Float[Tensor, "lens_row d_vocab"]
) -> None:
    """Keep what one prompt's distributions say of its tokens."""
    top = rows.argmax(dim=-1).numpy()
    arrays["log_prob"][index] = rows[:, list(prompt.answers)].logsumexp(dim=-1).clamp(max=0).numpy()
    arrays["is_top"][index] = np.isin(top, prompt.answers)
    n = len(prompt.random)
    arrays["random_log_prob"][index, :n] = rows[:, list(prompt.random)].T.numpy()
    arrays["random_is_top"][index, :n] = top[None] == np.array(prompt.random)[:, None]
