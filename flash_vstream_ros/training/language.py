"""Stage two of the training: the language model learns to answer from memory snapshots. The tower is frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flash_vstream_ros.demo.scoring import Question
from flash_vstream_ros.memory.am_rope import MergedGrid, prompt_ids, visual_ids
from flash_vstream_ros.models.ages import age_ids, with_ages
from flash_vstream_ros.models.household_settings import AGE_TEXT
from flash_vstream_ros.models.preprocess import POOL
from flash_vstream_ros.models.prompt import ChatPrompt, cased_ids, plain_ids

from .branches import BRANCHED, BranchMask
from .drills import Drill
from .examples import Entries, Example
from .network import GRID

HIGH, LOW = MergedGrid(GRID // 2, GRID // 2), MergedGrid(GRID // 2 // POOL, GRID // 2 // POOL)
T = TypeVar("T")
PADDING, SHARED = -1, 0  # branches of tokens; drills, then questions, have the branches 1, 2, ...
IGNORE = -100  # target of a token without a loss


class Text(NamedTuple):
    """Tokens after the memory, each with its target: the next token, or IGNORE."""

    tokens: list[int]
    targets: list[int]


class Row(NamedTuple):
    """One prompt of a batch."""

    tokens: list[int]
    targets: list[int]
    branches: list[int]  # one per token; a token attends to its own branch and to SHARED, which comes first
    positions: Tensor  # [3, length]
    visual: Tensor  # [memory tokens, width]; ignored at the text tokens of ages


class Batch(NamedTuple):
    """Prompts with several questions each, which do not attend to one another."""

    tokens: Tensor  # [batch, length] int64; -1: visual
    visual: Tensor  # [batch, length, width]; ignored at text tokens
    positions: Tensor  # [3, batch, length]
    mask: BranchMask
    targets: Tensor  # [batch, length] int64: next token, or IGNORE
    in_question: Tensor  # [batch, length] bool: True in questions, False in drills


class Batcher:
    """Collates examples into batches, in the model's prompt format."""

    def __init__(self, network: Any, tokenizer: Any, prompt: ChatPrompt) -> None:
        self.merger, self.width = network.model.visual.merger, network.config.text_config.hidden_size
        self.tokenizer, self.prompt = tokenizer, prompt
        self.leading = [*prompt.leading]  # between the memory and a question
        self.age_ids = age_ids(lambda text: plain_ids(tokenizer, text), AGE_TEXT)
        self.stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._ids: dict[str, list[int]] = {}

    def __call__(self, examples: Sequence[Example], questions: int, drills: int, rng: np.random.Generator) -> Batch:
        """A prompt per example, with up to `questions` of its questions and `drills` of its drills, drawn at random."""
        rows = [self._row(example, self._texts(example, questions, drills, rng)) for example in examples]
        return self._collated(rows, drills)

    def unanswered(self, example: Example, questions: Sequence[str], answers: Sequence[Sequence[int]]) -> Batch:
        """A prompt with questions and the beginnings of their answers. The only targets are the next tokens."""
        prompts = [[*self._question_ids(text), *tokens] for text, tokens in zip(questions, answers, strict=True)]
        branches = enumerate(prompts, 1)
        texts = [(branch, Text(ids, [IGNORE] * (len(ids) - 1) + [0])) for branch, ids in branches]
        return self._collated([self._row(example, texts)], drills=0)

    def _collated(self, rows: Sequence[Row], drills: int) -> Batch:
        shared = [row.branches.count(SHARED) for row in rows]
        memory, count = max(shared), len(rows)
        length = memory + max(len(row.tokens) - own for row, own in zip(rows, shared, strict=True))
        tokens, targets = torch.full((count, length), 0), torch.full((count, length), IGNORE)
        branches = torch.full((count, length), PADDING)
        positions, visual = torch.zeros(3, count, length, dtype=torch.long), torch.zeros(count, length, self.width)
        start = len(self.prompt.before)
        for i, (row, own) in enumerate(zip(rows, shared, strict=True)):
            place = torch.arange(len(row.tokens))
            place[own:] += memory - own
            tokens[i, place], targets[i, place] = torch.tensor(row.tokens), torch.tensor(row.targets)
            branches[i, place], positions[:, i, place] = torch.tensor(row.branches), row.positions
            visual[i, start : start + len(row.visual)] = row.visual
        longest = max(
            max(Counter(row.branches[own:]).values(), default=0) for row, own in zip(rows, shared, strict=True)
        )
        text = branches[:, memory:, None]
        attends = (text == branches[:, None, :]) | (branches[:, None, :] == SHARED)
        attends &= torch.ones(length, length, dtype=torch.bool).tril()[memory:]
        mask = BranchMask(memory, min(shared), longest, attends)
        return Batch(tokens, visual, positions, mask, targets, branches > drills)

    def _row(self, example: Example, texts: Sequence[tuple[int, Text]]) -> Row:
        """The prompt of an example's memory, followed by `texts` with their branches."""
        memory, start = example.memory, len(self.prompt.before)
        positions, delta = prompt_ids(
            start, len(self.leading), memory.dam_times, memory.csm_times, HIGH, LOW, example.text_slots
        )
        visual_tokens = positions.shape[1] - start - len(self.leading)
        end = start + visual_tokens
        looks = [self._entries(memory, positions[:, start:end])]
        if (details := example.details) is not None:
            csm_start = start + len(memory.dam) * HIGH.rows * HIGH.columns
            ids = visual_ids(details.dam_times, details.csm_times, HIGH, LOW, start, csm_start)
            looks.append(self._entries(details, ids))
        memory_tokens, visual, memory_positions = zip(*looks, strict=True)
        shared = [*self.prompt.before, *(id for ids in memory_tokens for id in ids), *self.leading]
        parts = [positions[:, :start], *memory_positions, positions[:, end:]]
        tokens, targets, branches = list(shared), [IGNORE] * len(shared), [SHARED] * len(shared)
        following = end + len(self.leading) + delta  # position at which every text begins
        for branch, text in texts:
            tokens += text.tokens
            targets += text.targets
            branches += [branch] * len(text.tokens)
            parts.append(torch.arange(following, following + len(text.tokens)).expand(3, -1))
        return Row(tokens, targets, branches, torch.cat(parts, 1), torch.cat(visual))

    def _entries(self, entries: Entries, positions: Tensor) -> tuple[list[int], Tensor, Tensor]:
        """Tokens (-1: visual), visual tokens [tokens, width] and positions [3, tokens] of entries with age tokens.

        `positions` [3, visual tokens] are the positions of the visual tokens alone.
        """
        with torch.no_grad():
            csm = self.merger(entries.csm.float().flatten(0, 1))
        visual = torch.cat([entries.dam.float().flatten(0, 1), csm])
        counts = [HIGH.rows * HIGH.columns] * len(entries.dam) + [LOW.rows * LOW.columns] * len(entries.csm)
        text, index = with_ages(counts, [self.age_ids(age) for age in entries.ages.tolist()])
        return text.tolist(), visual[index], positions[:, index]

    def _texts(self, example: Example, questions: int, drills: int, rng: np.random.Generator) -> list[tuple[int, Text]]:
        asked, drilled = _drawn(example.questions, questions, rng), _drawn(example.drills, drills, rng)
        texts = [(branch, self._drill(drill)) for branch, drill in enumerate(drilled, 1)]
        return texts + [(branch, self._question(question)) for branch, question in enumerate(asked, drills + 1)]

    def _question(self, question: Question) -> Text:
        asked = [*self._question_ids(question.text)]
        answer = [*self._plain_ids(question.answer), self.stop]
        return Text(asked + answer[:-1], [IGNORE] * (len(asked) - 1) + answer)

    def _drill(self, drill: Drill) -> Text:
        text = Text([], [])
        for cue, answer in drill:
            cue_ids, answer_ids = self._plain_ids(cue), self._plain_ids(answer)
            text.tokens.extend((*cue_ids, *answer_ids))
            text.targets.extend((*[IGNORE] * (len(cue_ids) - 1), *answer_ids, IGNORE))
        return text

    def _question_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a question and of the beginning of the assistant's turn, as in the node's prompt."""
        return self.prompt.after(text)[len(self.leading) :]

    def _plain_ids(self, text: str) -> list[int]:
        """Ids of an answer or a drill, which are case-sensitive."""
        if text not in self._ids:
            self._ids[text] = cased_ids(self.tokenizer, text)
        return self._ids[text]


def loss_and_hits(network: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean cross entropy of the target tokens, and a mask [targets] of the correctly predicted ones."""
    logits, goals = target_logits(network, batch), batch.targets[batch.targets >= 0]
    return F.cross_entropy(logits, goals), logits.argmax(-1) == goals


