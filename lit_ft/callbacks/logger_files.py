"""What loggers beside our own get: the options of a run, and at its end the report."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

LONGEST = 240
"""Characters of an option's value; trackers refuse long ones."""


def tell_options(logger: Logger, wings: dict[str, Any]) -> None:
    """Logs the options of module, data module and Trainer.

    Args:
        logger: any of Lightning's, or another.
        wings: options by the name of what they belong to.
    """
    flat = {f"{wing}.{name}": _plain(value) for wing, options in wings.items() for name, value in options.items()}
    logger.log_hyperparams({name: value for name, value in flat.items() if value is not None})


def hand_on(logger: Logger, page: Path, text: Path, step: int) -> None:
    """Gives a run's report to a logger that keeps files or texts: MLflow, Weights & Biases, TensorBoard.

    They are told by what they can do, so that none of their packages has to be here.

    Args:
        logger: any.
        page: the report as HTML.
        text: the report as Markdown.
        step: of the run.
    """
    experiment: Any = getattr(logger, "experiment", None)
    if isinstance(logger, CSVLogger) or experiment is None:
        return
    if hasattr(experiment, "log_artifact") and getattr(logger, "run_id", None):  # MLflow
        for path in (page, text):
            experiment.log_artifact(logger.run_id, str(path))  # type: ignore[attr-defined]
    elif hasattr(experiment, "save") and hasattr(experiment, "use_artifact"):  # Weights & Biases
        for path in (page, text):
            experiment.save(str(path), base_path=str(path.parent), policy="now")
    elif hasattr(experiment, "add_text"):  # TensorBoard
        experiment.add_text("report", text.read_text(encoding="utf-8"), step)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float) else str(value)[:LONGEST]
