"""Training speed and memory of an adapter that learns replies: lit_ft under Lightning against TRL's SFTTrainer.

    python benchmarks/replies_step.py --rounds 5
    python benchmarks/replies_step.py --rounds 5 --packing best_fit --batch_size 1

Both train the same LoRA on the same conversations in the same order, on the tokens of replies alone, each side in a
process of its own; the losses of all steps are compared. TRL gets the token ids and labels that lit_ft made, packed
rows as its own `padding_free` takes them: with PyTorch's attention, as lit_ft's, for FlashAttention needs a GPU.
"""

import argparse
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from adapter_training import ASKED, OURS_PADDED, SPREAD, adapter_parser, adapter_work, by_trl, run
from corpus import write_documents
from harness import OURS, Measured, Report, work_folder
from text_training import Side, TextWork, by_lightning
from workload import describe_lengths

if TYPE_CHECKING:
    from lit_ft import InstructionTuningDataModule

REFERENCE = "TRL's SFTTrainer"


def data_module(work: TextWork) -> "InstructionTuningDataModule":
    """Makes lit_ft's data module: the conversations, in order."""
    from lit_ft import InstructionTuningDataModule

    return InstructionTuningDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        chat_template="chatml",
        packing="best_fit" if work.isolated else "none",
        max_seq_length=work.block_size,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
    )


def ours(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft."""
    from lit_ft import InstructionTuningModule

    module = InstructionTuningModule(model_name_or_path=work.model, peft=str(work.folder / "adapter"))
    return by_lightning(work, module, data_module(work))


def ours_padded(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft, computing on padding."""
    from lit_ft import InstructionTuningModule

    adapter = str(work.folder / "adapter")
    module = InstructionTuningModule(model_name_or_path=work.model, peft=adapter, padding_free="off")
    return by_lightning(work, module, data_module(work))


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with TRL."""
    return by_trl(work, "SFT", padding_free=work.isolated, dataset_kwargs={"skip_prepare_dataset": True})


def write_rows(work: TextWork, options: argparse.Namespace) -> str:
    """Writes the conversations, prepares them with lit_ft, saves the same tokens for TRL; says how long they are."""
    from datasets import Dataset

    needed = work.all_steps * work.batch_size
    if options.train_file is None:
        count = needed * (2 * round(work.block_size / options.words) if work.isolated else 1)
        write_chats(work, options, max(count, needed))
    data = data_module(work)
    data.prepare_data()
    data.setup("fit")
    store = data.features["train"][""]
    if len(store) < needed:
        raise RuntimeError(f"{len(store)} rows of conversations are too few for {needed}")
    rows = [store[place] for place in range(needed)]
    columns = {
        "input_ids": [row["input_ids"].tolist() for row in rows],
        "labels": [np.where(row["learned"] > 0, row["input_ids"], -100).tolist() for row in rows],
    }
    if work.isolated:
        columns["seq_lengths"] = [row["documents"].tolist() for row in rows]
    Dataset.from_dict(columns).save_to_disk(str(work.folder / "theirs"))
    learned = sum(int((row["learned"] > 0).sum()) for row in rows) / sum(len(row["input_ids"]) for row in rows)
    return f"{describe_lengths([len(row['input_ids']) for row in rows])}; {learned:.0%} of the tokens are of replies"


def write_chats(work: TextWork, options: argparse.Namespace, count: int) -> None:
    """Writes conversations of a prompt and a reply."""
    pool = work.folder / "pool.jsonl"
    write_documents(pool, options.source, round(2 * count * options.words), work.seed, options.words, SPREAD)
    with work.file.open("w", encoding="utf-8") as file:
        for line in pool.read_text(encoding="utf-8").splitlines()[:count]:
            words = json.loads(line)["text"].split()
            asked = max(round(ASKED * len(words)), 1)
            row = {"prompt": " ".join(words[:asked]), "completion": " ".join(words[asked:]) or "Yes."}
            file.write(json.dumps(row) + "\n")


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    from dataclasses import replace

    made = adapter_parser(__doc__, steps=8)
    made.add_argument(
        "--packing", choices=["none", "best_fit"], default="none", help="whether conversations share rows"
    )
    options = made.parse_args(arguments)
    report = Report("replies_step", options)
    with work_folder(options) as folder:
        work = replace(adapter_work(options, folder), isolated=options.packing == "best_fit")
        report.notes.append(write_rows(work, options))
        sides: dict[str, Side] = {OURS: ours, REFERENCE: theirs}
        if not work.isolated:  # rows of several conversations are never computed with padding
            sides[OURS_PADDED] = ours_padded
        return run(report, sides, work, options, start_method, f"{work.batch_size} rows of chats")


if __name__ == "__main__":
    main()
