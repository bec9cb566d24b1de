"""Rows of every task as people see them: against the rows that went in, and what the batches hold."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_ft import InstructionTuningDataModule, PreferenceDataModule, TextClassificationDataModule
from lit_ft.data.batching.collators import IGNORED
from lit_ft.data.viewing.row_views import RowView, SequenceView
from lit_ft.datamodules.viewing import figures, some_views, view
from tests.conversations import conversation
from tests.modules.test_adapters import causal
from tests.modules.test_exact_resume import choosing, classification, masked, questions, tagged, writing
from tests.pairs import make_seq2seq, pair_rows
from tests.preferences import judged_rows, make_preference_model
from tests.preferences import pair_rows as preferred
from tests.questions import question_rows
from tests.sentences import sentences


def squeezed(text: str) -> str:
    """Letters and digits alone, without the marks of word pieces and special tokens."""
    for mark in ("[CLS]", "[SEP]", "##"):
        text = text.replace(mark, "")
    return "".join(filter(str.isalnum, text)).lower()


def shown(data: Any, kind: Any = "train") -> list[RowView]:
    data.prepare_data()
    data.setup("fit")
    return [view(data, kind, "", index) for index in range(len(data.features[kind][""]))]


def of_role(part: SequenceView, role: str) -> str:
    return "".join(token.text for token in part.tokens if token.role == role)


def test_classes(tiny: Callable[..., str]) -> None:
    _, data = classification(tiny("bert"), max_train_samples=None)
    views = shown(data)
    rows = Path(data.hparams["train_file"]).read_text(encoding="utf-8").splitlines()[1:]
    assert Counter(each.label for each in views) == Counter(line.rsplit(",", 1)[1] for line in rows)
    assert {each.title for each in some_views(data, "train", "", 5)} <= {f"row {at + 1}" for at in range(len(rows))}
    (train, _) = figures(data)
    assert train["labels"] == Counter(each.label for each in views)
    lengths = [len(each.parts[0].tokens) for each in views]
    assert train["lengths"]["tokens"]["total"] == sum(lengths)
    assert train["lengths"]["tokens"]["percentiles"]["90"] == sorted(lengths)[int(np.ceil(0.9 * (len(lengths) - 1)))]
    assert sum(train["lengths"]["tokens"]["counts"]) == len(rows)


def test_several_labels_numbers_and_cut_rows(tiny: Callable[..., str]) -> None:
    rows = [{"text": "one two three", "label": ["a", "c"]}, {"text": "word " * 30, "label": []}]
    data = TextClassificationDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": rows * 3}, max_seq_length=10, validation_split_percentage=0
    )
    views = shown(data)
    assert [each.label for each in views[:2]] == ["a, c", "none"]
    whole = len(data.tokenizer("word " * 30)["input_ids"])
    assert [each.lost for each in views[:2]] == [0, whole - 10]
    numbers = TextClassificationDataModule(
        model_name_or_path=tiny("bert"), dataset={"train": [{"text": "one", "label": 2.5}]},
        validation_split_percentage=0,
    )  # fmt: skip
    assert shown(numbers)[0].label == "2.5"


def test_tags_stand_at_the_first_pieces_of_words(tiny: Callable[..., str]) -> None:
    _, data = tagged(tiny("bert"), max_seq_length=150)
    for row, each in zip(sentences(46), shown(data), strict=True):
        labelled = [token for token in each.parts[0].tokens if token.role == "learned"]
        assert [token.label for token in labelled] == [None if tag == "O" else tag for tag in row["tags"]]


def test_answers_and_windows(tiny: Callable[..., str]) -> None:
    _, data = questions(tiny("bert"))
    views, rows = shown(data), question_rows(20, unanswerable=True)
    assert any("window 2 of" in (each.title or "") for each in views)
    for index, each in enumerate(views):
        answers = rows[int(data.features["train"][""].row_of_feature[index])]["answers"]["text"]
        assert squeezed(of_role(each.parts[0], "answer")) in {squeezed(text) for text in [*answers, ""]}
        assert (each.label == "no answer here") == (not of_role(each.parts[0], "answer"))
    (train, _) = figures(data)
    assert train["labels"]["with an answer"] == sum(each.label != "no answer here" for each in views)


def test_choices(tiny: Callable[..., str]) -> None:
    _, data = choosing(tiny("bert"))
    for number, each in enumerate(shown(data)):
        assert len(each.parts) == 2 + number % 3
        assert [part.right for part in each.parts].index(True) == number % 2
        assert each.parts[1].title == "choice 2"


def test_masked_tokens_say_what_they_are(tiny: Callable[..., str]) -> None:
    _, data = masked(tiny("bert"))
    views = shown(data)
    for index, each in enumerate(views):
        own = data.tokenizer.convert_ids_to_tokens(data.features["train"][""].store[index]["input_ids"])
        (part,) = each.parts
        hidden = [token.label for token in part.tokens if token.role == "masked"]
        assert hidden == [own[at] for at, token in enumerate(part.tokens) if token.role == "masked"]
    assert any(token.role == "masked" for each in views for token in each.parts[0].tokens)


def test_permuted_tokens_say_what_they_are(tiny: Callable[..., str]) -> None:
    _, data = masked(tiny("bert"), permutation=True)
    for index, each in enumerate(shown(data)[:9]):
        own = data.tokenizer.convert_ids_to_tokens(data.features["train"][""].store[index]["input_ids"])
        tokens = each.parts[0].tokens
        hidden = {at: token.label for at, token in enumerate(tokens) if token.role == "masked"}
        assert hidden
        assert hidden == {at: own[at] for at in hidden}


def test_documents_that_share_a_row_are_parts_of_it(tiny: Callable[..., str]) -> None:
    _, data = causal(tiny("llama"))
    for index, each in enumerate(shown(data)):
        documents = data.features["train"][""].store[index]["documents"]
        assert [len(part.tokens) for part in each.parts] == documents.tolist()


def test_sources_and_targets(tmp_path: Path) -> None:
    _, data = writing(make_seq2seq("t5", tmp_path / "t5"), max_target_length=80)
    for row, each in zip(pair_rows(28), shown(data), strict=True):
        source, target = each.parts
        assert source.text.removesuffix("</s>").strip() == row["source"]
        assert of_role(target, "learned").removesuffix("</s>").strip() == row["target"]


def test_replies(tmp_path: Path) -> None:
    model = make_preference_model(tmp_path / "model")
    chats = [{"messages": conversation(number)} for number in range(6)]
    data = InstructionTuningDataModule(
        model_name_or_path=model, dataset={"train": chats}, validation_split_percentage=0, max_seq_length=150
    )
    for row, each in zip(chats, shown(data), strict=True):
        said = squeezed(of_role(each.parts[0], "learned"))
        assert said == squeezed(row["messages"][-1]["content"] + "im_end") or (each.lost and not said)
    pairs = PreferenceDataModule(
        model_name_or_path=model, dataset={"train": preferred(6)}, validation_split_percentage=0, max_seq_length=150
    )
    for row, each in zip(preferred(6), shown(pairs), strict=True):
        for part, side in zip(each.parts, ("chosen", "rejected"), strict=True):
            assert part.title == side
            said = squeezed(of_role(part, "learned"))
            assert said == squeezed(row[side][0]["content"] + "im_end") or (each.lost and not said)
    single = PreferenceDataModule(
        model_name_or_path=model, dataset={"train": judged_rows(6)}, validation_split_percentage=0, max_seq_length=150
    )
    expected = ["desirable" if row["label"] else "undesirable" for row in judged_rows(6)]
    assert [each.label for each in shown(single)] == expected
    assert figures(single)[0]["labels"] == Counter(expected)


@pytest.mark.parametrize("make", [classification, tagged, questions, choosing, masked])
def test_rows_without_labels_are_shown_too(tiny: Callable[..., str], make: Any) -> None:
    _, data = make(tiny("bert"))
    data.prepare_data()
    data.setup("fit")
    features = data.features["validation"][""]
    batch = data.batch_of("predict", [{k: v for k, v in features[(0, 0)].items() if k not in ("labels", "first")}])
    assert IGNORED not in batch["input_ids"]
    assert "".join(part.text for part in data.sequences(batch))
    assert data.label_of(batch) is None
