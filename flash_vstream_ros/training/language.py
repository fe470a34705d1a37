"""Stage two of the training: the language model learns to answer from memory snapshots; the tower is frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flash_vstream_ros.demo.questions import Question
from flash_vstream_ros.memory.am_rope import MergedGrid, prompt_ids
from flash_vstream_ros.models.ages import age_ids, with_ages
from flash_vstream_ros.models.household_settings import AGE_TEXT
from flash_vstream_ros.models.preprocess import POOL
from flash_vstream_ros.models.prompt import ChatPrompt, plain_ids

from .drills import Drill
from .network import GRID
from .patrols import Example

HIGH, LOW = MergedGrid(GRID // 2, GRID // 2), MergedGrid(GRID // 2 // POOL, GRID // 2 // POOL)
T = TypeVar("T")
Row = tuple[list[int], list[int], list[int], Tensor, Tensor]  # tokens, targets, branches, positions, visual tokens
PADDING, SHARED = -1, 0  # branches of tokens; each drill, then each question, has its own from 1 on


class Batch(NamedTuple):
    """Prompts with several questions each, which do not attend to one another."""

    tokens: Tensor  # [batch, length] int64; -1: visual
    visual: Tensor  # [batch, length, width]; ignored at text tokens
    positions: Tensor  # [3, batch, length]
    mask: Tensor  # [batch, 1, length, length] bool: attention mask
    targets: Tensor  # [batch, length] int64: next token, or -100 to ignore
    asked: Tensor  # [batch, length] bool: part of a question, not of a drill


class Batcher:
    """Collates examples into batches, with the prompt of the model."""

    def __init__(self, network: Any, tokenizer: Any, prompt: ChatPrompt, drills: int = 0) -> None:
        self.merger, self.width = network.model.visual.merger, network.config.text_config.hidden_size
        self.tokenizer, self.prompt = tokenizer, prompt
        self.middle = [*prompt.leading]
        self.drills = drills
        self.age_ids = age_ids(lambda text: plain_ids(tokenizer, text), AGE_TEXT)
        self.stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._ids: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Ids of an answer or a drill, whose case is kept."""
        if text not in self._ids:
            self._ids[text] = cased_ids(self.tokenizer, text)
        return self._ids[text]

    def asked(self, text: str) -> tuple[int, ...]:
        """Ids of a question and the start of the answer's turn, as the node's prompt has them."""
        return self.prompt.after(text)[len(self.middle) :]

    def __call__(self, examples: Sequence[Example], asked: int, rng: np.random.Generator) -> Batch:
        return self._collated([self._row(example, self._texts(example, asked, rng)) for example in examples])

    def unanswered(self, example: Example, questions: Sequence[str], said: Sequence[Sequence[int]]) -> Batch:
        """One prompt with several questions and the tokens answered so far; the targets mark the newest of each."""
        prompts = [[*self.asked(text), *tokens] for text, tokens in zip(questions, said, strict=True)]
        branches = enumerate(prompts, self.drills + 1)
        return self._collated(
            [self._row(example, [(branch, (ids, [-100] * (len(ids) - 1) + [0])) for branch, ids in branches])]
        )

    def _collated(self, rows: Sequence[Row]) -> Batch:
        length = max(len(tokens) for tokens, *_ in rows)
        count = len(rows)
        tokens, targets = torch.full((count, length), 0), torch.full((count, length), -100)
        branches = torch.full((count, length), PADDING)
        positions, visual = torch.zeros(3, count, length, dtype=torch.long), torch.zeros(count, length, self.width)
        for i, (ids, goal, branch, places, seen) in enumerate(rows):
            size = len(ids)
            tokens[i, :size], targets[i, :size] = torch.tensor(ids), torch.tensor(goal)
            branches[i, :size], positions[:, i, :size] = torch.tensor(branch), places
            start = len(self.prompt.before)
            visual[i, start : start + len(seen)] = seen
        same = (branches[:, :, None] == branches[:, None, :]) | (branches[:, None, :] == SHARED)
        mask = same & torch.ones(length, length, dtype=torch.bool).tril()
        return Batch(tokens, visual, positions, mask[:, None], targets, branches > self.drills)

    def _row(self, example: Example, texts: Sequence[tuple[int, tuple[list[int], list[int]]]]) -> Row:
        """The prompt with `texts`, each a branch, its tokens and their targets."""
        with torch.no_grad():
            csm = self.merger(example.csm.float().flatten(0, 1))
        seen = torch.cat([example.dam.float().flatten(0, 1), csm])
        counts = [HIGH.rows * HIGH.columns] * len(example.dam) + [LOW.rows * LOW.columns] * len(example.csm)
        text, index = with_ages(counts, [self.age_ids(age) for age in example.ages.tolist()])
        shared = [*self.prompt.before, *text.tolist(), *self.middle]
        places, delta = prompt_ids(
            len(self.prompt.before),
            len(self.middle),
            example.dam_times,
            example.csm_times,
            HIGH,
            LOW,
            example.text_slots,
        )
        start, end = len(self.prompt.before), len(self.prompt.before) + len(seen)
        places = torch.cat([places[:, :start], places[:, start:end][:, index], places[:, end:]], 1)
        tokens, goals, branches = list(shared), [-100] * len(shared), [SHARED] * len(shared)
        parts, following = [places], start + len(seen) + len(self.middle) + delta
        for branch, (text_tokens, goal) in texts:
            tokens += text_tokens
            goals += goal
            branches += [branch] * len(text_tokens)
            parts.append(torch.arange(following, following + len(text_tokens)).expand(3, -1))
        return tokens, goals, branches, torch.cat(parts, 1), seen[index]

    def _texts(
        self, example: Example, asked: int, rng: np.random.Generator
    ) -> list[tuple[int, tuple[list[int], list[int]]]]:
        chosen, drilled = _some(example.questions, asked, rng), _some(example.drills, self.drills, rng)
        texts = [(branch, self._drill(drill)) for branch, drill in enumerate(drilled, 1)]
        return texts + [(branch, self._question(question)) for branch, question in enumerate(chosen, self.drills + 1)]

    def _question(self, question: Question) -> tuple[list[int], list[int]]:
        """Tokens, and the target of each."""
        before = [*self.asked(question.text)]
        answer = [*self.ids(question.answer), self.stop]
        return before + answer[:-1], [-100] * (len(before) - 1) + answer

    def _drill(self, drill: Drill) -> tuple[list[int], list[int]]:
        tokens: list[int] = []
        goals: list[int] = []
        for cue, answer in drill:
            tokens += [*self.ids(cue), *self.ids(answer)]
            goals += [-100] * (len(self.ids(cue)) - 1) + [*self.ids(answer), -100]
        return tokens, goals


