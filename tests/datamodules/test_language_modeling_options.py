"""What is prepared for language models is never stale and never missed: every option in a table, as it behaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_ft import CausalLMDataModule, MaskedLMDataModule
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.datamodules.language_modeling import LanguageModelingDataModule
from tests.datamodules import test_preparation_cache as shared
from tests.datamodules.test_preparation_cache import parameters

Prepare = Callable[..., int]
FIM = {"fim_prefix_token": "[CLS]", "fim_middle_token": "[MASK]", "fim_suffix_token": "[PAD]"}
TASKS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "causal": (CausalLMDataModule, "gpt2", {"block_size": 16, **FIM}),
    "masked": (MaskedLMDataModule, "bert", {"max_seq_length": 16}),
}
"""Data module, tiny model, and options that all preparations have."""


EVERY_TASK = parameters(TransformerDataModule)
OF_XLNET = {"causal": set(), "masked": {"plm_probability"}}
FIXED = {"causal": {"max_seq_length", "truncation_side"}, "masked": {"stride"}}
"""Options of every data module that a task chooses by itself, and that its users cannot give."""

OF_BOTH = {name: value for name, value in shared.CHANGES.items() if name in EVERY_TASK} | {
    "sample_by": "paragraph", "text_column_name": "other", "drop_last": True,
}  # fmt: skip
CHANGES: dict[str, dict[str, Any]] = {
    "causal": {
        **OF_BOTH, "keep_linebreaks": False, "document_separator": False, "block_size": 12, "isolate_documents": False,
        "packing": "best_fit", "stride": 4, "fim_rate": 0.5, "fim_spm_rate": 0.25, "fim_prefix_token": "[UNK]",
        "fim_middle_token": "[UNK]", "fim_suffix_token": "[UNK]",
    },
    "masked": {
        **OF_BOTH, "keep_linebreaks": True, "document_separator": True, "max_seq_length": 12, "line_by_line": True,
        "permutation": False,
    },
}  # fmt: skip
"""Options that change, or may change, what is prepared."""
SAME_OF_BOTH = {name: value for name, value in shared.SAME.items() if name in EVERY_TASK}
SAME: dict[str, dict[str, Any]] = {
    "causal": SAME_OF_BOTH,
    "masked": {
        **SAME_OF_BOTH, "mlm_probability": 0.3, "mask_replace_prob": 0.5, "random_replace_prob": 0.2,
        "whole_word_mask": True, "span_mask": True, "span_geometric_p": 0.5, "max_span_length": 3,
    },
}  # fmt: skip
"""Options of other stages, of loading, or of the machine."""
ELSEWHERE = {name for name in shared.ELSEWHERE if name in EVERY_TASK} | {"train_tokenizer"}
"""Options of where rows or tokenizer come from (here, in test_preparation_cache.py and among the streams)."""
PAIRS = {
    name: [(task, option) for task in TASKS for option in table[task] if option not in FIXED[task]]
    for name, table in (("changes", CHANGES), ("same", SAME))
}


@pytest.fixture
def prepare(tiny: Callable[..., str], tmp_path: Path) -> Prepare:
    """Prepares for fit; returns how many prepared folders there are then."""
    path = shared.write(tmp_path / "train.jsonl", shared.ROWS)

    def run(task: str, **options: Any) -> int:
        module, model, given = TASKS[task]
        module(**{"model_name_or_path": tiny(model), "train_file": path, **given, **options}).prepare_data()
        return len(list((tmp_path / "prepared").glob("*/content.json")))

    return run


@pytest.mark.parametrize("task", TASKS)
def test_every_option_is_in_one_of_the_tables(task: str) -> None:
    known = EVERY_TASK | parameters(LanguageModelingDataModule, TASKS[task][0])
    tables = [set(CHANGES[task]), set(SAME[task]), ELSEWHERE, FIXED[task], OF_XLNET[task]]
    assert known == set().union(*tables)
    assert not set(SAME[task]) & set(CHANGES[task])
    for option in FIXED[task]:
        assert option in EVERY_TASK
        with pytest.raises(TypeError, match=option):
            TASKS[task][0](**{option: 5})


@pytest.mark.parametrize(("task", "option"), PAIRS["changes"])
def test_an_option_that_changes_the_result_prepares_anew(task: str, option: str, prepare: Prepare) -> None:
    assert prepare(task) == 1
    assert prepare(task, **{option: CHANGES[task][option]}) == 2


@pytest.mark.parametrize("task", TASKS)
def test_other_options_do_not(task: str, prepare: Prepare) -> None:
    assert prepare(task) == 1
    for option, value in SAME[task].items():
        assert prepare(task, **{option: value}) == 1, option


def trained(task: str, path: str, **options: Any) -> list[str]:
    """The vocabulary of a tokenizer trained on the rows."""
    scratch = {"train_file": path, "train_tokenizer": {"vocab_size": 400}, **options}
    return sorted(TASKS[task][0](**scratch).tokenizer.get_vocab())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "options",
    [
        {"train_tokenizer": {"vocab_size": 280}},
        {"train_tokenizer": {"vocab_size": 400, "min_frequency": 30}},
        {"text_column_name": "other"},
        {"max_train_samples": 1},
        {"column_mapping": {"text": "a", "other": "text"}},
    ],
    ids=str,
)
def test_a_trained_tokenizer_is_that_of_its_rows_and_options(
    task: str, options: dict[str, Any], tmp_path: Path
) -> None:
    path = shared.write(tmp_path / "train.jsonl", shared.ROWS)
    first = trained(task, path)
    fresh = trained(task, path, **options, preparation_dir=str(tmp_path / "elsewhere"))
    assert fresh != first
    assert trained(task, path, **options) == fresh


@pytest.mark.parametrize("task", TASKS)
def test_a_tokenizer_is_trained_once_and_anew_for_other_rows(task: str, tmp_path: Path, prepare: Prepare) -> None:
    training = {"model_name_or_path": None, "train_tokenizer": {"vocab_size": 400}}
    assert prepare(task, **training) == 2  # the tokenizer has a folder of its own
    assert prepare(task, **training) == 2
    shared.write(tmp_path / "train.jsonl", [{"text": f"whatever {n}"} for n in range(40)])
    assert prepare(task, **training) == 4
