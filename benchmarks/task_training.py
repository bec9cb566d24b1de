"""Training speed of the tasks beside classification and language models, against the scripts under Trainer.

    python benchmarks/task_training.py --task question_answering

Both sides read the same rows in the same order, start from the same weights, and prepare and collate by themselves:
lit_ft by its data module, Hugging Face's Trainer by the code of run_qa.py, run_swag.py, run_ner.py or
run_translation.py. Every round of every side is a process of its own. Translation trains T5 of the size of `t5-small`
with fresh weights, whatever `--model` is; its tokenizer is the model's.

Rows of your own (`--train_file`, JSON lines or parquet) need the columns of the made-up ones: `question`, `context`
and `answers`; `sent1`, `sent2`, `ending0` to `ending3` and `label`; `tokens` and `ner_tags` (IOB2); or `source` and
`target`.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import OURS, Comparison, Measured, Report, common_parser, compare, work_folder
from task_rows import CHOICES, TYPES, Row, choice_rows, pair_rows, question_rows, tagged_rows, write_task_rows
from task_scripts import (
    choice_collator,
    choice_features,
    pair_collator,
    pair_features,
    question_collator,
    question_features,
    tagged_collator,
    tagged_features,
    without_padding,
)
from text_training import WARMUP_STEPS, Side, TextWork, by_lightning, by_trainer, comparisons, measure, process_notes
from workload import describe_lengths

REFERENCE, STATIC, OURS_PADDED = "Trainer", "Trainer, pad_to_max_length", "lit_ft, padding_free off"
TAGS = [f"{place}-{kind}" for place in "BI" for kind in TYPES] + ["O"]


@dataclass(frozen=True)
class TaskWork(TextWork):
    """What one side is told: `TextWork`, whose `block_size` is the most tokens of a feature.

    Attributes:
        task: name of the task.
        doc_stride: tokens that windows of a context have in common.
        masked: whether padding is taken out of transformers' loss, where lit_ft leaves it out.
    """

    task: str = ""
    doc_stride: int = 128
    masked: bool = False


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        auto_class: name of transformers' class.
        ours: prefix of lit_ft's two classes.
        rows: makes rows up.
        columns: options of lit_ft's data module that name them.
        max_seq_length: most tokens of a feature.
        batch_size: rows of a step.
        scripts: folders of what is mapped, by the contestant that trains on it.
        architecture: what is trained with fresh weights: a configuration's `model_type`, and values of it.
        length_options: options of lit_ft's data module that hold the most tokens.
        allowed: by how much losses may differ.
    """

    auto_class: str
    ours: str
    rows: Callable[[int, int], Iterator[Row]]
    columns: dict[str, Any]
    max_seq_length: int
    batch_size: int
    scripts: dict[str, str]
    architecture: dict[str, Any] | None = None
    length_options: tuple[str, ...] = ("max_seq_length",)
    allowed: float = 1e-5


TASKS = {
    "question_answering": Task(
        "AutoModelForQuestionAnswering", "QuestionAnswering", question_rows, {}, 384, 12,
        {REFERENCE: "theirs", STATIC: "static"},
    ),
    "multiple_choice": Task(
        "AutoModelForMultipleChoice", "MultipleChoice", choice_rows,
        {"context_column_name": "sent1", "question_column_name": "sent2", "label_column_name": "label"}
        | {"choice_column_names": [f"ending{number}" for number in range(CHOICES)]}, 128, 16,
        {REFERENCE: "theirs"},
    ),
    "token_classification": Task(
        "AutoModelForTokenClassification", "TokenClassification", tagged_rows,
        {"text_column_name": "tokens", "label_column_name": "ner_tags"}, 128, 32,
        {REFERENCE: "theirs"},
    ),
    "translation": Task(
        "AutoModelForSeq2SeqLM", "Seq2Seq", pair_rows,
        {"source_column_name": "source", "target_column_names": "target", "source_prefix": ""}, 128, 32,
        {REFERENCE: "theirs"}, {"model_type": "t5"}, ("max_source_length", "max_target_length"),
        1e-4,
    ),
}  # fmt: skip


