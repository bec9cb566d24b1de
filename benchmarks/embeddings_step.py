"""Training speed and memory of sentence embeddings: lit_ft under Lightning against sentence-transformers' own trainer.

    python benchmarks/embeddings_step.py --rounds 5

Both bring the same pairs of texts near each other, in the same batches in the same order, by the same loss (multiple
negatives), each side in a process of its own; the losses of all steps are compared.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from corpus import own_model, write_documents
from harness import MODEL, OURS, Measured, Report, work_folder
from processes import status
from text_training import (
    LIBRARIES,
    WARMUP_STEPS,
    Side,
    TextWork,
    by_lightning,
    process_notes,
    step_comparisons,
    step_parser,
    train_in_turn,
)
from workload import describe_lengths

REFERENCE = "SentenceTransformerTrainer"
MEAN_WORDS, SPREAD = 24, 0.7
"""Words of a text, as questions with their answers."""


def data_module(work: TextWork) -> Any:
    """Makes lit_ft's data module: the pairs, in order."""
    from lit_ft import SentenceEmbeddingDataModule

    return SentenceEmbeddingDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        max_seq_length=work.block_size,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
    )


def ours(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft."""
    from lit_ft import SentenceEmbeddingModule

    return by_lightning(work, SentenceEmbeddingModule(model_name_or_path=work.model), data_module(work))


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with sentence-transformers."""
    import torch
    from datasets import load_dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )
    from sentence_transformers.models import Normalize, Pooling, Transformer
    from torch.utils.data import BatchSampler, SequentialSampler
    from training import HuggingFaceMeter, Meter, usual_settings

    loaded, meter = status("self", "RssAnon"), Meter(WARMUP_STEPS)

    class Counting(SentenceTransformerTrainer):  # type: ignore[misc]
        def get_batch_sampler(self, dataset: Any, batch_size: int, **_: Any) -> Any:
            return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            parts = {
                name: torch.cat([value.flatten() for key, value in inputs.items() if key.endswith(name)])[None]
                for name in ("input_ids", "attention_mask")
            }
            meter.count(parts)
            loss = super().training_step(model, inputs, num_items_in_batch)
            meter.loss(loss)
            return loss

    arguments = SentenceTransformerTrainingArguments(
        str(work.folder / "sentence_transformers"),
        max_steps=work.all_steps,
        learning_rate=5e-5,
        lr_scheduler_type="linear",
        **usual_settings(work),
    )
    transformer = Transformer(work.model, max_seq_length=work.block_size)
    size = transformer.get_word_embedding_dimension()
    device = "cpu" if work.accelerator == "cpu" else "cuda"
    model = SentenceTransformer(modules=[transformer, Pooling(size, "mean"), Normalize()], device=device)
    rows = load_dataset("json", data_files=str(work.file), split="train", cache_dir=str(work.folder / "rows"))
    loss = losses.MultipleNegativesRankingLoss(model)
    Counting(model, arguments, rows, loss=loss, callbacks=[HuggingFaceMeter(meter)]).train()
    return {**meter.measured(), LIBRARIES: loaded}, [float(loss) for loss in meter.losses]


def write_pairs(work: TextWork, options: argparse.Namespace) -> None:
    """Writes pairs of two texts each."""
    pool, needed = work.folder / "pool.jsonl", work.all_steps * work.batch_size
    write_documents(pool, options.source, round(4 * needed * options.words), work.seed, options.words, SPREAD)
    texts = dict.fromkeys(json.loads(line)["text"] for line in pool.read_text(encoding="utf-8").splitlines())
    every = [*texts][: 2 * needed]
    if len(every) < 2 * needed:
        raise RuntimeError(f"{len(every)} different texts are too few for {needed} pairs")
    with work.file.open("w", encoding="utf-8") as file:
        for one, other in zip(every[::2], every[1::2], strict=True):
            file.write(json.dumps({"anchor": one, "positive": other}) + "\n")


def lengths_of(work: TextWork) -> str:
    """Prepares the pairs with lit_ft; says how long the texts of all steps are."""
    data, needed = data_module(work), work.all_steps * work.batch_size
    data.prepare_data()
    data.setup("fit")
    store = data.features["train"][""].store
    if len(store) < needed:
        raise RuntimeError(f"{len(store)} pairs are too few for {needed}")
    return describe_lengths([size for place in range(needed) for size in store[place]["sequences"].tolist()])


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    from training import compare_losses
    from transformers import AutoModel

    made = step_parser(__doc__, steps=10)
    made.set_defaults(model=MODEL)
    made.add_argument("--train_file", help="pairs of your own: JSON lines of anchor and positive")
    made.add_argument("--batch_size", type=int, default=32, help="pairs of a step (default 32)")
    made.add_argument("--block_size", type=int, default=256, help="most tokens of a text (default 256)")
    made.add_argument("--words", type=float, default=MEAN_WORDS, help=f"mean length of a text (default {MEAN_WORDS})")
    options = made.parse_args(arguments)
    report = Report("embeddings_step", options)
    with work_folder(options) as folder:
        model = own_model(options.model, folder / "model", AutoModel, options.seed, dropout=False)
        limits = (options.block_size, options.batch_size, options.steps, options.seed, options.accelerator)
        file = Path(options.train_file or folder / "pairs.jsonl")
        work = TextWork(model, file, Path(folder), *limits, precision=options.precision)
        if options.train_file is None:
            write_pairs(work, options)
        report.notes.append(lengths_of(work))
        sides: dict[str, Side] = {OURS: ours, REFERENCE: theirs}
        measured, losses = train_in_turn(sides, work, options, start_method)
    for mine, other in zip(losses[OURS], losses[REFERENCE], strict=True):
        allowed = {"32-true": 1e-4, "bf16-mixed": 3e-2}[options.precision]
        said = compare_losses(mine, other, work.all_steps, allowed, "same batches")
    report.checks.append(f"{said}, in every round")
    report.comparisons = step_comparisons(measured, f"{options.batch_size} pairs of texts")
    padding = ", ".join(f"{side} {rounds[0]['padding']:.2f}" for side, rounds in measured.items())
    report.notes += [f"no dropout; tokens of the batches per real token: {padding}", *process_notes(measured, work)]
    return report.write()


if __name__ == "__main__":
    main()
