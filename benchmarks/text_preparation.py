"""Seconds and peak memory of making blocks for causal language modelling of a text file: lit_ft against run_clm's maps.

python benchmarks/text_preparation.py --megabytes 50 200
python benchmarks/text_preparation.py --source corpus.txt --model openai-community/gpt2 --block_size 1024
"""

import argparse
import hashlib
import shutil
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from corpus import split_gguf, text_parser, write_text
from harness import OURS, Comparison, Measured, Report, alternate, compare, work_folder
from memory import LIBRARIES, growth
from processes import in_own_process, status

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_ft import CausalLMDataModule

OURS_TWO, OWN_RULES = "lit_ft, 2 processes", "lit_ft, its own rules"
SCRIPT, SCRIPT_TWO = "map + group_texts", "map + group_texts, num_proc 2"
BATCH = 1000
"""Rows that `group_texts` sees at a time, unless somebody says otherwise."""


def data_module(file: Path, tokenizer: str, folder: Path, block_size: int, **rules: Any) -> "CausalLMDataModule":
    """Makes lit_ft's data module over the file, prepared in `folder`."""
    from lit_ft import CausalLMDataModule

    return CausalLMDataModule(
        tokenizer_name=tokenizer,
        train_file=str(file),
        validation_split_percentage=0,
        block_size=block_size,
        preparation_dir=str(folder),
        **rules,
    )


def script_rules() -> dict[str, Any]:
    """Returns lit_ft's options for what run_clm does."""
    return {"sample_by": "line", "keep_linebreaks": True, "document_separator": False, "isolate_documents": False}


def ours(file: Path, tokenizer: str, folder: Path, block_size: int, rules: dict[str, Any]) -> Measured:
    """Prepares the file with lit_ft."""
    from lit_ft import CausalLMDataModule  # noqa: F401

    loaded, start = status("self", "RssAnon"), time.perf_counter()
    data_module(file, tokenizer, folder, block_size, **rules).prepare_data()
    return {"seconds": time.perf_counter() - start, LIBRARIES: loaded}


def theirs(file: Path, tokenizer: str, folder: Path, block_size: int, num_proc: int | None) -> Measured:
    """Prepares the file as run_clm does."""
    import datasets  # noqa: F401
    import torch  # noqa: F401
    from transformers import AutoTokenizer  # noqa: F401

    loaded, start = status("self", "RssAnon"), time.perf_counter()
    grouped(tokenized(file, tokenizer, folder, num_proc), block_size, num_proc)
    return {"seconds": time.perf_counter() - start, LIBRARIES: loaded}


def tokenized(file: Path, tokenizer: str, folder: Path, num_proc: int | None = None) -> "Dataset":
    """Reads and tokenizes lines as run_clm does."""
    from datasets import load_dataset
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    lines = load_dataset("text", data_files=str(file), split="train", cache_dir=str(folder), keep_linebreaks=True)
    return lines.map(
        lambda rows: loaded(rows["text"]), batched=True, num_proc=num_proc, remove_columns=lines.column_names
    )


