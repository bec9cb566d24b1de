"""Models without padding give what transformers gives with it: outputs, losses and gradients, architecture by head.

python -m tests.ops.test_padding_free    # prints the table of docs/padding_free.md, made by trying
"""

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    XLNetForQuestionAnsweringSimple,
)

from lit_ft.ops.padding_free.running import PaddingFree, make_padding_free
from tests.ops.architectures import VOCABULARY, tiny_model

ENCODERS = [
    "bert",
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "electra",
    "albert",
    "distilbert",
    "modernbert",
    "nomic_bert",
    "eurobert",
    "mpnet",
    "deberta",
    "deberta-v2",
    "xlnet",
    "mobilebert",
    "ernie",
    "data2vec-text",
    "esm",
    "jina_embeddings_v3",
    "squeezebert",
    "roformer",
    "convbert",
    "rembert",
    "xlm",
    "luke",
]
DECODERS = [
    "llama",
    "gpt2",
    "gemma2",
    "gemma3_text",
    "qwen2",
    "qwen3",
    "mistral",
    "phi",
    "phi3",
    "gpt_neox",
    "opt",
    "olmo2",
    "smollm3",
    "cohere",
    "granite",
    "mamba",
    "falcon",
    "bloom",
    "gptj",
    "mpt",
]
HEADS: dict[str, Any] = {
    "sequence": AutoModelForSequenceClassification,
    "token": AutoModelForTokenClassification,
    "masked": AutoModelForMaskedLM,
    "causal": AutoModelForCausalLM,
    "question": AutoModelForQuestionAnswering,
    "base": AutoModel,
}
SPECIAL: dict[tuple[str, str], Any] = {("xlnet", "question"): XLNetForQuestionAnsweringSimple}
"""Where the auto class picks one with outputs of another kind."""

