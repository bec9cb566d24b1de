"""Options of the optimizer out of their range are named before anything is loaded."""

import math

import pytest

from lit_ft import TextClassificationModule
from lit_ft.errors import UserError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", -1.0, r"learning_rate is -1.0; it must be at least 0"),
        ("learning_rate", math.nan, r"learning_rate is nan; it must be at least 0"),
        ("weight_decay", math.inf, r"weight_decay is inf; it must be at least 0"),
        ("adam_beta1", 1.0, r"adam_beta1 is 1.0; it must be at least 0 and below 1"),
        ("adam_beta2", 1.0, r"adam_beta2 is 1.0; it must be at least 0 and below 1"),
        ("warmup_ratio", 1.5, r"warmup_ratio is 1.5; it must be at least 0 and at most 1"),
        ("layerwise_lr_decay", 0.0, r"layerwise_lr_decay is 0.0; it must be above 0 and at most 1"),
        ("label_smoothing_factor", 2.0, r"label_smoothing_factor is 2.0; it must be at least 0 and at most 1"),
    ],
)
def test_out_of_range(name: str, value: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextClassificationModule(model_name_or_path="nowhere", **{name: value})


def test_the_ends_of_a_range_are_in_it() -> None:
    ends = {"learning_rate": 0.0, "adam_beta1": 0.0, "warmup_ratio": 1.0, "layerwise_lr_decay": 1.0}
    TextClassificationModule(model_name_or_path="nowhere", **ends)
