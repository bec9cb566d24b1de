"""Training speed and memory of an adapter that learns replies: lit_ft under Lightning against TRL's SFTTrainer.

    python benchmarks/replies_step.py --rounds 5

Both train the same LoRA on the same conversations in the same order, on the tokens of replies alone, each side in a
process of its own; the losses of all steps are compared. TRL gets the token ids and masks that lit_ft made. TRL lays
rows end to end only with FlashAttention, on a GPU: on a CPU it computes padding.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causal_lm_step import MODEL
from corpus import own_model, write_documents
from harness import OURS, Measured, Report, Round, alternate, compare, work_folder
from processes import in_own_process
from text_training import LIBRARIES, WARMUP_STEPS, Side, TextWork, by_lightning, process_notes, step_parser
from workload import describe_lengths

if TYPE_CHECKING:
    from lit_ft import InstructionTuningDataModule

REFERENCE, OURS_PADDED = "TRL's SFTTrainer", "lit_ft, padding_free off"
LORA = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
ALLOWED = {"32-true": 1e-4, "bf16-mixed": 3e-2}
MEAN_WORDS, SPREAD, ASKED = 150, 0.75, 0.25
"""Words of a conversation, as instructions of Alpaca with their answers; the share that is asked."""


def data_module(work: TextWork) -> "InstructionTuningDataModule":
    """Makes lit_ft's data module: the conversations, in order."""
    from lit_ft import InstructionTuningDataModule

    return InstructionTuningDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        chat_template="chatml",
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
    from training import padded_execution

    from lit_ft import InstructionTuningModule

    adapter = str(work.folder / "adapter")
    module = InstructionTuningModule(model_name_or_path=work.model, peft=adapter, **padded_execution())
    return by_lightning(work, module, data_module(work))


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with TRL."""
    import torch
    from datasets import load_from_disk
    from peft import PeftModel
    from processes import status
    from training import HuggingFaceMeter, Meter
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    loaded, meter = status("self", "RssAnon"), Meter(WARMUP_STEPS)

    class Counting(SFTTrainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            meter.count(inputs)
            loss = super().training_step(model, inputs, num_items_in_batch)
            meter.loss(loss)
            return loss

    arguments = SFTConfig(
        str(work.folder / "trl"),
        per_device_train_batch_size=work.batch_size,
        max_steps=work.all_steps,
        learning_rate=5e-5,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        seed=work.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        gradient_checkpointing=False,
        completion_only_loss=True,
        train_sampling_strategy="sequential",
        max_length=work.block_size,
        use_cpu=work.accelerator == "cpu",
        bf16=work.precision == "bf16-mixed",
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


def write_rows(work: TextWork, options: argparse.Namespace) -> str:
    """Writes the conversations, prepares them with lit_ft, saves the same tokens for TRL; says how long they are."""
    from datasets import Dataset

    needed = work.all_steps * work.batch_size
    if options.train_file is None:
        pool = work.folder / "pool.jsonl"
        write_documents(pool, options.source, round(2 * needed * options.words), work.seed, options.words, SPREAD)
        with work.file.open("w", encoding="utf-8") as file:
            for line in pool.read_text(encoding="utf-8").splitlines()[:needed]:
                words = json.loads(line)["text"].split()
                asked = max(round(ASKED * len(words)), 1)
                row = {"prompt": " ".join(words[:asked]), "completion": " ".join(words[asked:]) or "Yes."}
                file.write(json.dumps(row) + "\n")
    data = data_module(work)
    data.prepare_data()
    data.setup("fit")
    store = data.features["train"][""]
    if len(store) < needed:
        raise RuntimeError(f"{len(store)} conversations are too few for {needed} rows")
    rows = [store[place] for place in range(needed)]
    Dataset.from_dict(
        {
            "input_ids": [row["input_ids"].tolist() for row in rows],
            "completion_mask": [(row["learned"] > 0).astype(int).tolist() for row in rows],
        }
    ).save_to_disk(str(work.folder / "theirs"))
    learned = sum(int((row["learned"] > 0).sum()) for row in rows) / sum(len(row["input_ids"]) for row in rows)
    return f"{describe_lengths([len(row['input_ids']) for row in rows])}; {learned:.0%} of the tokens are of replies"


def write_adapter(model: str, folder: Path, seed: int) -> None:
    """Saves a fresh adapter, which both sides begin with."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    get_peft_model(made, LoraConfig(task_type="CAUSAL_LM", **LORA)).save_pretrained(str(folder))


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    from training import compare_losses
    from transformers import AutoModelForCausalLM

    made = step_parser(__doc__, steps=8)
    made.set_defaults(model=MODEL)
    made.add_argument("--train_file", help="conversations of your own, in any format that lit_ft knows")
    made.add_argument("--batch_size", type=int, default=4)
    made.add_argument("--block_size", type=int, default=1024, help="most tokens of a row (default 1024)")
    made.add_argument("--words", type=float, default=MEAN_WORDS, help=f"mean length of a row (default {MEAN_WORDS})")
    options = made.parse_args(arguments)
    report = Report("replies_step", options)
    with work_folder(options) as folder:
        model = own_model(options.model, folder / "model", AutoModelForCausalLM, options.seed, dropout=False)
        work = TextWork(
            model,
            Path(options.train_file or folder / "chats.jsonl"),
            Path(folder),
            options.block_size,
            options.batch_size,
            options.steps,
            options.seed,
            options.accelerator,
            precision=options.precision,
        )
        write_adapter(model, work.folder / "adapter", options.seed)
        lengths = write_rows(work, options)
        sides: dict[str, Side] = {OURS: ours, REFERENCE: theirs, OURS_PADDED: ours_padded}
        losses: dict[str, list[list[float]]] = {name: [] for name in sides}

        def contestant(name: str) -> Measured:
            (measured, found), peak = in_own_process(sides[name], work, start_method=start_method)
            losses[name].append(found)
            return {**measured, "memory": measured.get("device_memory", peak.anonymous)}

        contestants: dict[str, Round] = {name: partial(contestant, name) for name in sides}
        measured = alternate(contestants, options.rounds, options.warmup)
    for mine, *others in zip(*losses.values(), strict=True):
        for other in others:
            said = compare_losses(mine, other, work.all_steps, ALLOWED[work.precision], "same batches")
    report.checks.append(f"{said}, in every round, of all sides")
    name = f"{options.batch_size} chats"
    report.comparisons = [
        compare(measured, "step", f"{name}: a step", "s", "lower"),
        compare(measured, "tokens", f"{name}: tokens", "1/s", "higher"),
        compare(measured, "memory", f"{name}: peak memory", "MB", "lower"),
    ]
    padding = ", ".join(f"{name} {rounds[0]['padding']:.2f}" for name, rounds in measured.items())
    report.notes += [
        lengths,
        f"LoRA of rank {LORA['r']} in all linear layers, from the same weights; no dropout",
        f"tokens of the batches, as they are padded, per real token: {padding}",
        *process_notes(measured, work),
    ]
    return report.write()


if __name__ == "__main__":
    main()
