"""Which columns hold texts that belong together, and what is known of them: a score, or a label; given, or guessed."""

from collections.abc import Mapping
from typing import Any, Literal

from lit_ft.data.reading.columns import guess_label_column, is_text
from lit_ft.data.reading.raw import RawRows
from lit_ft.errors import UserError

Kind = Literal["pairs", "scored", "labelled"]
"""What rows are: texts that belong together, two texts with a score, one text with a label."""
ROLES = (
    ("anchor", "positive", "negative"), ("query", "positive", "negative"), ("query", "pos", "neg"),
    ("question", "answer"), ("sentence1", "sentence2"), ("text1", "text2"), ("premise", "hypothesis"),
)  # fmt: skip
"""Names of columns that say what they are for, the first of each being needed; those with the most columns are read."""
SCORES = ("score", "similarity", "similarity_score", "label", "labels")
TEXTS = ("text", "sentence", "content")


def find_texts(rows: RawRows, known: Mapping[str, Any], predicting: bool) -> list[str]:
    """Returns the columns of text, in their order: those that a checkpoint knows, else as their names say.

    Raises:
        UserError: their names do not say it.
    """
    present = rows.data.column_names
    trained = [name for name in known.get("columns", []) if name in present]
    if trained:
        return trained
    there = [names for names in ROLES if names[0] in present]
    roles: tuple[str, ...] = max(there, key=lambda names: len({*names} & {*present}), default=())
    found = [name for name in roles if name in present]
    if len(found) > 1:
        return found + sorted(name for name in present if name.startswith(f"{roles[-1]}_") and name != roles[-1])
    labels = [] if predicting else guess_label_column(present)
    others = [name for name in present if name not in labels]
    strings = [name for name in others if is_text(rows.data.features[name])]
    single = [name for name in others if name in TEXTS] or strings
    if len(single) == 1 and (predicting or labels):
        return single
    raise UserError(
        f"{rows.place}: which columns are anchor and positive, or which one is the text? columns: {present}; set "
        "text_column_names, such as [anchor, positive], or [text] with label_column_name"
    )


def find_mark(
    rows: RawRows, texts: list[str], known: Mapping[str, Any], score: str | None, label: str
) -> dict[str, str]:
    """Returns the column of what is known of the texts, as `score` or `label`; empty of pairs.

    Args:
        rows: what has the columns.
        texts: the columns of text.
        known: description of a checkpoint, or nothing.
        score: the user's; `None` = guess it, `""` = there is none.
        label: the user's, of rows with one text; `""` = guess it.

    Raises:
        UserError: there is one text a row, and nothing is known of it.
    """
    present = rows.data.column_names
    if len(texts) == 1:
        names = [label] if label else guess_label_column(present)
        if not names:
            raise UserError(
                f"{rows.place}: one column of text alone is like nothing; columns: {present}; set "
                "text_column_names to two or more, or label_column_name"
            )
        return {"label": names[0]}
    if label:
        raise UserError(f"label_column_name is for rows of one text, but there are {texts}: set text_column_names")
    if score is None:
        names = [*SCORES, known.get("score_column") or ""]
        score = next((name for name in names if name in present and name not in texts), "")
    return {"score": score} if score else {}
