"""A trained model in Python without a Trainer: rows in, the rows that `lit-ft predict` would write out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

import lit_ft
from lit_ft import made_with
from lit_ft.data.batching.merging import RowMerger
from lit_ft.data.features.ragged import as_column
from lit_ft.data.reading.raw import RawRows
from lit_ft.data.reading.sources import resolve_path
from lit_ft.datamodules.base import TransformerDataModule
from lit_ft.errors import RowError, UserError, did_you_mean
from lit_ft.loading import load, named_class
from lit_ft.modules.base import TransformerModule
from lit_ft.modules.evaluation import beside
from lit_ft.objects import option_defaults
from lit_ft.ops.adapters.injecting import base_of, is_adapter
from lit_ft.ops.building.models import ModelSource
from lit_ft.ops.building.shards import SHARDS_INDEX
from lit_ft.ranges import check_choice
from lit_ft.runs import CHECKPOINTS, find_checkpoint, run_of

TASKS = {
    "ForSequenceClassification": "TextClassification",
    "ForTokenClassification": "TokenClassification",
    "ForQuestionAnswering": "QuestionAnswering",
    "ForMultipleChoice": "MultipleChoice",
    "ForMaskedLM": "MaskedLM",
    "LMHeadModel": "CausalLM",
    "ForCausalLM": "CausalLM",
    "ForConditionalGeneration": "Seq2Seq",
    "MTModel": "Seq2Seq",
}
"""What the name of a class ends with, by our task."""
NAMES = (
    *dict.fromkeys(TASKS.values()),
    "EmbeddingZeroShot", "InstructionTuning", "SentenceEmbedding", "Summarization", "Translation", "ZeroShot",
)  # fmt: skip
DATA_OF = {"Reward": "Preference"}
"""Tasks whose rows are another's."""
PLACE = "rows"

Row = Mapping[str, Any]


class Predictor:
    """Predicts rows; windows of long texts are merged, and no padding is computed where the model can do without.

    Args:
        module: with its model.
        data: reads the rows.
        batch_size: rows that are run together.
    """

    def __init__(self, module: Any, data: Any, batch_size: int = 32) -> None:
        self.module, self.data, self.batch_size = module.eval(), data, batch_size
        data.serve(module)
        self.known = dict(module.description)

    def __call__(self, rows: Sequence[Row | str] | Row | str) -> list[dict[str, Any]]:
        """Predicts.

        Args:
            rows: each with the columns that the data had (but for labels), or a text; or a single one.

        Returns:
            In their order: the row's own columns, and what `lit-ft predict` writes beside them.

        Raises:
            UserError: a row cannot be used, or lacks a column.
        """
        given = [rows] if isinstance(rows, str | Mapping) else list(rows)
        if not given:
            return []
        whole = Dataset.from_list([self._row(each) for each in given])
        found: dict[int, dict[str, Any]] = {}
        merger = RowMerger()
        with torch.no_grad():
            for batch in self._batches(whole):
                batch = self.data.transfer_batch_to_device(batch, self.module.device, 0)
                for row in merger.add(self.module.predict_parts(batch), batch):
                    found[row.number] = beside(row.info, self.module.prediction(self.module.merge(row.parts)))
        return [found[number] for number in range(len(given))]

    def _row(self, row: Row | str) -> dict[str, Any]:
        return {self.data.column_of_texts(self.known): row} if isinstance(row, str) else dict(row)

    def _batches(self, whole: Dataset) -> Iterator[dict[str, Any]]:
        """Yields batches of rows of similar length, the windows of a row one after the other."""
        raw, data = RawRows(whole, PLACE), self.data
        data.description = data.describe({"predict": {"": raw}}, self.known)
        self.module.description = {**self.known, **data.description}
        rows = next(raw.batches(data.input_columns("predict"), len(whole)))
        try:
            columns = {name: as_column(values) for name, values in data.tokenize(rows, "predict").items()}
        except RowError as error:
            raise error.at(raw.where) from None
        of_row = np.asarray(columns["row"])
        lengths = np.array([len(columns["input_ids"][at]) for at in range(len(of_row))])
        longest = np.zeros(len(whole), np.int64)
        np.maximum.at(longest, of_row, lengths)
        order = np.argsort(-longest, kind="stable")
        first = np.searchsorted(of_row, np.arange(len(whole) + 1))
        info = data.info_columns(whole.column_names, "predict")
        for start in range(0, len(order), self.batch_size):
            features = []
            for row in order[start : start + self.batch_size].tolist():
                cells = whole[row]
                own = {name: cells[name] for name in info}
                for at in range(first[row], first[row + 1]):
                    feature = {name: column[at] for name, column in columns.items()}
                    windows = int(first[row + 1] - first[row])
                    features.append({**feature, "key": (0, at), "row": row, "windows": windows, "info": own})
            yield data.batch_of("predict", features)


