"""Stage one of the training: the vision tower learns to classify observations at both resolutions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flash_vstream_ros.demo.world import COLOURS, KINDS, ROOMS
from flash_vstream_ros.models.preprocess import POOL, normalise, patchify

from .network import encode_batch
from .observations import GROUP, Label, Observations

TARGETS = {
    "room": len(ROOMS),
    "corner": 3,
    "colour": len(COLOURS) + 1,
    "kind": len(KINDS) + 1,
    "thing": len(COLOURS) * len(KINDS) + 1,
    "person": 2,
}
BATCH, RATE, REPORT_STEPS = 48, 1e-3, 20
BRIGHTNESS = (0.55, 1.45)  # range of factors on the frames of a slot
AS_RENDERED = 0.4  # share of the slots with factor 1


def brightness(count: int, draw: np.random.Generator) -> np.ndarray:
    """Random factors [count] for the brightness of slots."""
    return np.where(draw.random(count) < AS_RENDERED, 1.0, draw.uniform(*BRIGHTNESS, count))


def brightened(frames: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply the slots of frames [slots, 2, SIDE, SIDE, 3] uint8 by factors [slots]."""
    return np.clip(frames * factors.astype(np.float32)[:, None, None, None, None], 0, 255).astype(np.uint8)


def patch_rows(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Convert frames [slots, 2, SIDE, SIDE, 3] uint8 to patch rows [slots, patches, features]: high, then low."""
    high = normalise(frames.flatten(0, 1).permute(0, 3, 1, 2))
    parts = (patchify(image, 14, 2, 2) for image in (high, F.avg_pool2d(high, POOL)))
    first, second = (part.view(len(frames), -1, part.shape[-1]) for part in parts)
    return first, second


class Heads(nn.Module):
    """A linear classifier per target, applied to every merged token.

    So each token learns to represent the whole slot, and the language model finds a thing and its room in one token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name, classes in TARGETS.items()})

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Logits [slots, tokens, classes] of each target; `tokens` are [slots, tokens, width]."""
        return {name: head(tokens) for name, head in self.heads.items()}


def targets(labels: np.ndarray) -> dict[str, Tensor]:
    """Classes [slots] of each target."""
    column = {name: torch.from_numpy(labels[:, i]) for i, name in enumerate(Label._fields)}
    column["corner"] = column["corner"] + 1
    column["thing"] = (column["colour"] - 1) * len(KINDS) + column["kind"]
    column["thing"][column["kind"] == 0] = 0
    return {name: column[name] for name in TARGETS}


def train_vision(
    network: Any,
    observations: Observations,
    steps: int,
    seed: int,
    device: torch.device,
    report: Callable[[int, float], None],
    stored: dict[str, Any] | None = None,
    store: Callable[[dict[str, Any]], None] = lambda state: None,
) -> dict[str, float]:
    """Train tower and merger in place. Returns accuracies per target and resolution on held-out observations.

    `store` gets the state every REPORT_STEPS steps. `stored` is such a state, from which the training continues.
    """
    visual = network.model.visual
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = Heads(network.config.text_config.hidden_size).to(device)
    parameters = [*visual.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, RATE, betas=(0.9, 0.98), weight_decay=0.01)
    begin = 0
    if stored:
        visual.load_state_dict(stored["visual"])
        heads.load_state_dict(stored["heads"])
        optimiser.load_state_dict(stored["optimiser"])
        begin = stored["step"]
    everything = targets(observations.labels)
    held_out = observations.labels[:, GROUP] % 20 == 0
    on_route = observations.labels[:, Label._fields.index("corner")] < 0
    train, routes = np.flatnonzero(~held_out & ~on_route), np.flatnonzero(~held_out & on_route)
    losses = []
    for step in range(begin, steps):
        # Each step has its own generator, so that a resumed run draws the same as an uninterrupted one.
        draw = np.random.default_rng((seed, step))
        for group in optimiser.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        chosen = np.concatenate([draw.choice(train, BATCH - 4), draw.choice(routes, 4)])
        frames = torch.from_numpy(brightened(observations.frames[chosen], brightness(BATCH, draw))).to(device)
        loss = _loss(visual, heads, frames, {name: values[chosen].to(device) for name, values in everything.items()})
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % REPORT_STEPS == 0 or step == steps - 1:
            report(step + 1, float(np.mean(losses)))
            losses = []
            store(
                {
                    "step": step + 1,
                    "visual": visual.state_dict(),
                    "heads": heads.state_dict(),
                    "optimiser": optimiser.state_dict(),
                }
            )
    return _accuracy(visual, heads, observations, np.flatnonzero(held_out), everything, device)


def rate_at(step: int, steps: int, warm_up: int = 100) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min((step - warm_up) / max(steps - warm_up, 1), 1.0)))


def _loss(visual: Any, heads: Heads, frames: Tensor, wanted: dict[str, Tensor]) -> Tensor:
    """Loss of frames [slots, 2, SIDE, SIDE, 3] uint8: cross entropy of all targets at both resolutions."""
    _, low, high = encode_batch(visual, *patch_rows(frames))
    predicted = [(name, logits) for part in (low, high) for name, logits in heads(part).items()]
    loss = torch.stack([_cross_entropy(logits, wanted[name]) for name, logits in predicted]).sum()
    # Features of unit variance suit the language model and keep Ward's distances comparable.
    return loss + 0.05 * sum((part.square().mean() - 1).square() for part in (low, high))


def _cross_entropy(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean cross entropy of logits [slots, tokens, classes] for the classes of the slots (`wanted`)."""
    return F.cross_entropy(logits.flatten(0, 1), wanted.repeat_interleave(logits.shape[1]))


@torch.no_grad()
def _accuracy(
    visual: Any,
    heads: Heads,
    observations: Observations,
    chosen: np.ndarray,
    wanted: dict[str, Tensor],
    device: torch.device,
) -> dict[str, float]:
    hits: dict[str, list[float]] = {}
    for part in np.array_split(chosen, max(len(chosen) // 64, 1)):
        _, low, high = encode_batch(visual, *patch_rows(torch.from_numpy(observations.frames[part]).to(device)))
        for resolution, tokens in (("low", low), ("high", high)):
            for name, logits in heads(tokens).items():
                right = (logits.argmax(-1).cpu() == wanted[name][part, None]).float()
                hits.setdefault(f"{resolution} {name}", []).append(float(right.mean(1).mean()))
    return {name: float(np.mean(values)) for name, values in hits.items()}
