"""Several sources in one data module: columns, labels, proportions, streamed or not, and which row is whose."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from lit_ft.datamodules import TextClassificationDataModule
from lit_ft.datamodules.viewing import figures, some_views, view
from lit_ft.errors import UserError


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, dict]:
    """Reviews with their own column names, and tickets with a validation file of their own."""
    reviews = [{"review": f"review {n}", "stars": ("bad", "good")[n % 2]} for n in range(60)]
    tickets = [{"text": f"ticket {n}", "label": ("bad", "good", "open")[n % 3]} for n in range(20)]
    return {
        "reviews": {
            "train_file": write(tmp_path / "reviews.jsonl", reviews),
            "column_mapping": {"review": "text", "stars": "label"},
        },
        "tickets": {
            "train_file": write(tmp_path / "tickets.jsonl", tickets),
            "validation_file": write(tmp_path / "tickets_val.jsonl", tickets[:6]),
        },
    }


@pytest.fixture
def make(tiny):
    def build(**options) -> TextClassificationDataModule:
        data = TextClassificationDataModule(model_name_or_path=tiny("bert"), batch_size=4, **options)
        data.setup("fit")
        return data

    return build


def kind(text: str) -> str:
    return "review" if "review" in text.replace(" ", "").replace("##", "") else "ticket"


def kinds(data: TextClassificationDataModule, epoch: int = 0) -> list[str]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    texts = [text for batch in loader for text in data.tokenizer.batch_decode(batch["input_ids"])]
    return [kind(text) for text in texts]


def test_every_source_has_its_columns_labels_and_validation_set(make, sources: dict) -> None:
    data = make(sources=sources)
    assert data.description["labels"] == ["bad", "good", "open"]
    assert data.set_names("validation") == ["reviews", "tickets"]
    reviews, tickets = data.val_dataloader()
    assert len(torch.cat([batch["row"] for batch in reviews])) == 3  # 5 % cut from train
    assert torch.cat([batch["labels"] for batch in tickets]).tolist() == [0, 1, 2, 0, 1, 2]
    assert Counter(kinds(data)) == {"review": 57, "ticket": 20}  # by size: each row once
    assert data.description["label_counts"][2] == 6
    assert sum(data.description["label_counts"]) == data.description["num_train_rows"] == 77


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("first_exhausted", {"review": 20, "ticket": 20}),
        ("all_exhausted", {"review": 57, "ticket": 57}),
        ("all_exhausted_without_replacement", {"review": 57, "ticket": 20}),
    ],
)
def test_probabilities(make, sources: dict, strategy: str, wanted: dict) -> None:
    data = make(sources=sources, probabilities=[0.5, 0.5], stopping_strategy=strategy)
    first, second = kinds(data), kinds(data, epoch=1)
    assert Counter(first) == Counter(second) == wanted
    assert data.num_train_batches == -(-sum(wanted.values()) // 4)
    assert abs(Counter(first[:20])["review"] - 10) <= 2  # interleaved, not one after the other


def test_a_streamed_mixture(make, sources: dict) -> None:
    names = ["bad", "good", "open"]
    data = make(sources=sources, probabilities=[0.25, 0.75], streaming=True, label_names=names, shuffle_buffer_size=10)
    seen: list[str] = []
    for number, batch in enumerate(data.train_dataloader()):
        seen += data.tokenizer.batch_decode(batch["input_ids"])
        if number == 99:
            break
    share = sum(kind(text) == "review" for text in seen) / len(seen)
    assert 0.19 < share < 0.31
    assert data.set_names("validation") == ["reviews", "tickets"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"train_fil": "x.csv"}, {}, r"sources\.tickets has no option 'train_fil' — did you mean 'train_file'"),
        ({"column_mapping": {"txet": "text"}}, {}, r"tickets\.jsonl has no column 'txet'; .* — did you mean 'text'"),
        ({"column_mapping": {"text": "label"}}, {}, r"tickets\.jsonl: column_mapping makes a second column 'label'"),
        ({"train_file": None}, {}, r"sources\.tickets has no training rows: set train_file or dataset_name"),
        ({}, {"probabilities": [1.0]}, "1 numbers for 2 sources"),
        ({}, {"probabilities": [0.5, 0.6]}, "which sum to 1.1; the sum must be 1"),
        ({}, {"train_file": "x.csv"}, "training rows come from `sources`: move train_file"),
        ({}, {"streaming": True, "label_names": ["bad", "good", "open"]}, "set probabilities, one for each source"),
    ],
)
def test_refusals(make, sources: dict, change: dict, options: dict, message: str) -> None:
    sources["tickets"] |= change
    with pytest.raises(UserError, match=message):
        make(sources=sources, **options).train_dataloader()


def test_probabilities_without_sources(make, sources: dict) -> None:
    with pytest.raises(UserError, match="probabilities mix several sources"):
        make(train_file=sources["tickets"]["train_file"], probabilities=[1.0]).train_dataloader()


def test_two_sets_of_one_name_are_refused(make, sources) -> None:
    own = sources["tickets"]["validation_file"]
    with pytest.raises(UserError, match=r"two validation sets are named 'own': give sources\.own another name"):
        make(sources={"own": sources["tickets"], "reviews": sources["reviews"]}, validation_file=own)


def test_a_source_may_leave_its_columns_as_they_are(make, sources) -> None:
    data = make(sources={"a": {**sources["tickets"], "column_mapping": None}, "b": dict(sources["tickets"])})
    assert data.description["num_train_rows"] == 40
    with pytest.raises(UserError, match=r"sources\.a is 'train\.csv'; write its options, such as .train_file"):
        make(sources={"a": "train.csv"})


def test_each_row_of_a_mixture_is_one_row_and_knows_its_source(make, tmp_path: Path) -> None:
    """Ten rows and five: `bad` are the even ones of the first and the first three of the second."""
    first = [{"text": f"review {n}", "label": ("bad", "good")[n % 2]} for n in range(10)]
    second = [{"text": f"ticket {n}", "label": ("bad", "good")[n > 2]} for n in range(5)]
    second[3]["text"] = ""
    data = make(
        sources={
            "reviews": {"train_file": write(tmp_path / "reviews.jsonl", first)},
            "tickets": {"train_file": write(tmp_path / "tickets.jsonl", second)},
        },
        validation_split_percentage=0, on_bad_rows={"empty_text": "drop"}, train_sampling_strategy="sequential",
    )  # fmt: skip
    (train,) = figures(data)
    assert train["labels"] == {"bad": 5 + 3, "good": 5 + 1}
    assert data.description["label_counts"] == [8, 6]
    features = data.features["train"][""]
    assert features.row_of_feature.tolist() == [*range(10), 10, 11, 12, 14]
    assert features.windows is None
    assert [item["row"] for item in features.__getitems__([0, 9, 10, 13])] == [0, 9, 10, 14]
    assert [row for batch in range(4) for row in data.train_rows_at(0, batch)] == features.row_of_feature.tolist()
    assert [data.source_of_row(row) for row in (0, 9, 10, 14)] == [
        ("reviews", 0), ("reviews", 9), ("tickets", 0), ("tickets", 4),
    ]  # fmt: skip
    titles = {f"reviews: row {n}": f"review{n - 1}" for n in range(1, 11)}
    titles |= {f"tickets: row {n}": f"ticket{n - 1}" for n in (1, 2, 3, 5)}
    shown = [view(data, "train", "", at) for at in range(14)]
    assert [each.title for each in shown] == list(titles)
    for each in shown:
        text = each.parts[0].text
        assert titles[str(each.title)] in text.replace(" ", "").replace("##", "")
    assert [str(each.title).split(":")[0] for each in some_views(data, "train", "", 4)] == ["reviews", "tickets"] * 2


def test_windows_of_a_mixture_belong_to_a_row_of_one_source(make, tmp_path: Path) -> None:
    """A row of several windows on either side of the seam, twelve rows of one window before and behind."""
    rows = [{"text": "one" if n < 12 else "one two three " * 4, "label": "bad"} for n in range(13)]
    files = {name: write(tmp_path / f"{name}.jsonl", some) for name, some in (("a", rows), ("b", rows[::-1]))}
    data = make(
        sources={name: {"train_file": file} for name, file in files.items()}, validation_split_percentage=0,
        max_seq_length=8, stride=0, label_names=["bad", "good"],
    )  # fmt: skip
    features = data.features["train"][""]
    each = (len(features) - 24) // 2
    assert each > 1
    assert features.windows.tolist() == [1] * 12 + [each, each] + [1] * 12
    titles = [str(view(data, "train", "", 12 + at).title) for at in (0, each - 1, each, 2 * each - 1)]
    assert titles == [
        f"{name}, window {at} of {each}" for name in ("a: row 13", "b: row 1") for at in (1, each)
    ]  # fmt: skip
    assert data.label_counts(features.store) == {"bad": 26, "good": 0}
