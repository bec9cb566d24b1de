"""`lit-ft quickstart`: the main job on sample data and weights that need no hub: fit, test, predict, export."""

import json

from rich.console import Console
from rich.table import Table

from lit_ft import cli
from lit_ft.screen import show_metrics
from lit_ft.yaml_files import shipped_config

CONFIG = "text_classification/quickstart.yaml"
SHOWN = 5


def quickstart() -> None:
    """Runs the three commands one after the other and shows metrics, five predictions, and where everything lies."""
    config = ["--config", str(shipped_config(CONFIG))]
    cli.main(["fit", *config])
    metrics = dict(cli.main(["test", *config, "--ckpt_path", "best"]).trainer.callback_metrics)
    predicted = cli.main(["predict", *config, "--ckpt_path", "best"])
    folder = predicted.folder
    console = Console()
    show_metrics("test split", metrics)
    assert folder is not None
    path = next((folder / "predictions").glob("*.jsonl"))
    examples = Table("message", "predicted", "score", title=f"{SHOWN} of the predictions")
    for line in path.read_text(encoding="utf-8").splitlines()[:SHOWN]:
        row = json.loads(line)
        examples.add_row(row["text"], row["predicted_label"], f"{row['score']:.2f}")
    console.print(examples)
    left = {"predictions": path, "model": folder / "hf", "report": folder / "report.html", "run": folder}
    console.print("\n".join(f"{name + ':':<12} {place}" for name, place in left.items()), soft_wrap=True)
