"""A data module's rows, tokenized once per machine, and what is done about bad ones."""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import lit_ft
from lit_ft.data.caching.cache import preparation_root
from lit_ft.data.caching.digests import class_digest, tokenizer_digest
from lit_ft.data.caching.fingerprints import Stamp, check_unchanged
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.grouping.blocks import Grouping
from lit_ft.data.preparing.featurizing import RowContent
from lit_ft.data.preparing.prepare import Prepared, Work, prepare
from lit_ft.data.quality.kinds import BadRows, check_actions, kinds_with
from lit_ft.data.reading.raw import RawRows, Scratch, Split
from lit_ft.datamodules.rows import RowsDataModule
from lit_ft.errors import UserError
from lit_ft.ranges import AT_LEAST_ONE, check_ranges

log = logging.getLogger("lit_ft")


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


class PreparingDataModule(RowsDataModule):
    """Rows, tokenized once; see `TransformerDataModule`, which serves them.

    Args:
        preprocessing_num_workers: processes that tokenize.
        preparation_dir: where prepared data is kept. Default: `$LIT_FT_CACHE`, else `~/.cache/lit_ft`.
        overwrite_cache: prepare anew even if it was done before.
        on_bad_rows: what to do with rows that are not as they should be, by kind: `keep`, `drop` or `error`. Kinds:
            `empty_text`, `duplicate`, `near_duplicate`, `seen_in_train`, `seen_in_validation`, `contradicting_labels`,
            `unlabelled`, `unknown_label`, `cut`, `unknown_tokens`, `mojibake`, `byte_order_mark`, `control_characters`,
            `mixed_line_ends`; of tagged words `ill_formed_tags`, of preferences `equal_replies`. Default: keep, but
            `error` for training rows without a label and unknown labels. Text to text drops rows without source or
            target; masked language modelling drops rows without text, with `line_by_line`.
        kwargs: options of where the rows come from, and of the tokenizer.
    """

    loading_options: ClassVar[frozenset[str]] = frozenset(
        {"cache_dir", "preprocessing_num_workers", "preparation_dir", "overwrite_cache"}
    )
    """Options that change nothing in what is prepared."""
    too_long: str = "longer than max_seq_length"
    cut_advice: str = "raise max_seq_length"
    """What rows are that lose tokens, and what to do about it."""
    bad_rows: Mapping[str, BadRows] = {}
    """Kinds of bad rows of a task's own, which `tokenize` tells by a column of that name."""

    def __init__(
        self,
        *,
        preprocessing_num_workers: int | None = None,
        preparation_dir: str | None = None,
        overwrite_cache: bool = False,
        on_bad_rows: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_ranges(self.hparams, {"preprocessing_num_workers": AT_LEAST_ONE})
        self.on_bad_rows = check_actions(on_bad_rows or {}, self.kinds_of_bad_rows)
        self.description: dict[str, Any] = {}
        self.notes: list[str] = []
        self.said_cut = False
        self._used: dict[Path, Stamp] = {}
        self._made_for: tuple[Any, dict[str, Any]] | None = None

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
            names, and a column for each of `bad_rows` whether it is so (counted, then dropped).

        Raises:
            RowError: a row cannot be used.
        """

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

    # Preparation

    @property
    def kinds_of_bad_rows(self) -> dict[str, BadRows]:
        """What is bad about rows, in this task's words: the kinds of every task, and its own."""
        return {**kinds_with(self.bad_rows), "cut": BadRows(f"are {self.too_long}", self.cut_advice)}

    def prepare_stage(self, kinds: tuple[Split, ...], overwrite: bool = False) -> Prepared:
        """Tokenizes the rows of some kinds of split, unless that was done before, and maps the result into memory.

        Raises:
            UserError: rows or options do not fit; a file changed since this data module used it first.
        """
        self._forget_other_models()
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

    def _forget_other_models(self) -> None:
        """Lets encoders and all else that is cached be made anew where tokenizer or options are not those of before.

        A data module may serve one model after the other; what the first one's tokenizer made is nothing to the second.
        """
        made_for = (self.tokenizer, dict(self.hparams))
        if self._made_for is not None and (self._made_for[0] is not made_for[0] or self._made_for[1] != made_for[1]):
            for kind in type(self).__mro__:
                for name in [name for name, value in vars(kind).items() if isinstance(value, cached_property)]:
                    self.__dict__.pop(name, None)
        self._made_for = made_for

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

    @property
    def refuses_unknown_labels(self) -> bool:
        """Whether a label that is none of the names is an error, to be raised where it is found."""
        return self.on_bad_rows["unknown_label"] == "error"

    @property
    def unknown_id(self) -> int | None:
        """Id of the unknown token; `None` where it has other uses, such as ending every text (GPT-2)."""
        tokenizer = self.tokenizer
        others = (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id)
        return None if tokenizer.unk_token_id in others else tokenizer.unk_token_id
