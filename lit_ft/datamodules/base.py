"""What every task's data module shares: the hooks that a task writes, and the stages of a run."""

import logging
from typing import Any, ClassVar

from lit_ft.data.batching.collators import Batch
from lit_ft.data.batching.dataset import FeatureDataset
from lit_ft.data.features.store import FeatureStore
from lit_ft.data.ordering.orders import shuffled
from lit_ft.data.quality.report import table
from lit_ft.data.reading.raw import Split
from lit_ft.data.viewing.row_views import SequenceView, token_parts
from lit_ft.datamodules.loaders import LoadingDataModule
from lit_ft.datamodules.streaming import check_order, check_streaming, check_validation
from lit_ft.datamodules.viewing import summary, view

log = logging.getLogger("lit_ft")

STAGES: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "validation"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}
SHOWN = 3
"""Random training rows that are said at the start of fit, as the scripts do."""


class TransformerDataModule(LoadingDataModule):
    """Rows from files, the hub or memory, tokenized once and served in batches by transformers' names.

    A task writes `describe`, `tokenize`, `collate` and, where it needs them, `row_content`, `input_columns`,
    `info_columns`, `summarise`, `strata`, `groups`, `train_order`, `sequences`, `label_of` and `label_counts`.
    """

    learns_classes: ClassVar[bool] = True
    """Whether each label that is counted has to be learned."""

    # What a task writes

    def sequences(self, batch: Batch) -> list[SequenceView]:
        """Takes a batch of one row apart for people: the sequences that the model reads."""
        return token_parts(self.tokenizer, batch)

    def label_of(self, batch: Batch) -> str | None:
        """Returns what is to be predicted of the row as a whole in a batch of one; `None` = nothing, or no label."""
        return None

    def summary(self) -> dict[str, Any]:
        """Returns what the sets at hand hold and what is wrong with them, as plain JSON; see `viewing.summary`."""
        return summary(self)

    def label_counts(self, store: FeatureStore) -> dict[str, int]:
        """Counts the features of each label; empty where there are none to be counted."""
        return {}

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Tokenizes the rows of the coming stage, once per machine; does nothing when that was done before."""
        if self.is_left_out:
            return
        stage = str(self.trainer.state.fn.value) if self.trainer and self.trainer.state.fn else "fit"
        if stage == "fit" and self.hparams["streaming"]:
            check_streaming(self)
        self._used = {}  # from here on files must stay as they are
        self.prepare_stage(STAGES[stage], overwrite=self.hparams["overwrite_cache"])

    def setup(self, stage: str = "fit") -> None:
        """Maps the prepared features of a stage (`fit`, `validate`, `test`, `predict`) into memory."""
        stage = str(getattr(stage, "value", stage))
        if self.is_left_out and self.trainer is not None and stage == self.trainer.state.fn:
            return
        prepared = self.prepare_stage(STAGES[stage])
        self.description, self.report = prepared.description, prepared.report
        for note in [*prepared.notes, table(prepared.report)]:
            if note:
                log.info(note)
        for kind, sets in prepared.sets.items():
            self.known_rows[kind] = {name: each.known_rows for name, each in sets.items()}
            self.features[kind] = {name: FeatureDataset(each.features, each.info) for name, each in sets.items()}
        if stage == "fit":
            self._start = None  # of an earlier fit; Lightning restores after `setup`
        if stage == "fit" and self.hparams["streaming"]:
            check_streaming(self)
            check_order(self)
            check_validation(self)
        elif stage == "fit":
            self._join(prepared.sets["train"])
            _ = self._train_sampler  # options that exclude each other are named before a model is built
            for index in shuffled(len(self.features["train"][""]), self.seed, 0)[:SHOWN].tolist():
                log.info(f"a training row: {view(self, 'train', '', index).plain()}")

    def set_names(self, kind: Split) -> list[str]:
        """Names of the evaluation sets of one kind, in the order of their loaders."""
        return list(self.features.get(kind, {}))
