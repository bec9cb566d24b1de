"""The values that options of AdamW and of its schedule can take."""

from lit_ft.ranges import BELOW_ONE, NOT_NEGATIVE, POSITIVE, SHARE, Range

RANGES: dict[str, Range] = {
    "learning_rate": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "adam_beta1": BELOW_ONE,
    "adam_beta2": BELOW_ONE,
    "adam_epsilon": NOT_NEGATIVE,
    "num_warmup_steps": NOT_NEGATIVE,
    "warmup_ratio": SHARE,
    "layerwise_lr_decay": (POSITIVE[0], 1.0),
    "loraplus_lr_ratio": POSITIVE,
}