def grouped(rows: "Dataset", block_size: int, num_proc: int | None = None, batch_size: int = BATCH) -> "Dataset":
    """Cuts tokenized lines into blocks as run_clm does; `batch_size` -1 = all lines at once."""

    def group_texts(examples: dict[str, list[Any]]) -> dict[str, list[Any]]:  # run_clm's own
        concatenated = {name: list(chain(*examples[name])) for name in examples}
        total = len(next(iter(concatenated.values())))
        total = (total // block_size) * block_size
        result = {
            name: [tokens[start : start + block_size] for start in range(0, total, block_size)]
            for name, tokens in concatenated.items()
        }
        result["labels"] = result["input_ids"].copy()
        return result

    return rows.map(group_texts, batched=True, batch_size=batch_size, num_proc=num_proc)


def check(file: Path, tokenizer: str, folder: Path, block_size: int) -> list[str]:
    """Compares every block, and accounts for the tokens that the script drops.

    Raises:
        RuntimeError: blocks differ, or the script drops other tokens than the remainder of every 1,000 lines.
    """
    data = data_module(file, tokenizer, folder / "ours", block_size, **script_rules(), drop_last=True)
    data.prepare_data()
    data.setup("fit")
    features, rows = data.features["train"][""], tokenized(file, tokenizer, folder / "theirs")
    whole, batched = grouped(rows, block_size, batch_size=-1), grouped(rows, block_size)
    mine, other = hashlib.sha256(), hashlib.sha256()
    for digest, blocks in ((mine, features), (other, whole)):
        for number in range(len(blocks)):
            digest.update(np.asarray(blocks[number]["input_ids"], np.int32).tobytes())
    if len(features) != len(whole) or mine.digest() != other.digest():
        raise RuntimeError(f"lit_ft's {len(features):,} blocks are not group_texts' {len(whole):,}")
    lengths = np.array([len(each) for each in rows["input_ids"]])
    per_batch = np.add.reduceat(lengths, range(0, len(lengths), BATCH))
    dropped = int(lengths.sum()) - block_size * len(batched)
    if dropped != int((per_batch % block_size).sum()):
        raise RuntimeError(f"group_texts drops {dropped:,} tokens, which its remainders do not explain")
    return [
        f"all {len(features):,} blocks of {block_size} are the same, token for token and in order, in lit_ft and in "
        f"group_texts over all {len(lengths):,} lines at once (last, shorter block left out: lit_ft keeps it)",
        f"group_texts in batches of {BATCH:,} lines drops {dropped:,} of {int(lengths.sum()):,} tokens, exactly the "
        "remainder of every batch; lit_ft drops none",
    ]


def own_tokenizer(name: str, folder: Path) -> str:
    """Saves the tokenizer (also a GGUF file's), with an end-of-text token, which lit_ft's own rules need."""
    from lit_ft.data.tokenizing.texts import load_tokenizer

    place, file = split_gguf(name)
    tokenizer = load_tokenizer(place, gguf_file=file)
    if tokenizer.eos_token is None:
        tokenizer.eos_token = tokenizer.sep_token
    tokenizer.save_pretrained(folder)
    return str(folder)


def one_size(
    options: argparse.Namespace, megabytes: float, tokenizer: str, folder: Path, fresh: Any
) -> list[Comparison]:
    """Measures all contestants on one size."""
    file = folder / "text.txt"
    count, place = write_text(file, options.source, megabytes, options.seed), folder / "prepared"
    size = file.stat().st_size / 1e6
    sides: dict[str, Any] = {
        OURS: (ours, script_rules()),
        SCRIPT: (theirs, None),
        SCRIPT_TWO: (theirs, 2),
        OURS_TWO: (ours, {**script_rules(), "preprocessing_num_workers": 2}),
        OWN_RULES: (ours, {}),
    }

    def contestant(side: Any, how: Any) -> Measured:
        measured, peak = fresh(side, file, tokenizer, place, options.block_size, how)
        shutil.rmtree(place)
        return {**measured, "speed": size / measured["seconds"], "anonymous": peak.anonymous, "rss": peak.rss}

    contestants = {name: partial(contestant, *side) for name, side in sides.items()}
    measured = alternate(contestants, options.rounds, options.warmup)
    name = f"{size:,.3g} MB in {count:,} lines"
    return [
        compare(measured, "seconds", f"{name}: from the file to blocks on disk", "s", "lower"),
        compare(measured, "speed", f"{name}: text", "MB/s", "higher"),
        compare(measured, "anonymous", f"{name}: peak anonymous memory", "MB", "lower"),
        compare(measured, "rss", f"{name}: peak resident memory", "MB", "lower"),
    ]


def main(arguments: list[str] | None = None, start_method: str = "spawn") -> dict[str, Any]:
    """Checks, times, writes the report."""
    made = text_parser(__doc__, warmup=0)
    made.add_argument("--megabytes", type=float, nargs="+", default=[10.0, 50.0], help="sizes of the text (10 50)")
    made.add_argument("--check_megabytes", type=float, default=2.0, help="size of the text that is compared (2)")
    made.add_argument("--block_size", type=int, default=512)
    options = made.parse_args(arguments)
    report = Report("text_preparation", options)
    fresh = partial(in_own_process, start_method=start_method)
    with work_folder(options) as folder:
        tokenizer = own_tokenizer(options.model, folder / "tokenizer")
        file = folder / "checked.txt"
        write_text(file, options.source, options.check_megabytes, options.seed)
        (folder / "checked").mkdir()
        report.checks, _ = fresh(check, file, tokenizer, folder / "checked", options.block_size)
        for megabytes in options.megabytes:
            place = folder / f"{megabytes}"
            place.mkdir()
            report.comparisons += one_size(options, megabytes, tokenizer, place, fresh)
            shutil.rmtree(place)
    report.notes += growth([each for each in report.comparisons if each.unit == "MB"])
    report.notes += [
        "every side runs in a process of its own, loads its tokenizer, reads the file and writes blocks into an empty "
        "folder; imports are not timed; lit_ft's time includes its checks of the rows",
        f"{OURS}: sample_by line, keep_linebreaks, no document_separator, no isolate_documents: run_clm's blocks",
        f"{OURS_TWO}: preprocessing_num_workers 2; one process encodes in threads",
        f"{OWN_RULES}: the file is one document, with an end-of-text token behind it and the documents' lengths",
        "anonymous: what the process and those it starts hold for themselves (RssAnon, looked at every 10 ms), with "
        "the libraries; resident: VmHWM of the main process, with pages of memory-mapped files",
    ]
    return report.write()


if __name__ == "__main__":
    main()
