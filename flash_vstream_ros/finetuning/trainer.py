"""Trains LoRA adapters of the language model with transformers' Trainer."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from flash_vstream_ros.models.interface import ModelError
from flash_vstream_ros.models.qwen2_vl import Qwen2VL

from .plan import Plan
from .prompts import Prompts, collated

STATE = "trainer_state.json"  # written last, so a checkpoint with it is complete
KEPT_CHECKPOINTS = 2
ADAM_BETA2 = 0.95  # as published
WAIT_S = 86_400  # longest wait of a process for the others, which may have longer videos
OnStep = Callable[[int, int, float], None]  # steps done, all steps, loss


class Point(NamedTuple):
    """Losses after a step; None: not measured there."""

    step: int
    loss: float | None
    held_out_loss: float | None


def train(
    model: Qwen2VL,
    plan: Plan,
    examples: Prompts,
    held_out: Prompts,
    folder: Path,
    base: str,
    gradient_checkpointing: bool,
    on_step: OnStep,
) -> list[Point]:
    """Train an adapter of `model`, and save it in `folder` as one of the model `base`. Returns the loss curve.

    Checkpoints are in `folder`/checkpoints; training resumes from the last complete one. Afterwards `model` has the
    adapter in its network. Raises ModelError if the loss is not finite.
    """
    checkpoints = folder / "checkpoints"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Trainer and peft use old names of transformers
        set_seed(plan.seed)  # initial weights of the adapter
        network = adapted(model, plan)
        trainer = Trainer(
            model=network,
            args=_arguments(model, plan, checkpoints, bool(len(held_out)), gradient_checkpointing),
            train_dataset=examples,
            eval_dataset=held_out if len(held_out) else None,
            data_collator=collated,
            callbacks=[_Steps(on_step)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=_last_complete(checkpoints))
    model.network.eval()
    if trainer.is_world_process_zero():
        network.peft_config["default"].base_model_name_or_path = base
        network.save_pretrained(str(folder), save_embedding_layers=False)
    trainer.accelerator.wait_for_everyone()
    return curve(trainer.state.log_history)


def adapted(model: Qwen2VL, plan: Plan) -> Any:
    """The network of `model` with untrained adapters in all linear layers of its language model."""
    layers = [
        f"model.language_model.{name}"
        for name, layer in model.network.model.language_model.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    settings = LoraConfig(r=plan.rank, lora_alpha=plan.alpha, lora_dropout=plan.dropout, target_modules=layers)
    return get_peft_model(model.network, settings)


def curve(history: Sequence[dict[str, Any]]) -> list[Point]:
    """The losses in the log of a Trainer."""
    return [
        Point(int(entry["step"]), entry.get("loss"), entry.get("eval_loss"))
        for entry in history
        if "loss" in entry or "eval_loss" in entry
    ]


def _arguments(
    model: Qwen2VL, plan: Plan, checkpoints: Path, has_held_out: bool, gradient_checkpointing: bool
) -> TrainingArguments:
    if model.device.type == "cuda":
        torch.cuda.set_device(model.device)  # the Trainer trains on the current device
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=plan.epochs,
        learning_rate=plan.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=plan.warmup,
        weight_decay=plan.weight_decay,
        adam_beta2=ADAM_BETA2,
        per_device_train_batch_size=plan.device_batch,
        per_device_eval_batch_size=plan.device_batch,
        gradient_accumulation_steps=plan.accumulation(PartialState().num_processes),
        gradient_checkpointing=gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=model.dtype == torch.bfloat16,
        fp16=model.dtype == torch.float16,
        use_cpu=model.device.type == "cpu",
        seed=plan.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=plan.save_steps,
        save_total_limit=KEPT_CHECKPOINTS,
        eval_strategy="epoch" if has_held_out else "no",
        eval_on_start=has_held_out,
        prediction_loss_only=True,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=False,  # prompts are on the device already
        ddp_find_unused_parameters=False,
        ddp_timeout=WAIT_S,
        disable_tqdm=True,
        report_to="none",
    )
    # One process trains on one device: the model is there already. Several GPUs: `accelerate launch`.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def _last_complete(checkpoints: Path) -> str | None:
    """The newest complete checkpoint; an incomplete one is of a save that was interrupted, and is deleted."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    complete = [path for path in found if (path / STATE).is_file()]
    for path in set(found) - set(complete):
        shutil.rmtree(path, ignore_errors=True)
    return str(complete[-1]) if complete else None


class _Steps(TrainerCallback):
    """Reports the steps, and stops at a loss that is not finite."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        if not torch.tensor(loss).isfinite():
            raise ModelError(
                f"the loss of step {state.global_step} is {loss}: lower --learning-rate, or use dtype float32"
            )
        self._on_step(state.global_step, state.max_steps, loss)
