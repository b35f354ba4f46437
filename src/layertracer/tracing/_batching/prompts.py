"""Prompts as batches of token ids of equal length, made of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from layertracer._errors import AnswerError, EmptyTaskError, PromptTooLongError, UsageError
from layertracer._types import EncodedSample, TargetKind, TargetTokens
from layertracer.models import Network
from layertracer.tracing._batching.followed_tokens import Continuation, find_followed


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One prompt as it is run.

    Attributes:
        index: Position in the task.
        ids: Token ids that are fed: the prompt with the tokens of the answer that say nothing of it and, with several
            target tokens, all of them but the last.
        read: Positions whose next-token distribution is read.
        target_ids: Tokens that are followed, one for each position; () for the model's own top token.
        source_ids: Token ids that the encoder reads; None in a model without one.
        others: Further tokens at the last position, each as good as the last of `target_ids`.
        more: The same prompt with other continuations that are followed, whose probabilities are added.
    """

    index: int
    ids: tuple[int, ...]
    read: tuple[int, ...]
    target_ids: tuple[int, ...]
    source_ids: tuple[int, ...] | None = None
    others: tuple[int, ...] = ()
    more: tuple[Prompt, ...] = ()


def prepare_prompts(
    samples: Sequence[EncodedSample], network: Network, *, target: TargetKind, target_tokens: TargetTokens
) -> tuple[Prompt, ...]:
    """Every sample checked and laid out, before anything is computed.

    Raises:
        EmptyTaskError: If there is no sample.
        AnswerError: If an answer is to be followed and a sample has none.
        PromptTooLongError: If a prompt is longer than the model's context.
        UsageError: If a token id is unknown to the model, or `target` and `target_tokens` do not go together.
    """
    if not samples:
        raise EmptyTaskError("There is no sample to trace: the task is empty. Give at least one prompt.")
    if target == "model" and target_tokens == "all":
        raise UsageError(
            "target_tokens='all' follows the tokens of an answer, but target='model' follows the model's own top "
            "token. Use target='answer', or target_tokens='first'."
        )
    if target not in ("answer", "model") or target_tokens not in ("first", "all"):
        raise UsageError(
            f"target must be 'answer' or 'model' and target_tokens 'first' or 'all', got {target!r} and "
            f"{target_tokens!r}. Choose one of them each."
        )
    prompts = tuple(
        _lay_out(index, sample, network, target=target, target_tokens=target_tokens)
        for index, sample in enumerate(samples)
    )
    _check_ids(prompts, network)
    return prompts


def _lay_out(
    index: int, sample: EncodedSample, network: Network, *, target: TargetKind, target_tokens: TargetTokens
) -> Prompt:
    if not sample.prompt_ids:
        raise UsageError(f"Sample {index} has an empty prompt. Give at least one token.")
    if target == "answer" and not sample.answer_ids:
        raise AnswerError(
            f"Sample {index} has no answer to follow. Give it an answer, or follow the model's own top token with "
            "target='model'."
        )
    source_ids, prompt_ids = split_source(index, sample, network)
    if target == "model":
        return _continue(index, prompt_ids, Continuation(target_ids=()), source_ids)
    followed = find_followed(sample, target_tokens)
    prompt_ids += followed.lead_ids
    more = tuple(_continue(index, prompt_ids, one, source_ids) for one in followed.more)
    return replace(_continue(index, prompt_ids, followed.first, source_ids), more=more)


def _continue(
    index: int, prompt_ids: tuple[int, ...], followed: Continuation, source_ids: tuple[int, ...] | None
) -> Prompt:
    """A prompt and what is followed behind it."""
    ids = prompt_ids + followed.target_ids[:-1]
    return Prompt(
        index=index,
        ids=ids,
        read=tuple(range(len(prompt_ids) - 1, len(ids))),
        target_ids=followed.target_ids,
        source_ids=source_ids,
        others=followed.others,
    )