def cased_ids(tokenizer: Any, text: str) -> list[int]:
    """Ids of `text` without the tokenizer's normaliser, which puts it in lower case."""
    backend = tokenizer.backend_tokenizer
    pieces = backend.pre_tokenizer.pre_tokenize_str(text)
    return [token.id for piece, _ in pieces for token in backend.model.tokenize(piece)]


def loss_and_hits(network: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean cross entropy of the target tokens, and which of them are predicted right."""
    logits, goals = target_logits(network, batch), batch.targets[batch.targets >= 0]
    return F.cross_entropy(logits, goals), logits.argmax(-1) == goals


def target_logits(network: Any, batch: Batch) -> Tensor:
    """Logits [targets, vocabulary] of the tokens that have a target."""
    text = network.get_input_embeddings()(batch.tokens.clamp(min=0))
    embeds = torch.where((batch.tokens < 0)[..., None], batch.visual, text)
    hidden = network.model.language_model(
        inputs_embeds=embeds, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
    ).last_hidden_state
    logits: Tensor = network.lm_head(hidden[batch.targets >= 0])
    return logits


def _some(options: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    return [options[index] for index in rng.permutation(len(options))[:count]]


def answers_right(batch: Batch, hits: Tensor, stop: int) -> tuple[int, int]:
    """Number of questions answered without a mistake, and of questions, by teacher forcing."""
    is_target = batch.targets >= 0
    asked = batch.asked[is_target]
    stops = batch.targets[is_target][asked] == stop
    answer = torch.cat([stops.new_zeros(1), stops[:-1]]).cumsum(0)
    mistakes = torch.zeros(int(stops.sum())).index_add_(0, answer.cpu(), (~hits[asked]).float().cpu())
    return int((mistakes == 0).sum()), len(mistakes)
