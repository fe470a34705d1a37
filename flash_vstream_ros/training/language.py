"""Stage two of the training: the language model learns to answer from memory snapshots; the tower is frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing import get_context
from queue import Empty
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
EXAMPLES_PER_MESSAGE = 8  # sent through the pipe at once, so that its latency does not limit the rate
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
        self.middle = [*prompt.between, *plain_ids(tokenizer, prompt.instruction + "\n")]
        self.drills = drills
        self.age_ids = age_ids(self.ids, AGE_TEXT)
        self.stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
        self._ids: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._ids:
            self._ids[text] = plain_ids(self.tokenizer, text)
        return self._ids[text]

    def __call__(self, examples: Sequence[Example], asked: int, rng: np.random.Generator) -> Batch:
        rows = [self._row(example, asked, rng) for example in examples]
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

    def _row(
        self, example: Example, asked: int, rng: np.random.Generator
    ) -> tuple[list[int], list[int], list[int], Tensor, Tensor]:
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
        chosen, drilled = _some(example.questions, asked, rng), _some(example.drills, self.drills, rng)
        texts = [(branch, self._drill(drill)) for branch, drill in enumerate(drilled, 1)]
        texts += [(branch, self._question(question)) for branch, question in enumerate(chosen, self.drills + 1)]
        for branch, (text_tokens, goal) in texts:
            tokens += text_tokens
            goals += goal
            branches += [branch] * len(text_tokens)
            parts.append(torch.arange(following, following + len(text_tokens)).expand(3, -1))
        return tokens, goals, branches, torch.cat(parts, 1), seen[index]

    def _question(self, question: Question) -> tuple[list[int], list[int]]:
        """Tokens, and the target of each."""
        before = [*self.ids(question.text), *self.prompt.closing]
        answer = [*self.ids(question.answer), self.stop]
        return before + answer[:-1], [-100] * (len(before) - 1) + answer

    def _drill(self, drill: Drill) -> tuple[list[int], list[int]]:
        tokens: list[int] = []
        goals: list[int] = []
        for cue, answer in drill:
            tokens += [*self.ids(cue), *self.ids(answer)]
            goals += [-100] * (len(self.ids(cue)) - 1) + [*self.ids(answer), -100]
        return tokens, goals


def loss_and_hits(network: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Mean cross entropy of the target tokens, and which of them are predicted right."""
    text = network.get_input_embeddings()(batch.tokens.clamp(min=0))
    embeds = torch.where((batch.tokens < 0)[..., None], batch.visual, text)
    hidden = network.model.language_model(
        inputs_embeds=embeds, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
    ).last_hidden_state
    is_target = batch.targets >= 0
    logits, goals = network.lm_head(hidden[is_target]), batch.targets[is_target]
    return F.cross_entropy(logits, goals), logits.argmax(-1) == goals


def _some(options: Sequence[T], count: int, rng: np.random.Generator) -> list[T]:
    return [options[index] for index in rng.permutation(len(options))[:count]]


class Pool:
    """The newest `size` examples, generated by a child process; each is drawn about once, at random."""

    def __init__(
        self,
        make: Callable[[], Iterator[Example]],
        examples: Sequence[Example] = (),
        size: int = 4000,
        first: int = 600,
    ) -> None:
        context = get_context("fork")
        self._queue: Any = context.Queue(maxsize=8)
        self._size, self._first = size, first
        self.examples = [*examples]
        self.made = self._drawn = 0
        self._maker = context.Process(target=_make, args=(make, self._queue), daemon=True)
        self._maker.start()

    def draw(self, count: int, rng: np.random.Generator) -> list[Example]:
        """Examples of similar length, so that a batch has little padding."""
        # Generate no more than are drawn, since the child process shares the cores with the training.
        while (len(self.examples) < self._first or self.made <= self._drawn) and self._receive():
            pass
        self._drawn += count
        wanted = _visual_tokens(self.examples[rng.integers(len(self.examples))])
        some = rng.choice(len(self.examples), min(8 * count, len(self.examples)), replace=False)
        nearest = sorted(some.tolist(), key=lambda i: abs(_visual_tokens(self.examples[i]) - wanted))[:count]
        return [self.examples[i] for i in nearest]

    def close(self) -> None:
        self._maker.terminate()

    def _receive(self) -> bool:
        """Receive examples; False if none are ready and those stored suffice."""
        enough = len(self.examples) >= self._first
        try:
            for parts in self._queue.get(block=not enough, timeout=10):
                self._keep(_unpacked(parts))
        except Empty:
            if not self._maker.is_alive():
                raise RuntimeError("the process that generates examples has died; see its output above") from None
            return not enough
        return True

    def _keep(self, example: Example) -> None:
        if len(self.examples) < self._size:
            self.examples.append(example)
        else:
            self.examples[self.made % self._size] = example
        self.made += 1


def _visual_tokens(example: Example) -> int:
    return len(example.dam) * HIGH.rows * HIGH.columns + len(example.csm) * LOW.rows * LOW.columns


def _make(make: Callable[[], Iterator[Example]], queue: Any) -> None:
    torch.set_num_threads(1)
    endless = (example for example in make() if example.questions)
    while examples := [*islice(endless, EXAMPLES_PER_MESSAGE)]:
        queue.put([tuple(part.numpy() if isinstance(part, Tensor) else part for part in one) for one in examples])


def _unpacked(parts: tuple[Any, ...]) -> Example:
    unpacked: list[Any] = [torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in parts]
    return Example(*unpacked)


def answers_right(batch: Batch, hits: Tensor, stop: int) -> tuple[int, int]:
    """Number of questions answered without a mistake, and of questions, by teacher forcing."""
    is_target = batch.targets >= 0
    asked = batch.asked[is_target]
    stops = batch.targets[is_target][asked] == stop
    answer = torch.cat([stops.new_zeros(1), stops[:-1]]).cumsum(0)
    mistakes = torch.zeros(int(stops.sum())).index_add_(0, answer.cpu(), (~hits[asked]).float().cpu())
    return int((mistakes == 0).sum()), len(mistakes)