def split_source(index: int, sample: EncodedSample, network: Network) -> tuple[tuple[int, ...] | None, tuple[int, ...]]:
    """What the encoder reads, None without one, and what the layers that are traced read."""
    if not network.call.has_encoder:
        if sample.decoder_ids is not None:
            raise UsageError(
                f"Sample {index} has decoder_ids, which are for encoder-decoder models; {network.name!r} has no "
                "encoder. Put all tokens into the prompt."
            )
        return None, sample.prompt_ids
    decoder_ids = sample.decoder_ids or network.decoder_start.ids
    if not decoder_ids:
        raise UsageError(
            f"Sample {index} has no decoder_ids, and {network.name!r} names no token that its decoder starts with. "
            "Give what the decoder has read so far: Sample(..., decoder_ids=(start,))."
        )
    return sample.prompt_ids, decoder_ids


def warn_of_decoder_start(samples: Sequence[EncodedSample], network: Network) -> tuple[str, ...]:
    """What a user should know of what decoders begin with where no sample says it."""
    n_without = sum(sample.decoder_ids is None for sample in samples)
    if not network.call.has_encoder or not n_without or not network.decoder_start.lacks_language:
        return ()
    start = network.decoder_start.ids
    warning = (
        f"{n_without} of {len(samples)} prompts are read behind the decoder's start token alone, though "
        f"{network.name!r} has languages and names none that it writes in: what it says there may mean nothing. Set "
        f"model.tokenizer.tgt_lang, or give decoder_ids=({start[0] if start else 'start'}, language)."
    )
    return (warning,)


def _check_ids(prompts: Sequence[Prompt], network: Network) -> None:
    """Refuse prompts that the model cannot read, all of them at once."""
    prompts = [one for prompt in prompts for one in (prompt, *prompt.more)]
    longest = network.max_length
    lengths = [max(len(prompt.ids), len(prompt.source_ids or ())) for prompt in prompts]
    if longest is not None and any(length > longest for length in lengths):
        offending = sorted({prompt.index for prompt, length in zip(prompts, lengths, strict=True) if length > longest})
        worst, n_prompts = max(lengths), len({prompt.index for prompt in prompts})
        raise PromptTooLongError(
            f"{len(offending)} of {n_prompts} prompts are longer than the context of {network.name!r}: up to "
            f"{worst} tokens, at most {longest} fit (samples {_short_list(offending)}). Use fewer demonstrations "
            "or shorter prompts."
        )
    n_tokens, d_vocab = network.anatomy.n_input_tokens, network.anatomy.d_vocab
    n_source_tokens = network.anatomy.n_source_tokens or 0
    for prompt in prompts:
        outside = [token for token in prompt.source_ids or () if not 0 <= token < n_source_tokens]
        outside += [token for token in prompt.ids if not 0 <= token < n_tokens]
        outside += [token for token in (*prompt.target_ids, *prompt.others) if not 0 <= token < d_vocab]
        if outside:
            raise UsageError(
                f"Sample {prompt.index} has token id {outside[0]}, but {network.name!r} reads ids from 0 to "
                f"{n_tokens - 1} and predicts ids from 0 to {d_vocab - 1}. Use the model's own tokenizer."
            )


def _short_list(indices: Sequence[int]) -> str:
    shown = ", ".join(map(str, indices[:5]))
    return f"{shown}, …" if len(indices) > 5 else shown


def bucket_prompts(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Prompts of equal length and equal positions to read together, in order of their first appearance.

    Nothing is padded: padding changes positions in some models and recurrent state in others.
    """
    buckets: dict[tuple[int, int, tuple[int, ...]], list[Prompt]] = {}
    for prompt in prompts:
        key = len(prompt.source_ids or ()), len(prompt.ids), prompt.read
        buckets.setdefault(key, []).append(prompt)
    return list(buckets.values())


def bind_batch(network: Network, batch: Sequence[Prompt]) -> tuple[Network, Tensor]:
    """The token ids [prompt, position] of a batch, and the network whose encoder, if any, reads what goes with them."""
    ids = torch.tensor([prompt.ids for prompt in batch], device=network.device)
    if batch[0].source_ids is None:
        return network, ids
    return network.reading(torch.tensor([prompt.source_ids for prompt in batch], device=network.device)), ids