def load_predictor(
    source: str | Path,
    task: str | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 32,
    class_path: str | None = None,
    **options: Any,
) -> Predictor:
    """Loads a trained model.

    Args:
        source: a checkpoint or run of lit_ft, or a Hugging Face folder or name on the hub, an adapter's, too.
        task: `TextClassification`, `TokenClassification`, `QuestionAnswering`, `MultipleChoice`, `MaskedLM`,
            `CausalLM`, `InstructionTuning`, `SentenceEmbedding`, `Seq2Seq`, `Summarization`, `Translation`, `ZeroShot`,
            `EmbeddingZeroShot`.
            Default: that of the checkpoint, or by the class of the folder's model.
        device: where it runs. Default: a GPU if there is one.
        batch_size: rows that are run together.
        class_path: class of the module, where the model is of one of your own, or its rows were read by one: the class
            of the data is then that of the run.
        options: of the data module or of the module, by their names, such as `stride=64` or
            `generation={"num_beams": 4}`; they win over those of the run.

    Raises:
        UserError: nothing is there, or it is of no task that is known.
    """
    check_choice({"task": task}, "task", (None, *NAMES))
    if _is_ours(Path(source)):
        path = find_checkpoint(str(source), Path("runs"))
        module, _ = load(path, class_path, bool(options.get("trust_remote_code")))
        made = made_with.of_run(run_of(path), bool(class_path))
        made.setdefault("options", {}).setdefault("add_tokens", module.hparams["add_tokens"])
        _take(module, options)
    else:
        where = {"revision": options.get("model_revision", "main"), "cache_dir": options.get("cache_dir")}
        made = {} if task else made_with.read(str(source), **where)
        kind = _module_class(str(source), task, class_path, made.get("module", ""))
        own = {option: options.pop(option) for option in [*options] if option in option_defaults(kind)}
        module = kind(model_name_or_path=str(source), **own)
        made = {**made, "options": {"model_name_or_path": str(source), **made.get("options", {}), **own}}
        module.build()
    data_kind = _data_class(type(module), made.get("data", ""), class_path)
    known = option_defaults(data_kind)
    for option in options.keys() - known.keys():
        raise UserError(f"{data_kind.__name__} has no option {option!r}{did_you_mean(option, known)}")
    given = {option: value for option, value in made.get("options", {}).items() if option in known} | options
    try:
        data = data_kind(**given)
    except TypeError as error:
        settled = next((option for option in options if repr(option) in str(error)), None)
        if settled is None:
            raise
        raise UserError(f"{data_kind.__name__} settles {settled} by itself: leave it out") from None
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Predictor(module.to(place), data, batch_size)


def _module_class(source: str, task: str | None, class_path: str | None, written: str) -> Any:
    """Returns the class for a Hugging Face folder; `written` is what the folder says that it was."""
    if name := class_path or written:
        return named_class(name, TransformerModule, bool(class_path), f"{source} is of {name}")
    return getattr(lit_ft, f"{task or _task_of(source)}Module")


def _data_class(module: type, written: str, class_path: str | None) -> Any:
    """Returns the class that reads rows as those of the model were read; `written` is what its run or folder says."""
    if written:  # who vouches for the one vouches for the other
        of_module = f"that of the module, {module.__module__}.{module.__qualname__}"
        said = f"its rows were read with {written}"
        return named_class(written, TransformerDataModule, bool(class_path), said, of_module)
    name = module.__name__.removesuffix("Module")
    kind = getattr(lit_ft, f"{DATA_OF.get(name, name)}DataModule", None)
    if kind is None:
        raise UserError(f"{module.__name__} is no task of lit_ft: make Predictor(module, data) yourself")
    return kind


def _is_ours(path: Path) -> bool:
    return path.is_file() or (path / CHECKPOINTS).is_dir() or (path / SHARDS_INDEX).is_file()


def _take(module: Any, options: dict[str, Any]) -> None:
    """Sets options of a module that is there already."""
    known = option_defaults(type(module))
    taken = {name: options.pop(name) for name in [*options] if name in known}
    if "generation" in taken:
        raise UserError("generation: a checkpoint has its own; export it, and load the folder")
    module.hparams.update(taken)


def _task_of(source: str) -> str:
    """Returns the task of a folder by the class of its model."""
    path = resolve_path(source)
    config = ModelSource(base_of(path) if Path(path).is_dir() and is_adapter(path) else source).config()
    found = [TASKS[end] for name in config.architectures or [] for end in TASKS if name.endswith(end)]
    if not found:
        raise UserError(
            f"{source}: its configuration names {config.architectures or 'no architecture'}, of which the task is not "
            f"known: set task to one of {', '.join(NAMES)}"
        )
    return found[0]
