"""Steps of an adapter under lit_ft and under TRL's trainers: the same weights to begin with, the same report."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from causal_lm_step import MODEL
from corpus import own_model
from harness import Measured, Report
from processes import status
from text_training import (
    LIBRARIES,
    WARMUP_STEPS,
    Side,
    TextWork,
    process_notes,
    step_comparisons,
    step_parser,
    train_in_turn,
)

OURS_PADDED = "lit_ft, padding_free off"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
ALLOWED = {"32-true": 1e-4, "bf16-mixed": 3e-2}
MEAN_WORDS, SPREAD, ASKED = 150, 0.75, 0.25
"""Words of a conversation, as instructions of Alpaca with their answers; the share that is asked."""


def adapter_parser(doc: str | None, steps: int) -> argparse.ArgumentParser:
    """Makes the command line of a benchmark of adapters; see `step_parser`."""
    made = step_parser(doc, steps)
    made.set_defaults(model=MODEL)
    made.add_argument("--train_file", help="rows of your own, in any format that lit_ft knows")
    made.add_argument("--batch_size", type=int, default=4)
    made.add_argument("--block_size", type=int, default=1024, help="most tokens of a row (default 1024)")
    made.add_argument("--words", type=float, default=MEAN_WORDS, help=f"mean length of a row (default {MEAN_WORDS})")
    return made


def adapter_work(options: argparse.Namespace, folder: Path) -> TextWork:
    """Makes what both sides are told, and the adapter that both begin with."""
    from transformers import AutoModelForCausalLM

    model = own_model(options.model, folder / "model", AutoModelForCausalLM, options.seed, dropout=False)
    write_adapter(model, folder / "adapter", options.seed)
    return TextWork(
        model,
        Path(options.train_file or folder / "rows.jsonl"),
        Path(folder),
        options.block_size,
        options.batch_size,
        options.steps,
        options.seed,
        options.accelerator,
        precision=options.precision,
    )


def write_adapter(model: str, folder: Path, seed: int) -> None:
    """Saves a fresh adapter."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    get_peft_model(made, LoraConfig(task_type="CAUSAL_LM", **LORA)).save_pretrained(str(folder))


def by_trl(work: TextWork, kind: str, **settings: Any) -> tuple[Measured, list[float]]:
    """Trains with one of TRL's trainers on the rows in `theirs`, which are token ids already, in their order.

    Args:
        work: what it is told.
        kind: `SFT` or `DPO`.
        settings: further settings of that trainer.
    """
    import torch
    import trl
    from datasets import load_from_disk
    from peft import PeftModel
    from training import HuggingFaceMeter, Meter, usual_settings
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded, meter = status("self", "RssAnon"), Meter(WARMUP_STEPS)

    class Counting(getattr(trl, f"{kind}Trainer")):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            meter.count(inputs)
            loss = super().training_step(model, inputs, num_items_in_batch)
            meter.loss(loss)
            return loss

    arguments = getattr(trl, f"{kind}Config")(
        str(work.folder / "trl"),
        max_steps=work.all_steps,
        learning_rate=5e-5,
        lr_scheduler_type="linear",
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        max_length=None,  # rows are cut already
        **usual_settings(work),
        **settings,
    )
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)
    Counting(
        model=PeftModel.from_pretrained(model, str(work.folder / "adapter"), is_trainable=True),
        args=arguments,
        train_dataset=load_from_disk(str(work.folder / "theirs")),
        processing_class=AutoTokenizer.from_pretrained(work.model),
        callbacks=[HuggingFaceMeter(meter)],
    ).train()
    return {**meter.measured(), LIBRARIES: loaded}, [float(loss) for loss in meter.losses]


def run(
    report: Report, sides: Mapping[str, Side], work: TextWork, options: argparse.Namespace, start_method: str, name: str
) -> dict[str, Any]:
    """Trains in turn, compares the losses of all sides step by step, writes the report."""
    from training import compare_losses

    measured, losses = train_in_turn(sides, work, options, start_method)
    for mine, *others in zip(*losses.values(), strict=True):
        for other in others:
            said = compare_losses(mine, other, work.all_steps, ALLOWED[work.precision], "same batches")
    report.checks.append(f"{said}, in every round, of all sides")
    report.comparisons = step_comparisons(measured, name)
    padding = ", ".join(f"{side} {rounds[0]['padding']:.2f}" for side, rounds in measured.items())
    report.notes += [
        f"LoRA of rank {LORA['r']} in all linear layers, from the same weights; no dropout",
        f"tokens of the batches, as they are padded, per real token: {padding}",
        *process_notes(measured, work),
    ]
    return report.write()
