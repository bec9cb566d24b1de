"""`samples.jsonl`: what a language model makes of the sample prompts, after each validation."""

import json
import logging
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lit_ft.callbacks.base import RunCallback
from lit_ft.pages.run_files import SAMPLES

log = logging.getLogger("lit_ft")


class Samples(RunCallback):
    """Says and keeps what a module with `samples` makes, beside the step it was made at."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the samples on every process, for sharded models need all of them; the first one writes."""
        module: Any = pl_module
        if trainer.sanity_checking or trainer.state.fn != "fit" or not hasattr(module, "samples"):
            return
        samples = module.samples()
        if not trainer.is_global_zero:
            return
        for sample in samples:
            log.info(f"step {trainer.global_step}: {sample['prompt']!r} -> {sample['generated_text']!r}")
        if samples and self.run is not None:
            with (self.run / SAMPLES).open("a", encoding="utf-8") as file:
                for sample in samples:
                    file.write(json.dumps({"step": trainer.global_step, **sample}, ensure_ascii=False) + "\n")
