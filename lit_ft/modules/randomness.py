"""A LightningModule whose random numbers in training are a pure function of seed, epoch, batch and process.

So a run that goes on draws what it would have drawn, whatever was drawn in between, and no checkpoint has to keep the
states of generators of every process.
"""

import os
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule


class StepwiseRandomness(LightningModule):
    """Seeds Python, NumPy and torch (CPU and the module's own device) before each training batch.

    Attributes:
        step_seed: the run's seed, `seed_everything`'s where it was called; part of the checkpoint.
    """

    step_seed: int | None = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seeds for this batch."""
        if self.step_seed is None:
            seed = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))
            self.step_seed = self.trainer.strategy.broadcast(seed)
        place = [self.step_seed % 2**64, self.trainer.current_epoch, batch_idx, self.global_rank]
        seed = int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        # not torch.manual_seed: where there is no GPU it keeps a stack trace of each call
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)
