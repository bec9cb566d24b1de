"""Training speed and memory of masked language modelling: lit_ft under Lightning against Hugging Face's Trainer.

    python benchmarks/masked_lm_step.py --rounds 5

Both train on the same full blocks in the same order, each side in a process of its own; masks are drawn by chance on
both sides, 15 % of the tokens.
"""

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from corpus import own_model, write_text
from harness import OURS, Measured, Report, work_folder
from text_training import TextWork, by_lightning, by_trainer, comparisons, cost_of, measure, process_notes, step_parser

if TYPE_CHECKING:
    from lit_ft import MaskedLMDataModule

REFERENCE = "Trainer"
BYTES_PER_TOKEN = 8
"""More than any text has: so much of it is written that there are blocks enough."""
ALLOWED = 1e-4


def data_module(work: TextWork, **options: Any) -> "MaskedLMDataModule":
    """Makes lit_ft's data module: full blocks, in order."""
    from lit_ft import MaskedLMDataModule

    return MaskedLMDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        max_seq_length=work.block_size,
        drop_last=True,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
        **options,
    )


def ours(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft."""
    from lit_ft import MaskedLMModule

    return by_lightning(work, MaskedLMModule(model_name_or_path=work.model), data_module(work))


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with the Trainer and the collator of run_mlm."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling

    collator = DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(work.model))
    return by_trainer(work, AutoModelForMaskedLM, collator)


def write_blocks(work: TextWork) -> None:
    """Prepares the blocks with lit_ft, and saves the same as the script would have them."""
    from datasets import Dataset

    data = data_module(work)
    data.prepare_data()
    data.setup("fit")
    blocks, special = data.features["train"][""], set(data.tokenizer.all_special_ids)
    if len(blocks) < work.all_steps * work.batch_size:
        raise RuntimeError(f"{len(blocks)} blocks are fewer than {work.all_steps} steps of {work.batch_size}")
    ids = [blocks[number]["input_ids"].tolist() for number in range(len(blocks))]
    rows = {
        "input_ids": ids,
        "attention_mask": [[1] * len(each) for each in ids],
        "special_tokens_mask": [[int(token in special) for token in each] for each in ids],
    }
    Dataset.from_dict(rows).save_to_disk(str(work.folder / "theirs"))


def check(work: TextWork, steps: int) -> str:
    """Trains both on the same masked batches from the same weights, dropout off.

    Raises:
        RuntimeError: a loss differs by more than 1e-4.
    """
    import torch
    from lightning.pytorch import seed_everything
    from training import LightningMeter, Meter, compare_losses, hugging_face_trainer, lightning_trainer
    from transformers import AutoModelForMaskedLM

    from lit_ft import MaskedLMModule

    seed_everything(work.seed, verbose=False)
    data, mine, other = data_module(work, data_seed=work.seed), Meter(), Meter()
    trainer = lightning_trainer(work.accelerator, LightningMeter(mine), max_steps=steps)
    trainer.fit(MaskedLMModule(model_name_or_path=work.model), data)
    batches = list(islice(data.train_dataloader(), steps))
    model = AutoModelForMaskedLM.from_pretrained(work.model, dtype=torch.float32)
    hugging_face_trainer(work, model, work.folder, other, {"max_steps": steps}, batches=batches).train()
    return compare_losses(mine.losses, other.losses, steps, ALLOWED, "dropout off, same masked batches")


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    made = step_parser(__doc__, steps=10)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--max_seq_length", type=int, default=128)
    made.add_argument("--check_steps", type=int, default=3, help="steps whose losses must agree (default 3)")
    options = made.parse_args(arguments)
    report = Report("masked_lm_step", options)
    with work_folder(options) as folder:
        from transformers import AutoModelForMaskedLM

        models = [
            own_model(options.model, folder / str(on), AutoModelForMaskedLM, options.seed, on) for on in (False, True)
        ]
        work = TextWork(
            models[1],
            folder / "text.txt",
            folder,
            options.max_seq_length,
            options.batch_size,
            options.steps,
            options.seed,
            options.accelerator,
            cost=cost_of(models[1], AutoModelForMaskedLM),
            precision=options.precision,
        )
        write_text(work.file, options.source, work.tokens * BYTES_PER_TOKEN / 1e6, options.seed)
        write_blocks(work)
        report.checks.append(
            check(replace(work, model=models[0], precision="32-true"), min(options.check_steps, work.all_steps))
        )
        measured, _, peak = measure({OURS: ours, REFERENCE: theirs}, work, options, start_method)
    report.comparisons = comparisons(measured, f"{options.batch_size} x {options.max_seq_length} tokens")
    report.notes += [*process_notes(measured, work), peak, "dropout on, but in the check"]
    return report.write()


if __name__ == "__main__":
    main()
