"""The values that options of AdamW, of its schedule and of losses can take."""

import math
from collections.abc import Mapping
from typing import Any

from lit_ft.errors import UserError

RANGES = {
    "learning_rate": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "adam_beta1": (0.0, math.nextafter(1, 0)),
    "adam_beta2": (0.0, math.nextafter(1, 0)),
    "adam_epsilon": (0.0, math.inf),
    "num_warmup_steps": (0, math.inf),
    "warmup_ratio": (0.0, 1.0),
    "layerwise_lr_decay": (math.nextafter(0, 1), 1.0),
    "loraplus_lr_ratio": (math.nextafter(0, 1), math.inf),
    "label_smoothing_factor": (0.0, 1.0),
}
"""Least and greatest value of each; infinity itself is none."""


def check_ranges(options: Mapping[str, Any]) -> None:
    """Checks the options that are there; `None` is left to whoever reads them.

    Raises:
        UserError: one is out of its range, or no number.
    """
    for name, (least, most) in RANGES.items():
        value = options.get(name)
        if value is None or (least <= value <= most and math.isfinite(value)):
            continue
        from_, to = ("above 0" if 0 < least < 1e-9 else f"at least {least:g}"), ""
        if most != math.inf:
            to = f" and {'at most' if most == 1 else 'below'} 1"
        raise UserError(f"{name} is {value}; it must be {from_}{to}")
