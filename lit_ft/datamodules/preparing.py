"""A data module's rows: from files, the hub, memory or several sources, tokenized once per machine."""

import hashlib
import json
import logging
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import lit_ft
from lit_ft.data.caching.cache import preparation_root
from lit_ft.data.caching.digests import class_digest, tokenizer_digest
from lit_ft.data.caching.fingerprints import Stamp, check_unchanged
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.grouping.blocks import Grouping
from lit_ft.data.mixture import mixed_source
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.preparing.prepare import Prepared, Work, prepare
from lit_ft.data.quality.judgement import check_actions
from lit_ft.data.reading.raw import TEXT, RawRows, RawSource, Rows, Scratch, Split, SplitNames
from lit_ft.data.reading.readers import Quoting, ReadOptions, SampleBy
from lit_ft.data.reading.sources import HubSource, NamedFiles
from lit_ft.data.streaming.source import StreamedSource
from lit_ft.datamodules.tokenizing import TokenizingDataModule
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")

Given = TypeVar("Given")


def _plain(options: Any) -> Any:
    if not hasattr(options, "items"):
        return options
    return {name: value for name, value in options.items() if name != "dataset"}


def check_plain(description: Any, whose: str) -> None:
    """Makes sure that a description is plain JSON, as it goes into checkpoints.

    Raises:
        UserError: it is not.
    """
    if not isinstance(description, dict):
        raise UserError(f"{whose} returned {description!r}; it returns a dict")
    for name, value in description.items():
        try:
            json.dumps(value)
        except TypeError:
            raise UserError(f"{whose}: {name!r} is {value!r}, which is no plain JSON") from None


def _by_kind(train: Given, validation: Given, test: Given, predict: Given) -> dict[Split, Given]:
    return {"train": train, "validation": validation, "test": test, "predict": predict}


