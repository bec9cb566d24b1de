"""Training speed and memory of causal language modelling on chats: rows of very different lengths, each by itself.

    python benchmarks/chats_step.py --rounds 5

lit_ft and Hugging Face's Trainer train on the same random batches in the same order from the same weights, without
dropout, each in a process of its own; the losses of all steps are compared. The Trainer with `group_by_length` trains
on the same rows in batches of its own: steps are drawn evenly from 50 batches, over which it groups, from the longest
to the shortest, so that few steps stand for an epoch.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from causal_lm_step import ALLOWED, MODEL, REFERENCE
from corpus import own_model, write_documents
from harness import OURS, Measured, Report, work_folder
from text_training import (
    WARMUP_STEPS,
    Side,
    TextWork,
    by_lightning,
    by_trainer,
    comparisons,
    cost_of,
    measure,
    process_notes,
    step_parser,
)
from workload import describe_lengths

if TYPE_CHECKING:
    from lit_ft import CausalLMDataModule

GROUPED, OURS_PADDED = "Trainer, group_by_length", "lit_ft, padding_free off"
MEAN_WORDS, SPREAD = 150, 0.75
"""Of a chat: some 180 tokens of SmolLM2, median 140, 5 % over 450, as instructions of Alpaca with their answers."""
SEED = 2
"""Its few hundred chats are about as long as all (mean 179); those of seed 1 are short (165)."""
GROUPED_BATCHES = 50
"""Batches that the Trainer groups over."""


def data_module(work: TextWork, **options: Any) -> "CausalLMDataModule":
    """Makes lit_ft's data module: a row for each document, in order."""
    from lit_ft import CausalLMDataModule

    return CausalLMDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        packing="none",
        block_size=work.block_size,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
        **options,
    )


