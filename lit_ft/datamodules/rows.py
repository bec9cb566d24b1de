"""A data module's raw rows: from files, the hub, memory, or several sources with columns of their own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from lit_ft.data.mixture import mixed_source
from lit_ft.data.reading.raw import TEXT, RawRows, RawSource, Rows, Scratch, Split, SplitNames
from lit_ft.data.reading.readers import Quoting, ReadOptions, SampleBy
from lit_ft.data.reading.sources import HubSource, NamedFiles
from lit_ft.data.streaming.source import StreamedSource
from lit_ft.datamodules.tokenizing import TokenizingDataModule
from lit_ft.errors import UserError

Given = TypeVar("Given")


def _plain(options: Any) -> Any:
    if not hasattr(options, "items"):
        return options
    return {name: value for name, value in options.items() if name != "dataset"}


def _by_kind(train: Given, validation: Given, test: Given, predict: Given) -> dict[Split, Given]:
    return {"train": train, "validation": validation, "test": test, "predict": predict}


class RowsDataModule(TokenizingDataModule):
    """Where the rows come from, and which of them are used; see `TransformerDataModule`.

    Args:
        dataset: objects in memory: Dataset, DatasetDict, list of dicts, DataFrame, or a dict of these by split
            (Python only).
        dataset_name: data set on the hub, or a local folder.
        dataset_config_name: configuration of that data set.
        dataset_revision: branch, tag or commit of that data set.
        train_file: training rows: csv, tsv, json, jsonl, parquet, arrow, txt, conll or conllu, each also gzipped; one
            file, a list, or a glob.
        validation_file: validation rows; a dict of name to files makes several sets, each with its metric prefix.
        test_file: test rows, as `validation_file`.
        predict_file: rows to predict, as `validation_file`. Without it, the test rows are predicted, but by language
            models, which go on from texts or fill them in.
        column_names: names of the columns of csv and tsv files that have no header line.
        quoting: `minimal` (csv fields may stand in double quotes) or `none` (quotes are ordinary characters).
        delimiter: separator of csv and tsv files, where it is neither comma nor tab.
        sample_by: what a row of a txt file is: a `line`, a `paragraph` (lines up to a blank one) or the whole
            `document` (a long one in consecutive rows, of at most 64 KiB each, numbered in a column `document_part`).
        keep_linebreaks: rows of txt files keep the line ends, and the blank lines, that follow them. Those within a
            paragraph, and all of a document, are kept in any case.
        train_split_name: split of the data set to train on.
        validation_split_name: split to validate on; a dict of name to split makes several sets. `config/split` takes it
            from another configuration.
        test_split_name: split to test on, as `validation_split_name`.
        predict_split_name: split to predict, as `validation_split_name`.
        validation_split_percentage: share of the training rows to cut for validation where there is no validation
            split, in percent, seeded and stratified; rows about one context stay together. 0 = no validation.
        max_train_samples: train on at most this many rows (a seeded sample).
        max_eval_samples: validate and test on at most this many rows.
        max_predict_samples: predict at most this many rows.
        sample_head: take the first rows instead of a sample.
        sources: several sources of training rows by name, each a dict of options of this class (`train_file`,
            `dataset_name`, `validation_file`, ...) and `column_mapping`; their validation and test rows become sets of
            that name.
        streaming: read and tokenize training rows as they are needed instead of preparing them first, for data that is
            too large or never ends; needs `trainer.max_steps`.
        column_mapping: new names for columns, as `{"headline": "text"}`.
        kwargs: options of the tokenizer.
    """

    predicts_test_rows: ClassVar[bool] = True
    """Whether the test rows are predicted where there are none to predict."""

    def __init__(
        self,
        *,
        dataset: Any = None,
        dataset_name: str | None = None,
        dataset_config_name: str | None = None,
        dataset_revision: str | None = None,
        train_file: str | list[str] | None = None,
        validation_file: NamedFiles | None = None,
        test_file: NamedFiles | None = None,
        predict_file: NamedFiles | None = None,
        column_names: list[str] | None = None,
        quoting: Quoting = "minimal",
        delimiter: str | None = None,
        sample_by: SampleBy = "line",
        keep_linebreaks: bool = False,
        train_split_name: str = "train",
        validation_split_name: SplitNames | None = None,
        test_split_name: SplitNames | None = None,
        predict_split_name: SplitNames | None = None,
        validation_split_percentage: float = 5,
        max_train_samples: int | None = None,
        max_eval_samples: int | None = None,
        max_predict_samples: int | None = None,
        sample_head: bool = False,
        sources: dict[str, dict[str, Any]] | None = None,
        streaming: bool = False,
        column_mapping: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hparams["sources"] = None if sources is None else {name: _plain(each) for name, each in sources.items()}
        kind = StreamedSource if streaming else RawSource
        read = ReadOptions(column_names, quoting, delimiter, sample_by, keep_linebreaks)
        self.source = mixed_source(
            kind(
                dataset=dataset,
                hub=HubSource(dataset_name, dataset_config_name, dataset_revision) if dataset_name else None,
                files=_by_kind(train_file, validation_file, test_file, predict_file),
                split_names=_by_kind(train_split_name, validation_split_name, test_split_name, predict_split_name),
                read=self.reading(read, predicting=False),
                read_to_predict=self.reading(read, predicting=True),
                column_mapping=column_mapping or {},
                validation_split_percentage=validation_split_percentage,
                limits=_by_kind(max_train_samples, max_eval_samples, max_eval_samples, max_predict_samples),
                head=sample_head,
            ),
            sources or {},
        )
        self._scratch: Scratch | None = None

    # What a task writes

    def reading(self, read: ReadOptions, predicting: bool) -> ReadOptions:
        """Returns how files are read, those of rows to predict or the others, given what the options say."""
        return read

    def column_of_texts(self, known: dict[str, Any]) -> str:
        """Returns the column that lines of a txt file to predict stand for; `known` as for `describe`."""
        given = self.hparams.get("text_column_name") or known.get("text_column")
        return given if given and isinstance(given, str) else TEXT

    def strata(self, rows: RawRows) -> Rows | None:
        """Returns a number per row, in whose proportions the validation split is cut; `None` = by chance alone."""
        return None

    def groups(self, rows: RawRows) -> Rows | None:
        """Returns a number per row; the validation split is cut between rows of different ones. `None` = anywhere."""
        return None

    # Loading

    def load_rows(self, kind: Split) -> dict[str, RawRows]:
        """Loads the raw rows of one kind of split, by set; only while rows are prepared.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        origin = self._origin(kind)
        assert self._scratch is not None, "rows are loaded while they are prepared, at no other time"
        loaded = self.source.load(origin, self.strata, self._scratch, self.groups, kind)
        if not loaded and kind != "validation":
            other = "test_file" if kind == "predict" and self.predicts_test_rows else f"{kind}_split_name"
            raise UserError(f"no {kind} rows: set {kind}_file or {other}")
        if kind == "predict":
            column = self.column_of_texts(self.known)
            return {name or self.source.stem(origin): rows.with_texts_in(column) for name, rows in loaded.items()}
        return loaded

    def _origin(self, kind: Split) -> Split:
        tests = kind == "predict" and self.predicts_test_rows and not self.source.sets("predict")
        return "test" if tests else kind

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Allows `load_rows` for a while, outside of preparation; the files that are read go away afterwards."""
        before = self._scratch
        with tempfile.TemporaryDirectory() as folder:
            self._scratch = Scratch(Path(folder))
            try:
                yield
            finally:
                self._scratch = before