def target_logits(network: Any, batch: Batch) -> Tensor:
    """Logits [targets, vocabulary] of the tokens that have a target."""
    text = network.get_input_embeddings()(batch.tokens.clamp(min=0))
    embeds = torch.where((batch.tokens < 0)[..., None], batch.visual, text)
    branched = network.config.text_config._attn_implementation == BRANCHED
    hidden = network.model.language_model(
        inputs_embeds=embeds,
        position_ids=batch.positions,
        attention_mask={"full_attention": batch.mask if branched else batch.mask.dense()},
        use_cache=False,
    ).last_hidden_state
    logits: Tensor = network.lm_head(hidden[batch.targets >= 0])
    return logits


def _drawn(options: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    """Up to `count` of the options, at random."""
    return [options[index] for index in rng.permutation(len(options))[:count]]


def answers_right(batch: Batch, hits: Tensor, stop: int) -> tuple[int, int]:
    """Number of questions answered without a mistake under teacher forcing, and number of all questions.

    `hits` [targets] is the mask of correctly predicted target tokens; `stop` is the token that ends an answer.
    """
    is_target = batch.targets >= 0
    in_question = batch.in_question[is_target]
    stops = batch.targets[is_target][in_question] == stop
    answer = torch.cat([stops.new_zeros(1), stops[:-1]]).cumsum(0)
    mistakes = torch.zeros(int(stops.sum())).index_add_(0, answer.cpu(), (~hits[in_question]).float().cpu())
    return int((mistakes == 0).sum()), len(mistakes)
