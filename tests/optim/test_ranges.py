"""Options of the optimizer out of their range are named before anything is loaded."""

import math

import pytest

from lit_ft import TextClassificationModule
from lit_ft.errors import UserError
from lit_ft.ranges import AT_LEAST_ONE, BELOW_ONE_HALF, POSITIVE, check_choice, check_ranges


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
    ],
)
def test_out_of_range(name: str, value: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TextClassificationModule(model_name_or_path="nowhere", **{name: value})


def test_the_ends_of_a_range_are_in_it() -> None:
    ends = {"learning_rate": 0.0, "adam_beta1": 0.0, "warmup_ratio": 1.0, "layerwise_lr_decay": 1.0}
    TextClassificationModule(model_name_or_path="nowhere", **ends)


def test_ranges_and_words_of_a_task() -> None:
    ranges = {"beta": POSITIVE, "label_smoothing": BELOW_ONE_HALF, "top_k": AT_LEAST_ONE}
    check_ranges({"beta": 0.1, "label_smoothing": 0.49, "top_k": 1, "other": -1}, ranges)
    check_ranges({"beta": None, "top_k": 10**400}, ranges)
    for name, value, wanted in (
        ("beta", 0, "above 0"),
        ("beta", math.inf, "above 0"),
        ("beta", "much", "above 0"),
        ("label_smoothing", 0.5, "at least 0 and below 0.5"),
        ("top_k", 0, "at least 1"),
    ):
        with pytest.raises(UserError, match=f"^{name} is {value}; it must be {wanted}$"):
            check_ranges({name: value}, ranges)
    check_choice({"pooling": None}, "pooling", (None, "mean", "cls"))
    with pytest.raises(UserError, match=r"^packing is None; choices: none, best_fit — did you mean 'none'\?$"):
        check_choice({"packing": None}, "packing", ("none", "best_fit"))
    with pytest.raises(UserError, match=r"^pooling is 'meen'; choices: mean, cls — did you mean 'mean'\?$"):
        check_choice({"pooling": "meen"}, "pooling", (None, "mean", "cls"))
