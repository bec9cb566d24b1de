"""Scores of labels -> the labels that they say, as they are written and in a few words."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lit_ft.data.labels import ProblemType


def probabilities(logits: Tensor, problem_type: ProblemType) -> Tensor:
    """Returns what metrics take: class probabilities, label probabilities, or the numbers themselves."""
    if problem_type == "regression":
        return logits
    return logits.softmax(-1) if problem_type == "single_label" else logits.sigmoid()


def written(scores: Tensor, names: Sequence[str], problem_type: ProblemType, threshold: float = 0.5) -> dict[str, Any]:
    """Returns the label of a row (or its labels, or numbers) and the score of every label, as plain values.

    Args:
        scores: what `probabilities` returned, `[labels]`.
        names: of the labels.
        problem_type: of the data.
        threshold: score from which a label counts, where there may be several.
    """
    values = scores.tolist()
    of_name = dict(zip(names, values, strict=True))
    if problem_type == "regression":
        return {"prediction": values[0] if len(values) == 1 else of_name}
    if problem_type == "multi_label":
        return {"predicted_labels": [name for name, value in of_name.items() if value >= threshold], "scores": of_name}
    best = max(of_name, key=of_name.__getitem__)
    return {"predicted_label": best, "score": of_name[best], "scores": of_name}


def in_words(made: dict[str, Any]) -> str:
    """Returns what `written` returned in a few words: the label and its probability, the labels, or the numbers."""
    if "predicted_labels" in made:
        return ", ".join(made["predicted_labels"]) or "none"
    return f"{made['predicted_label']} ({made['score']:.1%})" if "score" in made else str(made["prediction"])