# lit_ft


def data_module(work: TaskWork) -> Any:
    """Makes lit_ft's data module: rows in their order."""
    import lit_ft

    task = TASKS[work.task]
    windows = {"doc_stride": work.doc_stride} if work.task == "question_answering" else {}
    return getattr(lit_ft, f"{task.ours}DataModule")(
        model_name_or_path=work.model,
        train_file=str(work.file),
        validation_split_percentage=0,
        train_sampling_strategy="sequential",
        batch_size=work.batch_size,
        preparation_dir=str(work.folder / "ours"),
        **dict.fromkeys(task.length_options, work.block_size),
        **task.columns,
        **windows,
    )


def ours(work: TaskWork, **options: Any) -> tuple[Measured, list[float]]:
    """Trains with lit_ft."""
    import lit_ft

    module = getattr(lit_ft, f"{TASKS[work.task].ours}Module")(model_name_or_path=work.model, **options)
    return by_lightning(work, module, data_module(work))


def ours_padded(work: TaskWork) -> tuple[Measured, list[float]]:
    """Trains with lit_ft, computing on padding."""
    return ours(work, padding_free="off")


# The scripts under Trainer


def load_tokenizer(folder: str) -> Any:
    """Loads the tokenizer as the scripts do."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def auto_class(work: TaskWork) -> Any:
    """Returns transformers' class of the task."""
    import transformers

    return getattr(transformers, TASKS[work.task].auto_class)


class WithoutPadding:
    """transformers' class for question answering, in whose loss padding has no share."""

    @staticmethod
    def from_pretrained(*arguments: Any, **options: Any) -> Any:
        """Loads a model."""
        from transformers import AutoModelForQuestionAnswering

        return without_padding(AutoModelForQuestionAnswering.from_pretrained(*arguments, **options))


def collator(work: TaskWork, folder: str) -> Any:
    """Returns the script's collator of the features in a folder."""
    tokenizer = load_tokenizer(work.model)
    if work.task == "question_answering":
        return question_collator(tokenizer, padded=folder == "static")
    return COLLATORS[work.task](tokenizer)


COLLATORS: dict[str, Callable[[Any], Any]] = {
    "multiple_choice": choice_collator, "token_classification": tagged_collator, "translation": pair_collator
}  # fmt: skip


def theirs(work: TaskWork, folder: str = "theirs") -> tuple[Measured, list[float]]:
    """Trains with the Trainer."""
    return by_trainer(work, WithoutPadding if work.masked else auto_class(work), collator(work, folder), folder)


def theirs_static(work: TaskWork) -> tuple[Measured, list[float]]:
    """Trains with the Trainer on rows that are all padded to the most tokens."""
    return theirs(work, "static")


def map_rows(work: TaskWork, folder: str) -> Any:
    """Prepares rows by the script's code, saves the features in a folder, and returns them."""
    from datasets import load_dataset
    from transformers import AutoConfig

    tokenizer = load_tokenizer(work.model)
    options = {"tokenizer": tokenizer, "longest": min(work.block_size, tokenizer.model_max_length)}
    function: Any = pair_features if work.task == "translation" else choice_features
    if work.task == "question_answering":
        function, options = question_features, options | {"padded": folder == "static", "stride": work.doc_stride}
    if work.task == "token_classification":
        function, options["label2id"] = tagged_features, AutoConfig.from_pretrained(work.model).label2id
    loader = "parquet" if work.file.suffix == ".parquet" else "json"
    rows = load_dataset(loader, data_files=str(work.file), split="train", cache_dir=str(work.folder / "cache"))
    features = rows.map(function, batched=True, remove_columns=rows.column_names, fn_kwargs=options)
    features.save_to_disk(str(work.folder / folder))
    return features


# What is the same


