"""Training speed and memory of DPO with an adapter: lit_ft under Lightning against TRL's DPOTrainer.

    python benchmarks/preferences_step.py --rounds 5

Both train the same LoRA on the same pairs of replies in the same order, each side in a process of its own; what the
adapter is compared with is the model without it, asked at each step. The losses of all steps are compared. TRL gets the
token ids that lit_ft made. Pairs that are longer than `--block_size` are left out.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from adapter_training import ASKED, LORA, SPREAD, adapter_parser, adapter_work, by_trl, run
from corpus import write_documents
from harness import OURS, Measured, Report, work_folder
from text_training import TextWork, by_lightning
from workload import describe_lengths

if TYPE_CHECKING:
    from lit_ft import PreferenceDataModule

REFERENCE = "TRL's DPOTrainer"
ENOUGH = 4
"""Rows that are read for each one that is used: some are left out."""


def data_module(work: TextWork) -> "PreferenceDataModule":
    """Makes lit_ft's data module: the pairs, in order."""
    from lit_ft import PreferenceDataModule

    return PreferenceDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        chat_template="chatml",
        max_seq_length=work.block_size,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
        max_train_samples=ENOUGH * work.all_steps * work.batch_size,
        sample_head=True,
        on_bad_rows={"cut": "drop"},  # of a row whose prompt fills it, TRL would compare prompts
    )


def ours(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft.

    With the saved adapter as `peft`, the reference would be that adapter, and be computed before the first step.
    """
    from safetensors.torch import load_file

    from lit_ft import PreferenceModule

    class SameBeginning(PreferenceModule):
        def build(self) -> Any:
            model = super().build()
            saved = load_file(work.folder / "adapter" / "adapter_model.safetensors")
            named = {name.removeprefix("base_model.model."): value for name, value in saved.items()}
            named = {name.replace(".weight", ".default.weight"): value for name, value in named.items()}
            if model.load_state_dict(named, strict=False).unexpected_keys:
                raise RuntimeError("the adapter does not fit")
            return model

    module = SameBeginning(model_name_or_path=work.model, peft={"peft_type": "LORA", **LORA})
    return by_lightning(work, module, data_module(work))


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with TRL."""
    return by_trl(work, "DPO")


def write_pairs(file: Path, source: str, count: int, words: float, seed: int) -> None:
    """Writes prompts with two replies each: the rest of a text, and the rest of another one."""
    pool = file.with_name("pool.jsonl")
    write_documents(pool, source, round(2 * (count + 1) * words), seed, words, SPREAD)
    texts = [json.loads(line)["text"].split() for line in pool.read_text(encoding="utf-8").splitlines()]
    asked = [max(round(ASKED * len(text)), 1) for text in texts]
    with file.open("w", encoding="utf-8") as rows:
        for one, other in [*pairwise(range(len(texts)))][:count]:
            replies = [" ".join(texts[at][asked[at] :]) or f"Text {at}." for at in (one, other)]
            row = {"prompt": " ".join(texts[one][: asked[one]]), "chosen": replies[0], "rejected": replies[1]}
            rows.write(json.dumps(row) + "\n")


def save_for_trl(work: TextWork) -> str:
    """Prepares the pairs with lit_ft, saves the same tokens for TRL; says how long they are."""
    from datasets import Dataset

    data = data_module(work)
    data.prepare_data()
    data.setup("fit")
    store, needed = data.features["train"][""], work.all_steps * work.batch_size
    if len(store) < needed:
        raise RuntimeError(f"{len(store)} pairs are too few for {needed}")
    rows, lengths = [], []
    for row in (store[place] for place in range(needed)):
        sides = np.split(row["input_ids"], np.cumsum(row["sequences"])[:-1])
        begins = [int(np.argmax(mark > 0)) for mark in np.split(row["learned"], np.cumsum(row["sequences"])[:-1])]
        chosen, rejected = (side[begin:].tolist() for side, begin in zip(sides, begins, strict=True))
        rows.append({"prompt_ids": sides[0][: begins[0]].tolist(), "chosen_ids": chosen, "rejected_ids": rejected})
        lengths += [len(side) for side in sides]
    Dataset.from_list(rows).save_to_disk(str(work.folder / "theirs"))
    return describe_lengths(lengths)


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    options = adapter_parser(__doc__, steps=6).parse_args(arguments)
    report = Report("preferences_step", options)
    with work_folder(options) as folder:
        work = adapter_work(options, folder)
        if options.train_file is None:
            write_pairs(work.file, options.source, work.all_steps * work.batch_size, options.words, options.seed)
        report.notes.append(save_for_trl(work))
        sides = {OURS: ours, REFERENCE: theirs}
        return run(report, sides, work, options, start_method, f"{work.batch_size} pairs of replies")


if __name__ == "__main__":
    main()
