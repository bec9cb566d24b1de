"""Multiple choice heads without padding: `[batch, choices, seq]`, of choices that are missing, too."""

import pytest
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForMultipleChoice, PreTrainedModel

from lit_ft.ops.losses.classification import choice_loss
from lit_ft.ops.padding_free.running import PaddingFree, make_padding_free
from tests.ops.architectures import tiny_model
from tests.ops.test_padding_free import (
    ENCODERS,
    ROWS,
    assert_same_gradients,
    cell,
    gradients,
    padded_batch,
    tokens_worked_on,
)

WAYS = {
    "body": [
        "bert", "roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "electra", "albert", "distilbert",
        "modernbert", "ernie", "data2vec-text",
    ],
    "parts": ["mpnet", "deberta-v2", "xlnet", "mobilebert", "roformer", "rembert", "xlm", "luke"],
    "padded": ["squeezebert", "convbert"],
}  # fmt: skip
WITH_HEAD = [name for name in ENCODERS if CONFIG_MAPPING[name] in AutoModelForMultipleChoice._model_mapping]
MISSING = [0] * 12


def chooser(model_type: str) -> PreTrainedModel:
    more = {"max_entity_length": 1, "use_entity_aware_attention": False} if model_type == "luke" else {}
    return tiny_model(model_type, AutoModelForMultipleChoice, **more)


def batch_of(rows: list[list[int]], choices: int) -> dict[str, Tensor]:
    return {name: value.view(-1, choices, value.shape[1]) for name, value in padded_batch(rows).items()}


def trained(model: PreTrainedModel, batch: dict[str, Tensor], labels: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss over the choices that there are, and gradients."""
    present = batch["attention_mask"].bool().any(-1)
    total, count = choice_loss(model(**batch).logits, torch.tensor(labels), present)
    (total / count).backward()
    return total.detach() / count, gradients(model)


UNEQUAL = [*ROWS["right"][:4], MISSING, *ROWS["right"][1:3], MISSING, MISSING]
BATCHES: dict[str, tuple[list[list[int]], int, list[int]]] = {
    "equal": ([*ROWS["right"], [1] * 6 + [0] * 6], 3, [1, 0]),
    "unequal": (UNEQUAL, 3, [2, 2, 0]),
    "padding on the left": ([*ROWS["left"][:4], MISSING, MISSING], 3, [2, 0]),
    "one token each": ([[1, 0, 0]] * 4, 2, [1, 0]),
    "unlabelled rows": (UNEQUAL, 3, [-100, 0, -100]),
}


def test_every_encoder_with_such_a_head_is_tried() -> None:
    assert sorted(WITH_HEAD) == sorted(name for names in WAYS.values() for name in names)


@pytest.mark.parametrize(("way", "model_type"), [(way, name) for way, names in WAYS.items() for name in names])
def test_losses_and_gradients_equal_those_with_padding(way: str, model_type: str) -> None:
    model = chooser(model_type)
    expected = {name: trained(model, batch_of(rows, size), labels) for name, (rows, size, labels) in BATCHES.items()}
    assert all(bool(loss.isfinite()) for loss, _ in expected.values())  # with padding, too, missing choices do no harm
    free = PaddingFree.of(model)
    assert cell(model, free)[0].split()[0] == way, free.reason
    with make_padding_free(model):
        for name, (rows, size, labels) in BATCHES.items():
            loss, slopes = trained(model, batch_of(rows, size), labels)
            torch.testing.assert_close(loss, expected[name][0], rtol=1e-5, atol=1e-6)
            assert_same_gradients(slopes, expected[name][1])
        if way != "padded":
            # XLNet and RoFormer read the last column, wherever it is padding they run padded
            batch = batch_of([*ROWS[free.side or "right"], MISSING], 3)
            assert int(batch["attention_mask"].sum()) in tokens_worked_on(model, batch)