def start_folder(work: TaskWork, name: str, folder: Path, dropout: bool) -> str:
    """Saves the model with a fresh head: every round of every side starts from the same weights."""
    import torch
    from training import without_dropout

    from lit_ft.data.reading.sources import resolve_path

    torch.manual_seed(work.seed)
    tags = {} if work.task != "token_classification" else {"id2label": dict(enumerate(TAGS))}
    named = tags | ({"label2id": {tag: number for number, tag in enumerate(TAGS)}} if tags else {})
    tokenizer, fresh = load_tokenizer(resolve_path(name)), TASKS[work.task].architecture
    if fresh is None:
        model = auto_class(work).from_pretrained(resolve_path(name), dtype=torch.float32, **named)
    else:
        model = auto_class(work).from_config(_fresh(fresh, tokenizer))
    if not dropout:
        without_dropout(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def _fresh(architecture: dict[str, Any], tokenizer: Any) -> Any:
    from transformers import AutoConfig

    padding, end = tokenizer.pad_token_id, tokenizer.eos_token_id or tokenizer.sep_token_id
    special = {"pad_token_id": padding, "eos_token_id": end, "decoder_start_token_id": padding}
    return AutoConfig.for_model(**architecture, vocab_size=len(tokenizer), **special)


def cost(work: TaskWork) -> Any:
    """Returns what a pass costs: heads of answers see every token, those of choices each of them."""
    from flops import EncoderDecoderCost, ModelCost
    from transformers import AutoModelForSequenceClassification

    if work.task == "multiple_choice":  # the same layers; that class takes no single sequence
        single = ModelCost.of(AutoModelForSequenceClassification.from_pretrained(work.model, num_labels=1))
        return replace(single, row=CHOICES * single.row, label=CHOICES * single.label)
    if work.task == "translation":
        return EncoderDecoderCost.of(auto_class(work).from_pretrained(work.model))
    made = ModelCost.of(auto_class(work).from_pretrained(work.model))
    return replace(made, token=made.token + made.label, label=0) if work.task == "question_answering" else made


def check_batches(work: TaskWork, features: Any, folder: str) -> str:
    """Compares lit_ft's batches with the Trainer's, place by place.

    Raises:
        RuntimeError: they differ, or the rows are too few.
    """
    import torch

    data, collate = data_module(work), collator(work, folder)
    data.prepare_data()
    data.setup("fit")
    if len(features) < work.all_steps * work.batch_size:
        raise RuntimeError(f"{len(features)} features are too few for {work.all_steps} steps of {work.batch_size}")
    for number, mine in zip(range(work.all_steps), data.train_dataloader(), strict=False):
        first = number * work.batch_size
        other = collate([features[row] for row in range(first, first + work.batch_size)])
        real = mine["attention_mask"].bool()
        for name, given in other.items():
            wide, width = given.dim() > 1, mine[name].shape[-1]
            pair = (mine[name], given[..., :width]) if wide else (mine[name], given)
            of_tokens = wide and name != "attention_mask" and pair[0].shape == real.shape
            places = real if of_tokens else torch.ones_like(pair[0], dtype=torch.bool)
            same = pair[0].shape == pair[1].shape and torch.equal(pair[0][places], pair[1][places])
            if not same or (wide and other["attention_mask"][..., real.shape[-1] :].any()):
                raise RuntimeError(f"{name} of batch {number} differs between {OURS} and the script")
    return f"{', '.join(sorted(other))} of all {work.all_steps} batches are the same"


def checks(work: TaskWork, without: str, steps: int) -> list[str]:
    """Finds batches, and losses without dropout, equal.

    Args:
        work: what is trained.
        without: folder of the start weights without dropout.
        steps: whose losses are compared.

    Raises:
        RuntimeError: they differ.
    """
    from training import compare_losses

    found, masked = [], work.task == "question_answering"
    few = replace(work, model=without, steps=max(0, min(steps, work.all_steps) - WARMUP_STEPS), precision="32-true")
    mine = ours(few)[1]
    note = ", padding taken out of transformers' loss" if masked else ""
    for name, folder in TASKS[work.task].scripts.items():
        same = check_batches(work, map_rows(work, folder), folder)
        other = theirs(replace(few, masked=masked), folder)[1]
        losses = compare_losses(
            mine, other, few.all_steps, TASKS[work.task].allowed, f"dropout off, same batches{note}"
        )
        found += [f"{OURS} and {name}: {same}", f"{OURS} and {name}: {losses}"]
    return found


def sides(task: Task) -> dict[str, Side]:
    """Returns the contestants."""
    of_scripts: dict[str, Any] = {REFERENCE: theirs, STATIC: theirs_static}
    made: dict[str, Any] = {OURS: ours, **{name: of_scripts[name] for name in task.scripts}}
    return {**made, OURS_PADDED: ours_padded}


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """Reads the command line; what is not given is the task's."""
    made = common_parser(__doc__, warmup=0)
    made.add_argument("--task", choices=TASKS, required=True)
    made.add_argument("--train_file", help="rows of your own instead of made-up ones")
    made.add_argument("--steps", type=int, default=10, help="steps of a round that count (default 10)")
    made.add_argument("--batch_size", type=int, help="of answers 12, of choices 16, else 32")
    made.add_argument("--max_seq_length", type=int, help="of answers 384, else 128")
    made.add_argument("--doc_stride", type=int, default=128, help="of answers: tokens that windows share (default 128)")
    made.add_argument("--check_steps", type=int, default=5, help="steps whose losses must agree (default 5)")
    made.add_argument("--accelerator", choices=["cpu", "gpu"], default="cpu")
    made.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    options = made.parse_args(arguments)
    for name in ("batch_size", "max_seq_length"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(TASKS[options.task], name))
    return options


def task_work(options: argparse.Namespace, folder: Path) -> TaskWork:
    """Writes rows, unless they are the user's own; the model comes later."""
    file = Path(options.train_file) if options.train_file else folder / "rows.jsonl"
    work = TaskWork(
        "", file, folder, options.max_seq_length, options.batch_size, options.steps, options.seed,
        options.accelerator, precision=options.precision, task=options.task, doc_stride=options.doc_stride,
    )  # fmt: skip
    if not options.train_file:
        write_task_rows(file, TASKS[work.task].rows, work.all_steps * work.batch_size, work.seed)
    return work


def lengths(work: TaskWork) -> str:
    """Says how long the sequences of the script's features are."""
    from datasets import load_from_disk

    features = load_from_disk(str(work.folder / "theirs"))["input_ids"]
    sequences = [each for row in features for each in row] if work.task == "multiple_choice" else features
    return describe_lengths([len(each) for each in sequences]).replace("rows", "sequences")


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    options = read_options(arguments)
    report = Report(f"task_training_{options.task}", options)
    with work_folder(options) as folder:
        work = task_work(options, folder)
        without, work = (
            start_folder(work, options.model, folder / "without", dropout=False),
            replace(work, model=start_folder(work, options.model, folder / "model", dropout=True)),
        )
        work = replace(work, cost=cost(work))
        report.checks += checks(work, without, options.check_steps)
        measured, _, peak = measure(sides(TASKS[work.task]), work, options, start_method)  # type: ignore[arg-type]
        report.notes.append(lengths(work))
    tokens = {int(each["epoch_tokens"]) for rounds in measured.values() for each in rounds}
    if len(tokens) != 1:
        raise RuntimeError(f"the steps are not the same work: {sorted(tokens)} real tokens")
    report.checks.append(f"the steps of every side that count train on the same {tokens.pop():,} real tokens")
    rate: Comparison = compare(measured, "rows", f"{options.batch_size} rows: examples", "1/s", "higher")
    report.comparisons = [rate, *comparisons(measured, f"{options.batch_size} rows")]
    padding = ", ".join(f"{name} {rounds[0]['padding']:.2f}" for name, rounds in measured.items())
    report.notes += [
        f"tokens of the batches, as they are padded, per real token: {padding}",
        "dropout on; each side collates by itself",
        *process_notes(measured, work),
        peak,
    ]
    return report.write()


if __name__ == "__main__":
    main()
