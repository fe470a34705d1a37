"""The model `flash_vstream` of lmms-eval: the engine with its memory policy and prefix cache, or a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from lmms_eval.api.model import lmms
from loguru import logger

from flash_vstream_ros.cli.evaluate import frames_of
from flash_vstream_ros.evaluation.method_names import NO_VISION
from flash_vstream_ros.evaluation.methods import Method, Reply, method_of
from flash_vstream_ros.evaluation.sampled_video import SampledVideo
from flash_vstream_ros.models.load import load_model
from flash_vstream_ros.process import set_torch_threads

from .clip import Clip, clip_of
from .model_args import DEVICE, MAX_NEW_TOKENS, model_args


class _Open(NamedTuple):
    """The stream that is open, with the newest clip that a question was about."""

    clip: Clip
    video: SampledVideo
    method: Method


class FlashVStream(lmms):
    """Answers the questions of lmms-eval's tasks. Questions about the same video in a row share its memory.

    A question that cannot be answered gets an empty response and a line in the log.
    """

    is_simple = True

    def __init__(self, device: str | None = None, batch_size: int | str = 1, **given: Any) -> None:
        super().__init__()
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        if device is not None:
            given.setdefault(DEVICE, device)
        self._args = model_args(given, _device_of(self.accelerator) if self._world_size > 1 else None)
        self.batch_size = int(batch_size)
        settings = self._args.run.settings
        set_torch_threads(settings.torch_threads)
        self._vlm = load_model(**settings.model)
        self._open: _Open | None = None
        self._replies: list[Reply] = []
        self._failed = 0

    @property
    def device(self) -> torch.device:
        return self._vlm.device

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        raise NotImplementedError("flash_vstream generates answers; use a task with output_type generate_until")

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        answers = []
        for request in requests:
            context, options, visual_of, document, task, split = request.args
            visuals = visual_of(self.task_dict[task][split][document])
            answers.append(self._answer(visuals, context, options))
            self.cache_hook.add_partial("generate_until", (context, options), answers[-1])
        self._report()
        return answers

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[list[str]]:
        answers = [self._rounds(*request.args) for request in requests]
        self._report()
        return answers

    def _rounds(
        self,
        context: str,
        options: dict[str, Any],
        visual_of: Callable[..., Any],
        text_of: Callable[..., Any],
        document: int,
        task: str,
        split: str,
    ) -> list[str]:
        """The answers of all rounds. Before each further round, the task tells its visual input and its text."""
        fields = self.task_dict[task][split][document]
        answers = [self._answer(visual_of(fields), context, options)]
        info = None
        while True:
            visuals, text, is_last, so_far, info = text_of(
                fields, previous_output=answers, round_idx=len(answers), previous_round_info=info
            )
            answers = list(so_far)
            if is_last:
                self.cache_hook.add_partial("generate_until_multi_round", (context, options), answers)
                return answers
            answers.append(self._answer(visuals, text, options))

    def _answer(self, visuals: Any, text: str, options: dict[str, Any]) -> str:
        if options.get("do_sample") and options.get("temperature"):
            raise ValueError("flash_vstream decodes greedily: remove do_sample and temperature from generation_kwargs")
        tokens = int(options.get("max_new_tokens", MAX_NEW_TOKENS))
        try:
            reply = self._reply(
                clip_of(visuals, self._args.run.frames_fps), text.replace("<image>", "").strip(), tokens
            )
        except (RuntimeError, OSError, ValueError) as error:
            self._close()
            reply = Reply("", str(error) or type(error).__name__)
        if reply.error:
            self._failed += 1
            logger.error(f"flash_vstream: no answer: {reply.error}")
        self._replies.append(reply)
        return _until(reply.text, options.get("until") or ())

    def _reply(self, clip: Clip | None, text: str, tokens: int) -> Reply:
        if clip is None:
            nothing = SampledVideo(lambda _: (), Path("no video"), self._args.run.fps)
            return method_of(NO_VISION, self._vlm, self._args.run.engine, nothing).ask(0, text, tokens)
        opened = self._stream(clip)
        frames = opened.video.count_until(clip.end_s)
        return opened.method.locate(frames, text) if clip.locate else opened.method.ask(frames, text, tokens)

    def _stream(self, clip: Clip) -> _Open:
        """The stream of a clip: the open one, unless it is another or has gone on beyond the clip's end."""
        if self._open is None or self._open.clip.stream != clip.stream or self._open.clip.end_s > clip.end_s:
            self._close()
            run = self._args.at_rate_of(clip)
            open_video = clip.open_video or partial(frames_of, frames_fps=run.frames_fps)
            video = SampledVideo(open_video, clip.video, run.fps, clip.start_s)
            try:
                method = method_of(self._args.method, self._vlm, run.engine, video)
            except BaseException:
                video.close()
                raise
            self._open = _Open(clip, video, method)
        self._open = self._open._replace(clip=clip)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.method.close()
            self._open.video.close()
            self._open = None

    def _report(self) -> None:
        """Log what the answers took, and close the stream."""
        self._close()
        first_ms = [1e3 * reply.first_token_s for reply in self._replies if reply.first_token_s]
        logger.info(
            f"flash_vstream ({self._args.method}): {len(self._replies)} answers, {self._failed} failed; "
            f"first token {median(first_ms or [0.0]):.3g} ms (median); visual tokens "
            f"{max((reply.memory_tokens for reply in self._replies), default=0)}; prompt tokens from the prefix cache "
            f"{sum(reply.cached_tokens for reply in self._replies)}"
        )


def _until(text: str, stops: str | Sequence[str]) -> str:
    """The text up to the first of some stop strings."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop)[0] if stop else text
    return text


def _device_of(accelerator: Accelerator) -> str:
    """The device of one of several processes."""
    return f"cuda:{accelerator.local_process_index}" if torch.cuda.is_available() else "cpu"
