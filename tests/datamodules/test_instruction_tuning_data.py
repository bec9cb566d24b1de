"""InstructionTuningDataModule: batches as transformers marks them, packing, lengths, what is wrong with rows."""

import json
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_ft import InstructionTuningDataModule
from lit_ft.errors import UserError
from tests.conversations import MARKED, chat_rows, conversation, make_chat_model, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_chat_model(tmp_path_factory.mktemp("chat"))


def prepared(model: str, stage: str = "fit", **options: Any) -> InstructionTuningDataModule:
    usual = {"batch_size": 4, "validation_split_percentage": 0, "train_sampling_strategy": "sequential"}
    data = InstructionTuningDataModule(model_name_or_path=model, **{**usual, **options})
    if stage == "fit":
        data.prepare_data()
    else:
        data.prepare_stage((stage,))
    data.setup(stage)
    return data


def marked(data: InstructionTuningDataModule, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids and labels by transformers, as many as the model takes."""
    made = data.tokenizer.apply_chat_template(
        messages, chat_template=MARKED, return_assistant_tokens_mask=True, return_dict=True
    )
    ids = made["input_ids"][:160]
    return ids, [token if learned else -100 for token, learned in zip(ids, made["assistant_masks"], strict=False)]


def rows_of(data: InstructionTuningDataModule) -> list[tuple[list[int], list[int]]]:
    found = []
    for batch in data.train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            if bool((labels >= 0).any()):
                found.append((ids[mask > 0].tolist(), labels[mask > 0].tolist()))
    return found


def test_batches_are_as_transformers_marks_them(model: str, tmp_path: Path) -> None:
    data = prepared(model, train_file=write_rows(tmp_path / "rows.jsonl", chat_rows(13)))
    assert rows_of(data) == [marked(data, row["messages"]) for row in chat_rows(13)]


@pytest.mark.parametrize("name", ["sharegpt", "alpaca", "prompts"])
def test_formats_without_options(model: str, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    chats = [conversation(number) for number in range(6)]
    written: dict[str, list[Any]] = {
        "sharegpt": [
            {"conversations": [{"from": "human", "value": a["content"]}, {"from": "gpt", "value": b["content"]}]}
            for a, b in chats
        ],
        "alpaca": [{"instruction": a["content"], "input": "", "output": b["content"]} for a, b in chats],
        "prompts": [{"prompt": a["content"], "completion": b["content"]} for a, b in chats],
    }
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(written[name]), encoding="utf-8")
    with caplog.at_level("INFO", "lit_ft"):
        data = prepared(model, train_file=str(path))
    assert rows_of(data) == [marked(data, chat) for chat in chats]
    assert f"{name}.json: conversations in the format" in caplog.text


def test_packed_conversations_are_whole_and_apart(model: str, tmp_path: Path) -> None:
    rows = chat_rows(25)
    data = prepared(model, train_file=write_rows(tmp_path / "rows.jsonl", rows), packing="best_fit", max_seq_length=120)
    found: Counter[Any] = Counter()
    for batch in data.train_dataloader():
        assert "attention_mask" not in batch
        for ids, labels, places in zip(batch["input_ids"], batch["labels"], batch["position_ids"], strict=True):
            starts = [*(places == 0).nonzero()[:, 0].tolist(), len(ids)]
            for start, stop in pairwise(starts):
                if stop - start > 1 and bool((labels[start:stop] >= 0).any()):
                    found[tuple(ids[start:stop].tolist()), tuple(labels[start:stop].tolist())] += 1
    expected = Counter(
        (tuple(ids[:120]), tuple(labels[:120])) for ids, labels in (marked(data, row["messages"]) for row in rows)
    )
    assert found == expected


def test_a_packed_stream_goes_on_from_a_small_place(model: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", chat_rows(30))
    options = {"packing": "best_fit", "streaming": True, "train_sampling_strategy": "random", "batch_size": 16}
    loader: Any = prepared(model, train_file=path, **options).train_dataloader()
    batches = [*islice(loader, 12)]
    places = [batch.place for batch in batches]
    assert len({str(json.loads(place)["rows"]) for place in places}) > 1  # they are of several draws
    assert max(map(len, places)) < 1000
    for batch in batches[:8]:
        loader.take(batch)
    again: Any = prepared(model, train_file=path, **options).train_dataloader()
    again.load_state_dict(loader.state_dict())
    for batch, expected in zip(islice(again, 4), batches[8:], strict=True):
        assert batch.keys() == expected.keys()
        assert all(torch.equal(batch[name], expected[name]) for name in batch)


def test_only_the_last_reply_and_flags(model: str, tmp_path: Path) -> None:
    rows = [{"messages": conversation(4, 2)}, {"messages": conversation(5, 2)}]
    rows[1]["messages"][3]["train"] = False  # type: ignore[assignment]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    last = rows_of(prepared(model, train_file=path, train_on="last"))
    data = prepared(model, train_file=path)
    (_, first), (_, second) = rows_of(data)
    said = data.tokenizer.decode([token for token in last[0][1] if token >= 0])
    assert said == data.tokenizer.decode(data.tokenizer(rows[0]["messages"][3]["content"] + "<|im_end|>")["input_ids"])
    assert len(last) == 1  # of the other row's last reply nothing is to be learned
    ends = data.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert (first.count(ends), second.count(ends)) == (2, 1)


def test_rows_to_reply_to(model: str, tmp_path: Path) -> None:
    rows = [{"messages": conversation(3)[:1], "id": 7}, {"messages": conversation(8, 2), "id": 8}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    data = InstructionTuningDataModule(model_name_or_path=model, predict_file=path, eval_sampling_strategy="sequential")
    data.prepare_stage(("predict",))
    data.setup("predict")
    (batch,) = data.predict_dataloader()[0]
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        asked = row["messages"] if len(row["messages"]) == 1 else row["messages"][:-1]  # type: ignore[arg-type,index]
        expected = data.tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert ids[mask > 0].tolist() == expected
        assert mask[0] == 1 or not bool(mask[: -len(expected)].any())  # padded on the left


@pytest.mark.parametrize(
    "row",
    [{"instruction": "where is my order", "input": ""}, {"prompt": "where is my order"}],
    ids=["alpaca", "prompt"],
)
def test_rows_to_reply_to_need_no_reply(model: str, tmp_path: Path, row: dict[str, str]) -> None:
    path = write_rows(tmp_path / "ask.jsonl", [row] * 3)
    data = prepared(model, "predict", predict_file=path, max_seq_length=150)
    (batch,) = data.predict_dataloader()[0]
    asked = data.tokenizer.decode(batch["input_ids"][0][batch["attention_mask"][0].bool()]).replace(" ##", "")
    assert asked == "<|im_start|> user where is my order <|im_end|> <|im_start|> assistant"


def test_lengths(model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_rows(tmp_path / "rows.jsonl", chat_rows(12))
    whole = [marked(prepared(model, train_file=path), row["messages"]) for row in chat_rows(12)]
    most = sorted(len(ids) for ids, _ in whole)[6]
    with caplog.at_level("INFO", "lit_ft"):
        cut = prepared(model, train_file=path, max_seq_length=most)
    kept = [(ids[:most], labels[:most]) for ids, labels in whole]
    assert rows_of(cut) == [row for row in kept if any(label >= 0 for label in row[1])]
    assert "cut" in caplog.text
    dropped = rows_of(prepared(model, train_file=path, max_seq_length=most, on_bad_rows={"cut": "drop"}))
    assert dropped == [row for row in whole if len(row[0]) <= most]
    with pytest.raises(UserError, match=r"rows\.jsonl.*longer than max_seq_length"):
        prepared(model, train_file=path, max_seq_length=most, on_bad_rows={"cut": "error"})
    with pytest.raises(UserError, match="there is nothing to learn in 12 training rows"):
        prepared(model, train_file=path, max_seq_length=3)
    with pytest.raises(UserError, match=r"truncation_side is 'head_and_tial'.* did you mean 'head_and_tail'"):
        prepared(model, train_file=path, truncation_side="head_and_tial")


def test_another_template_is_another_preparation(model: str, tmp_path: Path) -> None:
    path, template = write_rows(tmp_path / "rows.jsonl", chat_rows(4)), tmp_path / "mine.jinja"
    found = []
    for word in ("Q", "R"):
        template.write_text(
            "{% for message in messages %}{{ '" + word + ": ' if message.role == 'user' else 'A: ' }}"
            "{{ message.content }}<|im_end|>{% endfor %}"
        )
        data = prepared(model, train_file=path, chat_template=str(template))
        found.append(data.tokenizer.decode(rows_of(data)[0][0]).split(":")[0].strip())
    assert found == ["q", "r"]


def test_bad_rows_are_named(model: str, tmp_path: Path) -> None:
    rows = chat_rows(9)
    rows[5] = {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "hello?"}]}
    path = write_rows(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=r"rows\.jsonl.*row 6.*message 2 is of user, after user"):
        prepared(model, train_file=path)
    (tmp_path / "other.jsonl").write_text('{"question": "a", "reply": "b"}\n')
    with pytest.raises(UserError, match=r"other\.jsonl: no format of conversations has the columns"):
        prepared(model, train_file=str(tmp_path / "other.jsonl"))
    mapped = prepared(
        model, train_file=str(tmp_path / "other.jsonl"), chat_columns={"prompt": "question", "completion": "reply"}
    )
    assert len(rows_of(mapped)) == 1
    with pytest.raises(UserError, match="train_on is 'asistant'; choices: assistant, last, all"):
        InstructionTuningDataModule(model_name_or_path=model, train_on="asistant")  # type: ignore[arg-type]


def test_marks_that_are_no_tokens_are_told(tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_rows(tmp_path / "rows.jsonl", chat_rows(4))
    with pytest.raises(UserError, match="no chat template: set chat_template"):
        prepared(tiny("llama"), train_file=path)
    with caplog.at_level("INFO", "lit_ft"):
        prepared(tiny("llama"), train_file=path, chat_template="chatml")
    assert "the tokenizer has no token <|im_end|>, <|im_start|>" in caplog.text
    data = prepared(tiny("llama"), train_file=path, chat_template="chatml", add_tokens=["<|im_end|>", "<|im_start|>"])
    assert data.tokenizer.convert_tokens_to_ids("<|im_end|>") in rows_of(data)[0][1]


def test_sources_of_different_formats_are_mixed_by_their_shares(model: str, tmp_path: Path) -> None:
    names = {"user": "human", "assistant": "gpt"}
    said = [conversation(number) for number in range(60)]
    rows: dict[str, list[dict[str, Any]]] = {
        "openai": [{"messages": each, "id": at} for at, each in enumerate(said[:20])],
        "sharegpt": [
            {"conversations": [{"from": names[one["role"]], "value": one["content"]} for one in each]}
            for each in said[20:40]
        ],
        "alpaca": [{"instruction": asked["content"], "output": reply["content"]} for asked, reply in said[40:]],
    }
    data = InstructionTuningDataModule(
        model_name_or_path=model, max_seq_length=400, batch_size=10, data_seed=1,
        sources={name: {"train_file": write_rows(tmp_path / f"{name}.jsonl", each)} for name, each in rows.items()},
        probabilities=[0.6, 0.2, 0.2], validation_split_percentage=0,
    )  # fmt: skip
    data.setup("fit")
    texts = data.tokenizer.batch_decode([ids for batch in data.train_dataloader() for ids in batch["input_ids"]])
    starts = ["".join(each[0]["content"].lower().split()) for each in said]
    found = ["".join(text.replace("##", "").split()) for text in texts]
    source = [next(at for at, start in enumerate(starts) if start in text) // 20 for text in found]
    assert {*source} == {0, 1, 2}
    assert source.count(0) > 1.5 * max(source.count(1), source.count(2))
    for text in found:
        assert text.count("<|im_end|>") == 2