class PreparingDataModule(TokenizingDataModule):
    """Rows, tokenized once; see `TransformerDataModule`, which serves them.

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
        predict_file: rows to predict, as `validation_file`. Without it, the test rows are predicted.
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
        preprocessing_num_workers: processes that tokenize.
        preparation_dir: where prepared data is kept. Default: `$LIT_FT_CACHE`, else `~/.cache/lit_ft`.
        overwrite_cache: prepare anew even if it was done before.
        sources: several sources of training rows by name, each a dict of options of this class (`train_file`,
            `dataset_name`, `validation_file`, ...) and `column_mapping`; their validation and test rows become sets of
            that name.
        streaming: read and tokenize training rows as they are needed instead of preparing them first, for data that is
            too large or never ends; needs `trainer.max_steps`.
        column_mapping: new names for columns, as `{"headline": "text"}`.
        on_bad_rows: what to do with rows that are not as they should be, by kind: `keep`, `drop` or `error`. Kinds:
            `empty_text`, `duplicate`, `near_duplicate`, `seen_in_train`, `contradicting_labels`, `unlabelled`,
            `unknown_label`, `cut`, `unknown_tokens`, `mojibake`, `byte_order_mark`, `control_characters`,
            `mixed_line_ends`, `ill_formed_tags` (of words), `equal_replies` (of preferences). Default: keep, but
            `error` for training rows without a label and unknown labels.
        kwargs: options of the tokenizer.
    """

    loading_options: ClassVar[frozenset[str]] = frozenset(
        {"cache_dir", "preprocessing_num_workers", "preparation_dir", "overwrite_cache"}
    )
    """Options that change nothing in what is prepared."""
    too_long: str = "longer than max_seq_length"
    cut_advice: str = "raise max_seq_length, or set stride to read them in windows"
    """What rows are that lose tokens, and what to do about it."""
    files_of_words: tuple[str, ...] = ()
    """Extensions of files that hold a word a line, beside conll and conllu."""
    parallel_sides: tuple[str, str] | None = None
    """Names of source and target of parallel text files, where a task reads them; known when options are."""

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
        preprocessing_num_workers: int | None = None,
        preparation_dir: str | None = None,
        overwrite_cache: bool = False,
        sources: dict[str, dict[str, Any]] | None = None,
        streaming: bool = False,
        column_mapping: dict[str, str] | None = None,
        on_bad_rows: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hparams["sources"] = None if sources is None else {name: _plain(each) for name, each in sources.items()}
        self.on_bad_rows = check_actions(on_bad_rows or {})
        kind = StreamedSource if streaming else RawSource
        read = ReadOptions(
            column_names, quoting, delimiter, sample_by, keep_linebreaks, self.files_of_words, self.parallel_sides
        )
        self.source = mixed_source(
            kind(
                dataset=dataset,
                hub=HubSource(dataset_name, dataset_config_name, dataset_revision) if dataset_name else None,
                files=_by_kind(train_file, validation_file, test_file, predict_file),
                split_names=_by_kind(train_split_name, validation_split_name, test_split_name, predict_split_name),
                read=read,
                read_to_predict=self.read_to_predict(read),
                column_mapping=column_mapping or {},
                validation_split_percentage=validation_split_percentage,
                limits=_by_kind(max_train_samples, max_eval_samples, max_eval_samples, max_predict_samples),
                head=sample_head,
            ),
            sources or {},
        )
        self.description: dict[str, Any] = {}
        self.notes: list[str] = []
        self.said_cut = False
        self._used: dict[Path, Stamp] = {}
        self._scratch: Scratch | None = None

    # What a task writes

    @abstractmethod
    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Returns what the model must know of the data (label names, problem type) as plain JSON.

        Args:
            raw: the rows of the stage, by kind and set.
            known: what a checkpoint or the module's own arguments say already; empty when they say nothing.
        """

    @abstractmethod
    def tokenize(self, rows: dict[str, list[Any]], split: Split) -> dict[str, Any]:
        """Turns a batch of raw rows into features.

        Returns:
            Columns of features, each an array, a `Ragged` or a list; `row` is the index, in this batch, of the row that
            each feature came from; `tokens_cut` the tokens lost in it, `unknown_label` whether its label is none of the
            names, `ill_formed_tags` whether its tags are not as their scheme has them, `equal_replies` whether there is
            nothing to prefer (counted, then dropped).

        Raises:
            RowError: a row cannot be used.
        """

    def read_to_predict(self, read: ReadOptions) -> ReadOptions:
        """Returns how files of rows to predict are read, given how the others are."""
        return read

    def column_of_texts(self, known: dict[str, Any]) -> str:
        """Returns the column that lines of a txt file to predict stand for; `known` as for `describe`."""
        given = self.hparams.get("text_column_name") or known.get("text_column")
        return given if given and isinstance(given, str) else TEXT

    def row_content(self, rows: dict[str, list[Any]], split: Split) -> RowContent:
        """Returns what rows are compared by when they are checked: by default every column of strings, no labels."""
        texts = [cells for cells in rows.values() if all(cell is None or isinstance(cell, str) for cell in cells)]
        return RowContent(texts or [[str(cell) for cell in cells] for cells in rows.values()], None)

    def input_columns(self, split: Split) -> list[str] | None:
        """Returns the raw columns that `tokenize` and `row_content` read; `None` = all."""
        return None

    def info_columns(self, present: list[str], split: Split) -> list[str]:
        """Returns the raw columns that go along with the features: by default all of them in prediction."""
        return present if split == "predict" else []

    def grouping(self, split: Split) -> Grouping | None:
        """Returns what makes other features of all features of a set together, such as blocks; `None` = nothing."""
        return None

    def summarise(self, train: Sequence[FeatureStore]) -> dict[str, Any]:
        """Returns what the description says of the prepared training features, such as counts of labels."""
        return {}

    def strata(self, rows: RawRows) -> Rows | None:
        """Returns a number per row, in whose proportions the validation split is cut; `None` = by chance alone."""
        return None

    def groups(self, rows: RawRows) -> Rows | None:
        """Returns a number per row; the validation split is cut between rows of different ones. `None` = anywhere."""
        return None

    # Preparation

    def prepare_stage(self, kinds: tuple[Split, ...], overwrite: bool = False) -> Prepared:
        """Tokenizes the rows of some kinds of split, unless that was done before, and maps the result into memory.

        Raises:
            UserError: rows or options do not fit; a file changed since this data module used it first.
        """
        check_unchanged(self._used)
        self._used |= {path: stamp for kind in kinds for path, stamp in self.source.stamps(self._origin(kind)).items()}
        known = dict(self.known)
        config, root = self.pretrained_config(), preparation_root(self.hparams["preparation_dir"])
        covered = self.loading_options | self.source.covered_options
        key = {
            "lit_ft": lit_ft.__version__,
            "class": class_digest(type(self)),
            "options": {name: value for name, value in self.hparams.items() if name not in covered},
            "tokenizer": tokenizer_digest(self.tokenizer),
            "known": known,
            "max_seq_length": self.longest_feature,
            "head": [config.id2label, config.architectures, config.problem_type] if config else None,
            "train": self._train_fingerprint(root) if not known and "train" not in kinds else None,
            "rows": {kind: self.source.fingerprint(self._origin(kind), root) for kind in kinds},
        }
        workers = self.hparams["preprocessing_num_workers"]
        try:
            return prepare(key, lambda scratch: self._work(kinds, known, scratch), root, workers, overwrite)
        finally:
            self._scratch = None  # its files are gone

    @cached_property
    def train_digest(self) -> str:
        """SHA-256 of what the training rows come from."""
        prints = self._train_fingerprint(preparation_root(self.hparams["preparation_dir"]))
        return hashlib.sha256(json.dumps(prints, sort_keys=True, default=str).encode()).hexdigest()

    def _train_fingerprint(self, root: Path) -> Any:
        try:
            return self.source.fingerprint("train", root)
        except UserError:  # not there: it only matters where the labels are read from it, and there it is said
            return None

    def _work(self, kinds: tuple[Split, ...], known: dict[str, Any], scratch: Path) -> Work:
        self._scratch = Scratch(scratch)
        rows = {kind: self.load_rows(kind) for kind in kinds}
        self.notes = []
        self.description = self.describe(rows, known)
        check_plain(self.description, f"{type(self).__name__}.describe")
        if self.hparams["streaming"]:
            rows.pop("train", None)
        check_unchanged(self._used)
        return Work(rows, self.description, self, self.notes, self.on_bad_rows, self.unknown_id)

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

    @property
    def unknown_id(self) -> int | None:
        """Id of the unknown token; `None` where it has other uses, such as ending every text (GPT-2)."""
        tokenizer = self.tokenizer
        others = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id)
        return None if tokenizer.unk_token_id in others else tokenizer.unk_token_id

    def load_rows(self, kind: Split) -> dict[str, RawRows]:
        """Loads the raw rows of one kind of split, by set; only while rows are prepared.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        origin = self._origin(kind)
        assert self._scratch is not None, "rows are loaded while they are prepared, at no other time"
        loaded = self.source.load(origin, self.strata, self._scratch, self.groups, kind)
        if not loaded and kind != "validation":
            option = "predict_file or test_file" if kind == "predict" else f"{kind}_file or {kind}_split_name"
            raise UserError(f"no {kind} rows: set {option}")
        if kind == "predict":
            column = self.column_of_texts(self.known)
            return {name or self.source.stem(origin): rows.with_texts_in(column) for name, rows in loaded.items()}
        return loaded

    def _origin(self, kind: Split) -> Split:
        return "test" if kind == "predict" and not self.source.sets("predict") else kind