def ours(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft."""
    from lit_ft import CausalLMModule

    return by_lightning(work, CausalLMModule(model_name_or_path=work.model), data_module(work))


def ours_padded(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft, computing on padding."""
    from lit_ft import CausalLMModule

    module = CausalLMModule(model_name_or_path=work.model, padding_free="off")
    return by_lightning(work, module, data_module(work, isolate_documents=False))


def collator(work: TextWork) -> Any:
    """Makes the collator that pads rows and labels to the longest of a batch."""
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq

    tokenizer = AutoTokenizer.from_pretrained(work.model, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return DataCollatorForSeq2Seq(tokenizer)


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with the Trainer on the same batches."""
    from transformers import AutoModelForCausalLM

    return by_trainer(work, AutoModelForCausalLM, collator(work))


def grouped(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with the Trainer on the same rows, grouped by length."""
    from transformers import AutoModelForCausalLM

    return by_trainer(work, AutoModelForCausalLM, collator(work), "grouped")


def grouped_batches(lengths: list[int], batch_size: int, steps: int, seed: int) -> list[list[int]]:
    """Draws batches out of those that `group_by_length` makes, evenly from the longest to the shortest.

    Args:
        lengths: of the rows of `GROUPED_BATCHES` batches, `[rows]`.
        batch_size: rows of a batch.
        steps: batches to draw.
        seed: of the Trainer's order, and of that of the batches.

    Returns:
        Numbers of the rows of each batch, in a random order of batches.
    """
    import torch
    from transformers.trainer_pt_utils import get_length_grouped_indices

    generator = torch.Generator().manual_seed(seed)
    order = get_length_grouped_indices(lengths, batch_size, GROUPED_BATCHES, generator)
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    drawn = [batches[int((number + 0.5) * len(batches) / steps)] for number in range(steps)]
    return [drawn[number] for number in np.random.default_rng(seed).permutation(steps)]


def write_rows(work: TextWork, source: str, words: float) -> tuple[str, str]:
    """Writes the rows of the steps for lit_ft, and saves them as it prepares them for both of the Trainer's orders.

    Args:
        work: what the sides are told.
        source: text file that the words are of.
        words: mean length of a chat.

    Returns:
        What was found equal, and how long the rows are.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer

    pool, tokenizer = work.folder / "pool.jsonl", AutoTokenizer.from_pretrained(work.model)
    warmup, needed = WARMUP_STEPS * work.batch_size, (WARMUP_STEPS + GROUPED_BATCHES) * work.batch_size
    write_documents(pool, source, round(2 * needed * words), work.seed, words, SPREAD)
    texts = [json.loads(line)["text"] for line in pool.read_text(encoding="utf-8").splitlines()]
    fitting = [(text, size) for text in texts if (size := len(tokenizer(text)["input_ids"])) < work.block_size]
    if len(fitting) < needed:
        raise RuntimeError(f"of {len(texts)} chats only {len(fitting)} fit into {work.block_size} tokens")
    lengths = [size for _, size in fitting[warmup:needed]]
    batches = [
        [warmup + row for row in batch] for batch in grouped_batches(lengths, work.batch_size, work.steps, work.seed)
    ]
    rows = [row for batch in batches for row in batch]
    shuffled = np.random.default_rng(work.seed).permutation(rows).tolist()
    order = [*range(warmup), *shuffled]
    with work.file.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": fitting[row][0]}) + "\n" for row in order)
    data = data_module(work)
    data.prepare_data()
    data.setup("fit")
    prepared = data.features["train"][""]
    ids = [prepared[place]["input_ids"].tolist() for place in range(len(prepared))]
    place = {row: number for number, row in enumerate(order)}
    for name, chosen in {"theirs": order, "grouped": [*range(warmup), *rows]}.items():
        saved = [ids[place[row]] for row in chosen]
        Dataset.from_dict({"input_ids": saved, "labels": saved}).save_to_disk(str(work.folder / name))
    return check_batches(data, work), describe_lengths([len(each) for each in ids])


def check_batches(data: "CausalLMDataModule", work: TextWork) -> str:
    """Compares lit_ft's batches with the Trainer's.

    Raises:
        RuntimeError: tokens, or what is to be predicted, differ.
    """
    import torch
    from datasets import load_from_disk

    rows, collate = load_from_disk(str(work.folder / "theirs")), collator(work)
    for number, mine in enumerate(data.train_dataloader()):
        numbers = range(number * work.batch_size, (number + 1) * work.batch_size)
        other = collate([rows[row] for row in numbers])
        real = other["attention_mask"].bool()
        tokens = mine["input_ids"].shape == real.shape and torch.equal(
            mine["input_ids"][real], other["input_ids"][real]
        )
        if not tokens or not torch.equal(mine["labels"][:, 1:], other["labels"][:, 1:]):
            raise RuntimeError(f"batch {number} differs between {OURS} and {REFERENCE}")
    return f"token ids and labels of all {len(rows)} rows are the same, batch by batch; lit_ft's have {', '.join(mine)}"


def sides() -> dict[str, Side]:
    """Returns the contestants."""
    return {OURS: ours, REFERENCE: theirs, GROUPED: grouped, OURS_PADDED: ours_padded}


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    made = step_parser(__doc__, steps=10)
    made.set_defaults(model=MODEL, seed=SEED)
    made.add_argument("--batch_size", type=int, default=8)
    made.add_argument("--block_size", type=int, default=1024, help="most tokens of a row (default 1024)")
    made.add_argument("--words", type=float, default=MEAN_WORDS, help=f"mean length of a chat (default {MEAN_WORDS})")
    options = made.parse_args(arguments)
    if not 1 <= options.steps <= GROUPED_BATCHES:
        made.error(f"--steps is {options.steps}; from 1 to the {GROUPED_BATCHES} batches that the Trainer groups over")
    return options


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    from training import compare_losses
    from transformers import AutoModelForCausalLM

    options = read_options(arguments)
    report = Report("chats_step", options)
    with work_folder(options) as folder:
        work = TextWork(
            own_model(options.model, folder / "model", AutoModelForCausalLM, options.seed, dropout=False),
            folder / "chats.jsonl",
            Path(folder),
            options.block_size,
            options.batch_size,
            options.steps,
            options.seed,
            options.accelerator,
            precision=options.precision,
        )
        work = replace(work, cost=cost_of(work.model, AutoModelForCausalLM))
        equal, lengths = write_rows(work, options.source, options.words)
        report.checks.append(equal)
        measured, losses, peak = measure(sides(), work, options, start_method)
    for mine, other in zip(losses[OURS], losses[REFERENCE], strict=True):
        said = compare_losses(mine, other, work.all_steps, ALLOWED[work.precision], "same batches")
    report.checks.append(f"{said}, in every round")
    tokens = {int(each["epoch_tokens"]) for rounds in measured.values() for each in rounds}
    if len(tokens) != 1:
        raise RuntimeError(f"the steps are not the same work: {sorted(tokens)} real tokens")
    report.checks.append(f"the steps of every side that count train on the same {tokens.pop():,} real tokens")
    report.comparisons = comparisons(measured, f"{options.batch_size} chats")
    padding = ", ".join(f"{name} {rounds[0]['padding']:.2f}" for name, rounds in measured.items())
    report.notes += [
        lengths,
        f"tokens of the batches, as they are padded, per real token: {padding}",
        *process_notes(measured, work),
        peak,
    ]
    return report.write()


if __name__ == "__main__":
    main()
