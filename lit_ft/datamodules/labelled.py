"""What data modules share whose labels have names: a checkpoint knows them, else the pretrained head, else train."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from lit_ft.data.reading.raw import RawRows, Split, every_set
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.ops.building.models import pretrained_labels


class LabelledDataModule(TransformerDataModule):
    """Rows whose labels have names, which the description keeps as `labels`. Use a task's own class, not this one.

    A task writes `find_columns`, `train_columns`, `known_labels` and `train_labels`, in place of `describe`.
    """

    head: ClassVar[str]
    """How the names of classes end whose heads know such labels."""
    labels_are: ClassVar[frozenset[str]] = frozenset({"labels"})
    """What a description holds that says all about labels."""

    @abstractmethod
    def find_columns(self, sets: Sequence[RawRows], known: dict[str, Any], labelled: bool) -> dict[str, Any]:
        """Returns which columns are read, for the description.

        Args:
            sets: all rows of the stage.
            known: what a checkpoint, or the module's own arguments, say already.
            labelled: there have to be labels.
        """

    @abstractmethod
    def train_columns(self, train: list[RawRows], known: dict[str, Any]) -> dict[str, Any]:
        """Returns what `find_columns` could not say, where training rows are read for their labels alone."""

    @abstractmethod
    def known_labels(
        self, given: list[str], sets: Sequence[RawRows], known: dict[str, Any], config: PreTrainedConfig | None
    ) -> dict[str, Any]:
        """Returns what a head's labels are, where there are no training rows.

        Args:
            given: their names.
            sets: rows to be scored, if there are any.
            known: see `find_columns`.
            config: the model's.
        """

    @abstractmethod
    def train_labels(self, train: list[RawRows], given: list[str] | None, known: dict[str, Any]) -> dict[str, Any]:
        """Returns what the labels of training rows are.

        Args:
            train: the rows.
            given: names of the labels of a head that is there already.
            known: see `find_columns`; where it holds `labels`, no others are possible.
        """

    def describe(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        """Finds the columns, and what the labels are; see the base."""
        self.description = {**known, **self.find_columns(every_set(raw), known, "predict" not in raw)}
        if "train" in raw or not self.labels_are <= set(known):
            self.description |= self._labels(raw, known)
        return self.description

    def _labels(self, raw: dict[Split, dict[str, RawRows]], known: dict[str, Any]) -> dict[str, Any]:
        config = self.pretrained_config()
        given = known.get("labels") or (pretrained_labels(config, self.head) if config else None)
        if given and "train" not in raw:
            scored = every_set({kind: sets for kind, sets in raw.items() if kind != "predict"})
            return self.known_labels(given, scored, known, config)
        if "train" in raw:
            return self.train_labels([*raw["train"].values()], given, known)
        train = [*self.load_rows("train").values()]
        self.description |= self.train_columns(train, known)
        return self.train_labels(train, given, known)
