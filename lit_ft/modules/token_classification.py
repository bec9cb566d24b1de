"""Token classification: any AutoModelForTokenClassification on words of entities, or with plain tags."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForTokenClassification, PreTrainedConfig

from lit_ft.data.batching.merging import Part
from lit_ft.data.batching.parts import taken_apart
from lit_ft.data.labels import IGNORED
from lit_ft.data.tags.description import describe_known
from lit_ft.data.tags.entities import entities_in
from lit_ft.data.tags.rows import text_and_places, words_of
from lit_ft.data.tags.schemes import TagScheme, TagTable
from lit_ft.errors import UserError
from lit_ft.metrics.tagging import TagMetrics
from lit_ft.modules.base import Batch, Description
from lit_ft.modules.labelled import LabelledModule
from lit_ft.ops.decoding.tagging import at_words, best_tags, first_labelled
from lit_ft.ops.losses.classification import classification_loss


class TokenClassificationModule(LabelledModule):
    """Tags words; batches are those of `TokenClassificationDataModule`, or any with `labels` `[batch, seq]`.

    Where a batch does not say which tokens are the first of a word, those that have a label are taken for words.

    Args:
        constrained_decoding: take the best sequence that the tags' scheme allows instead of each word's best tag. It
            needs no new weights; the exported model is the same.
        kwargs: options of every module, and of those with labels.
    """

    auto_class = AutoModelForTokenClassification
    extra_keys = ("first_tokens",)
    pipeline_tag = "token-classification"
    card_example = """from transformers import pipeline

tag = pipeline("token-classification", "this/folder", aggregation_strategy="first")
tag("a text")"""
    monitor_mode = "max"

    def __init__(
        self,
        *,
        constrained_decoding: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)

    def describe_names(self, names: list[str], config: PreTrainedConfig | None) -> Description:
        """The tags, and their scheme; see the base."""
        return describe_known(names, getattr(config, "tag_scheme", None))

    @property
    def monitor(self) -> str:  # type: ignore[override]
        """F1 of entities; of plain tags, accuracy."""
        return "val_accuracy" if self._scheme(self.known_description) is None else "val_f1"

    def setup(self, stage: str) -> None:
        """Makes sure that decoding has a scheme to go by; see the base."""
        super().setup(stage)
        if self.hparams["constrained_decoding"] and self._scheme(self.named(self.description)) is None:
            raise UserError("constrained_decoding: plain tags have no scheme that forbids any sequence; leave it out")

    def config_kwargs(self, description: Description) -> dict[str, Any]:
        """Adds the tags' scheme; see the base."""
        values = super().config_kwargs(description)
        scheme = self._scheme(description)
        return values if scheme is None else {**values, "tag_scheme": scheme}

    def loss(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Cross-entropy over the labelled tokens; see the base."""
        logits, labels = outputs.logits.flatten(0, 1), batch["labels"].flatten()
        return classification_loss(logits, labels, "single_label", None, self.hparams["label_smoothing_factor"])

    def decode(self, outputs: Any, batch: Batch) -> list[Part]:
        """Takes the scores `[words, tags]` and the tags `[words]` of each feature's words, and what they stand in."""
        first = batch.get("first_tokens")
        if first is None:
            if "labels" not in batch:
                raise UserError("words are known of our data module's batches only, or where they have labels")
            first = first_labelled(batch["labels"])
        logits = at_words(outputs.logits.float(), first)
        labels = at_words(batch["labels"], first) if "labels" in batch else None
        return taken_apart(len(logits), logits=logits, labels=labels, info=batch.get("info") or [{}] * len(logits))

    def merge(self, parts: list[Part]) -> Part:
        """Lays the words of the windows one behind the other."""
        if len(parts) == 1:
            return parts[0]
        joined = {name: [part[name] for part in parts] for name in ("logits", "labels") if parts[0][name] is not None}
        return {**parts[0], **{name: torch.cat(values) for name, values in joined.items()}}

    def metrics(self, description: Description, stage: str) -> TagMetrics:
        """Entities and accuracy; of plain tags, what classification has."""
        return TagMetrics(description["labels"], self._scheme(description), self.device)

    def update(self, metrics: TagMetrics, rows: list[Part]) -> None:
        """Scores the tagged words; see the base."""
        rows = [row for row in rows if row["labels"] is not None]
        if rows:
            logits = [row["logits"] for row in rows]
            metrics.update(logits, self._tags(logits), [row["labels"] for row in rows])

    def compute(self, metrics: TagMetrics) -> dict[str, Tensor]:
        """Returns the metrics; see the base."""
        return metrics.compute()

    def metric_names(self, description: Description) -> list[str]:
        """Names of the metrics; see the base."""
        return TagMetrics.names(self._scheme(self.named(description)))

    def wrongness(self, rows: list[Part]) -> Tensor | None:
        """The mean loss of the tagged words of each row; see the base."""
        if rows[0]["labels"] is None:
            return None
        losses = [F.cross_entropy(row["logits"], row["labels"], ignore_index=IGNORED) for row in rows]
        return torch.stack(losses)  # NaN of a row without tagged words

    def said(self, row: Part) -> str:
        """The words' tags that are wrong; see the base."""
        (ids,) = self._tags([row["logits"]])
        names, pairs = self.description["labels"], zip(ids.tolist(), row["labels"].tolist(), strict=True)
        wrong = [
            f"word {number + 1} {names[found]}, not {names[label]}"
            for number, (found, label) in enumerate(pairs)
            if label != IGNORED and found != label
        ]
        return "; ".join(wrong) or "all words right"

    def prediction(self, row: Part) -> dict[str, Any]:
        """Returns the words (where the row has a text), the tag of each and its probability, and the entities."""
        (ids,) = self._tags([row["logits"]])
        scores = row["logits"].softmax(-1).gather(1, ids[:, None])[:, 0].tolist()
        names, scheme = self.description["labels"], self._scheme(self.description)
        made: dict[str, Any] = {"predicted_tags": [names[number] for number in ids.tolist()], "scores": scores}
        cell, reading = row["info"].get(self.description.get("text_column")), self.description.get("words", "list")
        if isinstance(cell, str):
            made = {"words": words_of(cell, reading), **made}
        if scheme is not None and cell is not None:
            text, places = text_and_places(cell, reading)
            made["entities"] = entities_in(ids.tolist(), scores, TagTable.of(names), scheme, text, places)
        return made

    def _tags(self, logits: list[Tensor]) -> list[Tensor]:
        table = TagTable.of(self.description["labels"]) if self.hparams["constrained_decoding"] else None
        return best_tags(logits, table, self._scheme(self.description))

    def _scheme(self, description: Description) -> TagScheme | None:
        return description.get("tag_scheme")  # type: ignore[no-any-return]
