"""What happens around a run: checkpoints, export, predictions, progress."""

from lit_ft.callbacks.base import RunCallback
from lit_ft.callbacks.checkpoint import RunCheckpoint
from lit_ft.callbacks.data_report import DataReport
from lit_ft.callbacks.evaluation_record import EvaluationRecord
from lit_ft.callbacks.export import HFExport
from lit_ft.callbacks.interruption import Interruption
from lit_ft.callbacks.label_report import LabelReport
from lit_ft.callbacks.learning_rate import LearningRate
from lit_ft.callbacks.loss_guard import LossGuard
from lit_ft.callbacks.predictions import PredictionWriter
from lit_ft.callbacks.progress import RunProgress
from lit_ft.callbacks.run_logger import RunLogger
from lit_ft.callbacks.run_record import RunRecord
from lit_ft.callbacks.run_report import RunReport
from lit_ft.callbacks.samples import Samples
from lit_ft.callbacks.throughput import Throughput

__all__ = [
    "DataReport",
    "EvaluationRecord",
    "HFExport",
    "Interruption",
    "LabelReport",
    "LearningRate",
    "LossGuard",
    "PredictionWriter",
    "RunCallback",
    "RunCheckpoint",
    "RunLogger",
    "RunProgress",
    "RunRecord",
    "RunReport",
    "Samples",
    "Throughput",
]