LABELS = 3
ROWS: dict[str, list[list[int]]] = {
    "right": [[1] * 12, [1] * 5 + [0] * 7, [1] + [0] * 11, [1] * 5 + [0] * 7, [1] * 9 + [0] * 3],
    "left": [[1] * 12, [0] * 7 + [1] * 5, [0] * 11 + [1], [0] * 7 + [1] * 5, [0] * 3 + [1] * 9],
    "both": [[1] * 12, [0] * 7 + [1] * 5, [1] * 4 + [0] * 8, [0] * 11 + [1], [0] * 2 + [1] * 8 + [0] * 2],
}
ROOT = Path(__file__).parents[2]
DOCUMENT, PINNED = ROOT / "docs" / "padding_free.md", (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
BEGIN, END = "<!-- table: python -m tests.ops.test_padding_free -->\n", "<!-- end of table -->\n"


def with_head(model_type: str, head: str, **overrides: Any) -> PreTrainedModel | None:
    """`None`: transformers has no such model."""
    kind = SPECIAL.get((model_type, head), HEADS[head])
    if head == "causal" and model_type in ENCODERS and model_type != "xlnet":
        return None  # encoders with a causal head are decoders of other people's encoder-decoders
    if "num_labels" not in overrides and head in ("sequence", "token"):
        overrides = {**overrides, "num_labels": LABELS}
    if hasattr(kind, "_model_mapping") and CONFIG_MAPPING[model_type] not in kind._model_mapping:
        return None
    return tiny_model(model_type, kind, **overrides)


def padded_batch(rows: list[list[int]], seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor(rows)
    ids = torch.randint(5, VOCABULARY, mask.shape, generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask}


def labels_for(head: str, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    ids, mask = batch["input_ids"], batch["attention_mask"]
    after_padding = mask - torch.cat([mask[:, :1], mask[:, :-1]], 1) > 0
    return {
        "sequence": {"labels": torch.arange(len(ids)) % LABELS},
        "token": {"labels": (ids % LABELS).where(mask > 0, -100)},
        "masked": {"labels": (ids + 1).remainder(VOCABULARY).where((mask > 0) & (ids % 2 > 0), -100)},
        "causal": {"labels": ids.where((mask > 0) & ~after_padding, -100)},
        "question": {},  # the model's own loss takes every column for a possible answer, padding, too
        "base": {},
    }[head]


def outputs_of(model: nn.Module, batch: dict[str, Tensor], **more: Any) -> dict[str, Tensor]:
    """Outputs at real tokens, or of rows, by name."""
    real, found = batch["attention_mask"] > 0, {}
    for name, value in model(**batch, **more).items():
        if isinstance(value, Tensor):
            found[name] = value[real] if value.shape[:2] == real.shape else value
    return found


def loss_of(outputs: dict[str, Tensor]) -> Tensor:
    """The model's own; of a model without one some sum that gives every output another weight."""
    if "loss" in outputs:
        return outputs["loss"]
    return sum(value.sin().square().mean() for value in outputs.values())  # type: ignore[return-value]


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def trained(model: nn.Module, batch: dict[str, Tensor], **more: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs, the loss among them, and gradients."""
    outputs = outputs_of(model, batch, **more)
    outputs["loss"] = loss_of(outputs)
    outputs["loss"].backward()
    return {name: value.detach() for name, value in outputs.items()}, gradients(model)


def assert_same_outputs(found: dict[str, Tensor], expected: dict[str, Tensor], share: float = 1e-5) -> None:
    assert found.keys() >= expected.keys()
    for name, value in expected.items():
        atol = share * float(value.abs().max())
        rtol = 1e-6 if name == "loss" and share == 1e-5 else share
        torch.testing.assert_close(found[name], value, rtol=rtol, atol=0 if name == "loss" else atol, msg=name)


def assert_same_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], share: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=share * largest, msg=name)


class TokenCount(TorchFunctionMode):
    """Notes how many tokens linear layers and norms work on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        product = getattr(func, "__name__", "") in ("matmul", "__matmul__") and args[1].dim() == 2
        if product or func in (F.linear, F.layer_norm, torch.addmm):
            states = args[1 if func is torch.addmm else 0]
            self.seen.add(states.numel() // states.shape[-1])
        return func(*args, **(kwargs or {}))


def tokens_worked_on(model: nn.Module, batch: dict[str, Tensor], **more: Any) -> set[int]:
    with torch.no_grad(), TokenCount() as count:
        model(**batch, **more)
    return count.seen


def cell(model: PreTrainedModel, free: PaddingFree) -> tuple[str, str | None]:
    """What of a model runs on real tokens alone, in the words of the table, and why nothing does."""
    if free.reason is not None:
        return "padded", free.reason.replace(type(model).__name__, "the model")
    found = "parts" if free.parts is not None else "all" if free.whole else "body"
    return found + {"right": " (1)", "left": " (2)", None: ""}[free.side], None


ALL = [(model_type, head) for model_type in ENCODERS + DECODERS for head in HEADS]
WAYS: dict[tuple[str, str], tuple[str, str | None]] = {}
"""Way and reason of each that has been tried in this process."""


def tried(model_type: str, head: str) -> tuple[str, str | None]:
    if (model_type, head) not in WAYS:
        model = with_head(model_type, head)
        free = None if model is None else PaddingFree.of(model)
        WAYS[model_type, head] = ("-", None) if model is None or free is None else cell(model, free)
    return WAYS[model_type, head]


def table() -> str:
    """The table of the documentation, and why some models run padded."""
    heads = ["sequence", "token", "masked LM", "causal LM", "question answering", "base model"]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    reasons: dict[str, list[str]] = {}
    for model_type in ENCODERS + DECODERS:
        cells = [tried(model_type, head) for head in HEADS]
        lines.append(f"| {model_type} | {' | '.join(cell for cell, _ in cells)} |")
        for head, (_, reason) in zip(HEADS, cells, strict=True):
            if reason is not None:
                reasons.setdefault(reason, []).append(f"{model_type} ({head})")
    why = [f"- {', '.join(models)}: {reason}" for reason, models in reasons.items()]
    return "\n".join([*lines, "", *(["Why padded:", "", *why] if why else [])]).rstrip() + "\n"


@pytest.mark.parametrize(("model_type", "head"), ALL)
def test_outputs_losses_and_gradients_equal_those_with_padding(model_type: str, head: str) -> None:
    model = with_head(model_type, head)
    if model is None:
        WAYS[model_type, head] = ("-", None)
        return
    batches = {side: padded_batch(rows) for side, rows in ROWS.items()}
    labels = {side: labels_for(head, batch) for side, batch in batches.items()}
    sides = ("left", "both") if model_type == "xlnet" else ("right", "both")
    expected = {side: trained(model, batches[side], **labels[side]) for side in sides}

    free = make_padding_free(model)
    WAYS[model_type, head] = cell(model, free)
    for side in sides:
        outputs, slopes = trained(model, batches[side], **labels[side])
        assert_same_outputs(outputs, expected[side][0])
        assert_same_gradients(slopes, expected[side][1])
    if free.reason is None:  # and it did leave out padding, if only on the side that suits the model
        seen = tokens_worked_on(model, batches[sides[0]])
        assert int(batches[sides[0]]["attention_mask"].sum()) in seen
        assert not free.whole or batches[sides[0]]["attention_mask"].numel() not in seen


@pytest.mark.skipif(f"transformers=={version('transformers')}" not in PINNED, reason="another release of transformers")
def test_the_table_of_the_documentation_is_what_happens() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text[text.index(BEGIN) + len(BEGIN) : text.index(END)] == table()


EDGES: dict[str, list[list[int]]] = {
    "one token each": [[1], [1], [1]],
    "one token and padding": [[1, 0, 0], [1, 0, 0]],
    "as long as the model takes": [[1] * 160, [1] * 2 + [0] * 158],
    "equal lengths": [[1] * 6] * 4,
    "equal lengths and padding": [[1] * 6 + [0] * 3] * 4,
    "batch of one": [[1] * 7],
    "batch of one and padding": [[1] * 7 + [0] * 4],
    "left": ROWS["left"],
    "more tokens than positions": [[1] * 100] * 5,
}
EDGE_MODELS = [
    ("bert", "sequence"),
    ("roberta", "token"),
    ("modernbert", "masked"),
    ("deberta-v2", "sequence"),
    ("xlm", "masked"),
    ("llama", "sequence"),
    ("gpt2", "causal"),
    ("gemma3_text", "causal"),
    ("opt", "causal"),
]


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(("model_type", "head"), EDGE_MODELS)
def test_lengths_at_the_edges(model_type: str, head: str, implementation: str) -> None:
    # RoBERTa's and OPT's first position is not 0
    model = with_head(model_type, head, max_position_embeddings=162)
    assert model is not None
    if implementation == "eager":
        model.set_attn_implementation("eager")
    elif model.config._attn_implementation != "sdpa":
        return
    batches = {name: padded_batch(rows) for name, rows in EDGES.items()}
    labels = {name: labels_for(head, batch) for name, batch in batches.items()}
    if head == "causal":  # with one token each there is nothing to predict, and the loss is NaN on both sides
        batches = {name: batch for name, batch in batches.items() if "one token" not in name}
    expected = {name: trained(model, batch, **labels[name]) for name, batch in batches.items()}
    assert make_padding_free(model).reason is None
    for name, batch in batches.items():
        outputs, slopes = trained(model, batch, **labels[name])
        assert_same_outputs(outputs, expected[name][0])
        assert_same_gradients(slopes, expected[name][1])


@pytest.mark.parametrize("problem_type", ["regression", "single_label_classification", "multi_label_classification"])
@pytest.mark.parametrize("model_type", ["bert", "electra", "modernbert", "gpt2", "llama", "mpnet"])
def test_sequence_classification_of_all_kinds(model_type: str, problem_type: str) -> None:
    batch = padded_batch(ROWS["right"])
    rows, width = batch["input_ids"].shape
    labels = {
        "regression": torch.arange(rows) / 2,
        "single_label_classification": torch.arange(rows),
        "multi_label_classification": (
            torch.arange(rows * width).view(rows, width) % 3 > 0
        ).float(),  # as many as tokens
    }[problem_type]
    number = 1 if problem_type == "regression" else width
    model = with_head(model_type, "sequence", num_labels=number, problem_type=problem_type)
    assert model is not None
    expected = trained(model, batch, labels=labels)
    assert make_padding_free(model).reason is None
    outputs, slopes = trained(model, batch, labels=labels)
    assert_same_outputs(outputs, expected[0])
    assert_same_gradients(slopes, expected[1])


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    print(table(), end="")
