"""Rows of pairs as they come: answers, nested columns, lines of text; what cannot be read is said."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lit_ft import Seq2SeqDataModule, SummarizationDataModule, TranslationDataModule
from lit_ft.errors import UserError
from tests.pairs import make_seq2seq, pair_rows


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_seq2seq("bart", tmp_path_factory.mktemp("bart"))


def set_up(data: Any, *kinds: str) -> Any:
    data.prepare_stage(kinds or ("train",))
    data.setup({"predict": "predict", "validation": "validate"}.get("".join(kinds), "fit"))
    return data


def decoded(data: Any, kind: str = "train", column: str = "target_ids") -> list[str]:
    store = next(iter(data.features[kind].values())).store
    return [data.tokenizer.decode(store[at][column], skip_special_tokens=True) for at in range(len(store))]


ANSWERS: dict[str, Any] = {
    "dict": {"text": ["Paris", "the city"], "answer_start": [3, 5]},
    "dicts": [{"text": "Paris", "answer_start": 3}, {"text": "the city", "answer_start": 5}],
    "texts": ["Paris", "the city"],
    "text": "Paris",
}


@pytest.mark.parametrize("shape", ANSWERS)
def test_answers_of_every_shape(shape: str, bart: str) -> None:
    rows = [{"question": row["source"], "context": "c", "answers": ANSWERS[shape]} for row in pair_rows(3)]
    data = Seq2SeqDataModule(
        model_name_or_path=bart, dataset={"train": rows}, validation_split_percentage=0, target_column_names="answers",
        source_template="question: {question} context: {context}",
    )  # fmt: skip
    set_up(data)
    assert decoded(data) == ["Paris"] * 3
    assert decoded(data, column="input_ids")[0] == f"question: {rows[0]['question']} context: c"
    found = data._columns.references({"answers": [row["answers"] for row in rows]})
    assert found[0] == ["Paris", "the city"][: 1 if shape == "text" else 2]


def test_questions_without_an_answer_are_trained_on_nothing(bart: str) -> None:
    # run_seq2seq_qa: `answer["text"][0] if len(answer["text"]) > 0 else ""`
    answers = [{"text": [], "answer_start": []}, {"text": ["B"], "answer_start": [0]}, None]
    rows = [{"q": row["source"], "answers": answer} for row, answer in zip(pair_rows(3), answers, strict=True)]
    data = Seq2SeqDataModule(
        model_name_or_path=bart, dataset={"train": rows}, validation_split_percentage=0, source_column_name="q",
        target_column_names="answers",
    )  # fmt: skip
    set_up(data)
    assert decoded(data) == ["", "B"]
    assert data._columns.references({"answers": answers}) == [[""], ["B"], []]
    assert data.report["sets"][0]["found"]["unlabelled"]["dropped"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"source": ["a", "b"], "target": "c"}, "row 2, column 'source' holds a list: a source is one text"),
        ({"source": "a", "target": {"value": "c"}}, "row 2, the target is a dict of ..value..: of dicts `text` is"),
    ],
)
def test_cells_of_other_kinds_are_refused(row: dict[str, Any], message: str, bart: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(map(json.dumps, [dict.fromkeys(row), row])), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        set_up(Seq2SeqDataModule(model_name_or_path=bart, train_file=str(path), validation_split_percentage=0))


def test_keys_of_a_nested_column_by_name(tmp_path: Path) -> None:
    path = make_seq2seq("nllb", tmp_path / "nllb")
    rows = [{"translation": {"en": row["source"].lower(), "de": row["target"]}} for row in pair_rows(4)]
    options = {"source_lang": "eng_Latn", "target_lang": "deu_Latn", "validation_split_percentage": 0}
    with pytest.raises(
        UserError,
        match=r"no 'eng_Latn': it has \['(en', 'de|de', 'en)'\]: set source_column_name and target_column_names",
    ):
        set_up(TranslationDataModule(model_name_or_path=path, dataset={"train": rows}, **options))
    columns = {"source_column_name": "en", "target_column_names": "de"}
    data = TranslationDataModule(model_name_or_path=path, dataset={"train": rows}, **options, **columns)
    set_up(data)
    assert (data._columns.source, data._columns.targets, data._columns.nested) == ("en", ["de"], "translation")
    assert data._columns.references({"translation": [rows[2]["translation"]]}) == [[rows[2]["translation"]["de"]]]
    first = data.tokenizer.convert_ids_to_tokens(int(data.features["train"][""].store[0]["target_ids"][0]))
    assert first == "deu_Latn"


def test_lines_to_predict_whatever_columns_train_has(bart: str, tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    path.write_text("one text\n\nanother\u2028text\n", encoding="utf-8")
    texts = ["one text", "", "another\u2028text"]
    data = SummarizationDataModule(model_name_or_path=bart, predict_file=str(path), text_column="document")
    set_up(data, "predict")
    assert decoded(data, "predict", "input_ids") == texts
    assert [row["source"] for row in data.features["predict"]["new"].info] == texts
    path.write_text("one\ntext\n\nanother\n", encoding="utf-8")
    data = SummarizationDataModule(model_name_or_path=bart, predict_file=str(path), sample_by="paragraph")
    assert decoded(set_up(data, "predict"), "predict", "input_ids") == ["one\ntext", "another"]


def written(folder: Path, way: str) -> list[str]:
    """Two parallel files with what may stand in them; the third line has no source."""
    source, target = ["a b", "c\u2028d", "", "e\x85f"], ["A B", "C\u2029D", "X", "E"]
    names, end = ["x.en", "x.de"], "\r\n" if way == "crlf" else "\n"
    texts = [end.join(lines) + end * (way != "unended") for lines in (source, target)]
    if way == "bom":
        texts[0] = "\ufeff" + texts[0]
    if way in ("gz", "txt"):
        names = [f"{name}.{way}" for name in names[::-1]]
        texts.reverse()
    for name, text in zip(names, texts, strict=True):
        content = text.encode()
        (folder / name).write_bytes(gzip.compress(content) if way == "gz" else content)
    return [str(folder / name) for name in names]


@pytest.mark.parametrize("way", ["plain", "crlf", "bom", "gz", "txt", "unended"])
def test_lines_of_parallel_files(way: str, bart: str, tmp_path: Path) -> None:
    data = TranslationDataModule(
        model_name_or_path=bart, train_file=written(tmp_path, way), source_lang="en", target_lang="de",
        validation_split_percentage=0,
    )  # fmt: skip
    set_up(data)
    assert decoded(data, column="input_ids") == ["a b", "c\u2028d", "e\x85f"]
    assert decoded(data) == ["A B", "C\u2029D", "E"]
    assert data.report["sets"][0]["found"]["empty_text"]["dropped"] == 1


def test_parallel_files_of_one_language(tmp_path: Path) -> None:
    path = make_seq2seq("mbart", tmp_path / "mbart")
    for name, text in (("x.source", "a b\nc\n"), ("x.target", "A\nC\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = SummarizationDataModule(
        model_name_or_path=path, train_file=[str(tmp_path / "x.target"), str(tmp_path / "x.source")], lang="de_DE",
        validation_split_percentage=0,
    )  # fmt: skip
    set_up(data)
    assert decoded(data) == ["A", "C"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["x.jsonlines"], {}, "cannot read files of type 'jsonlines'.*files of lines end in .txt, .source or .target"),
        (["x.jsonlines", "y.jsonlines"], {}, "cannot read files of type 'jsonlines'"),
        (["x.txt"], {}, "there is one column, .*: no target"),
        (["x.source", "x.target"], {"streaming": True}, "streaming: parallel text files are read as a whole"),
        (["x.source", "x.target"], {"sample_by": "paragraph"}, "sample_by: paragraph: parallel files are read line by"),
    ],
)
def test_files_that_are_no_pairs(
    names: list[str], options: dict[str, Any], message: str, bart: str, tmp_path: Path
) -> None:
    files = [str(tmp_path / name) for name in names]
    for file in files:
        Path(file).write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        set_up(Seq2SeqDataModule(model_name_or_path=bart, train_file=files, **options))
