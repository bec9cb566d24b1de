"""Labels that nobody trained for: transformers' pipeline as reference, scores, what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import accuracy_score
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import lit_ft
from lit_ft import ZeroShotDataModule, cli
from lit_ft.errors import UserError
from tests.tiny import texts

LABELS = ["a delivery", "a complaint about money", "praise"]


def make_nli(folder: Path, source: str, names: list[str]) -> str:
    """A tiny model whose labels say whether a hypothesis follows."""
    torch.manual_seed(4)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(names))
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: at for at, name in enumerate(names)}
    with torch.no_grad():
        model.classifier.weight.normal_(std=3.0)  # scores that differ from label to label
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)


@pytest.fixture(
    params=[["contradiction", "neutral", "entailment"], ["ENTAILMENT", "not_entailment"]], ids=["three", "two"]
)
def model(request: Any, tiny: Callable[..., str], tmp_path: Path) -> str:
    return make_nli(tmp_path / "nli", tiny("bert"), request.param)


def words(model: str, tmp_path: Path, **rows: list[dict[str, Any]]) -> list[str]:
    for name, each in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, each)))
    return [
        "--model=ZeroShotModule", f"--model.model_name_or_path={model}", "--data=ZeroShotDataModule",
        f"--data.candidate_labels={json.dumps(LABELS)}", "--data.hypothesis_template=This text is about {}.",
        *(f"--data.{name}_file={tmp_path / name}.jsonl" for name in rows), "--trainer.accelerator=cpu",
        f"--trainer.default_root_dir={tmp_path / 'runs'}", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_are_those_of_the_pipeline(model: str, tmp_path: Path, multi_label: bool) -> None:
    rows = [{"text": text} for text in [*texts()[:12], "word " * 200]]
    given = [*words(model, tmp_path, predict=rows), f"--model.multi_label={str(multi_label).lower()}"]
    folder = cli.main(["predict", *given]).folder
    assert folder is not None
    found = [json.loads(line) for line in (folder / "predictions" / "predict.jsonl").read_text().splitlines()]
    classify = pipeline("zero-shot-classification", model)
    template = "This text is about {}."
    for row, text in zip(found, rows, strict=True):
        theirs = classify(text["text"], LABELS, hypothesis_template=template, multi_label=multi_label)
        expected = dict(zip(theirs["labels"], theirs["scores"], strict=True))
        assert row["scores"] == pytest.approx(expected, abs=2e-5)
        assert row["predicted_label"] == theirs["labels"][0]
    assert multi_label or len({row["predicted_label"] for row in found}) > 1

    predictor = lit_ft.load_predictor(
        model, task="ZeroShot", candidate_labels=LABELS, hypothesis_template=template, multi_label=multi_label
    )
    made = predictor([row["text"] for row in rows])
    assert [row["predicted_label"] for row in made] == [row["predicted_label"] for row in found]
    assert made[3]["scores"] == pytest.approx(found[3]["scores"], abs=2e-5)


def test_labelled_rows_are_scored(model: str, tmp_path: Path) -> None:
    rows = [{"text": text, "label": LABELS[at % 3]} for at, text in enumerate(texts()[:17])]
    done = cli.main(["test", *words(model, tmp_path, test=rows)])
    classify = pipeline("zero-shot-classification", model)
    template = "This text is about {}."
    predicted = [classify(row["text"], LABELS, hypothesis_template=template)["labels"][0] for row in rows]
    expected = accuracy_score([row["label"] for row in rows], predicted)
    assert float(done.trainer.callback_metrics["test_accuracy"]) == pytest.approx(expected)
    assert done.folder is not None
    assert (done.folder / "test_labels.csv").is_file()
    (one,) = json.loads((done.folder / "evaluation.test.json").read_text())["sets"]
    assert len(one["mistakes"]) == 17
    assert one["mistakes"][0]["label"] in LABELS


def test_scores_by_vectors_are_those_of_sentence_transformers(tiny: Callable[..., str], tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    transformer = modules.Transformer(tiny("bert"))
    pooling = modules.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="cls")
    theirs = library.SentenceTransformer(modules=[transformer, pooling], device="cpu")
    theirs.save(str(tmp_path / "theirs"))  # says how it pools
    said = [*texts()[:14], "word " * 200]
    vectors, labels = (
        theirs.encode(each, convert_to_tensor=True)
        for each in ([f"query: {text}" for text in said], [f"This is {label}." for label in LABELS])
    )
    expected = (library.util.cos_sim(vectors, labels) * 30).softmax(-1)
    predictor = lit_ft.load_predictor(
        tmp_path / "theirs", task="EmbeddingZeroShot", candidate_labels=LABELS, hypothesis_template="This is {}.",
        prompt="query: ", scale=30.0,
    )  # fmt: skip
    for row, scores in zip(predictor(said), expected.tolist(), strict=True):
        assert row["scores"] == pytest.approx(dict(zip(LABELS, scores, strict=True)), abs=1e-4)
        assert row["predicted_label"] == max(row["scores"], key=row["scores"].get)

    rows = [{"text": text, "label": LABELS[at % 3]} for at, text in enumerate(said)]
    given = words(str(tmp_path / "theirs"), tmp_path, test=rows)
    given = [word.replace("ZeroShot", "EmbeddingZeroShot") for word in given if "template" not in word]
    done = cli.main(["test", *given])
    plain, bare = theirs.encode(said, convert_to_tensor=True), theirs.encode(LABELS, convert_to_tensor=True)
    right = library.util.cos_sim(plain, bare).argmax(-1) == torch.tensor([at % 3 for at in range(len(said))])
    assert float(done.trainer.callback_metrics["test_accuracy"]) == pytest.approx(float(right.float().mean()))
    with pytest.raises(UserError, match="tokens longer than"):
        lit_ft.load_predictor(tiny("bert"), task="EmbeddingZeroShot", candidate_labels=["word " * 200])("a text")


def test_what_cannot_be_is_named(model: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    rows = [{"text": text, "label": "a deliveri"} for text in texts()[:5]]
    with pytest.raises(UserError, match=r"row 1, label 'a deliveri' is none of.*did you mean 'a delivery'"):
        cli.main(["test", *words(model, tmp_path, test=rows)])
    good = [{"text": text, "label": LABELS[0]} for text in texts()[:5]]
    with pytest.raises(UserError, match="is not trained"):
        cli.main(["fit", *words(model, tmp_path, train=good), "--data.validation_split_percentage=0"])
    with pytest.raises(UserError, match="say nothing of entailment"):
        cli.main(["predict", *words(tiny("bert"), tmp_path, predict=rows)])
    with pytest.raises(UserError, match=r"has no .* where the label goes"):
        ZeroShotDataModule(model_name_or_path=model, candidate_labels=["a", "b"], hypothesis_template="so what")
    with pytest.raises(UserError, match="each once"):
        ZeroShotDataModule(model_name_or_path=model, candidate_labels=["a", "a"])
