import json
import multiprocessing
import time
from pathlib import Path

import pytest
from datasets import Dataset

from lit_ft.data.cache import digest, once, preparation_root, tokenizer_digest
from lit_ft.data.prepare import Work, prepare
from lit_ft.data.raw import RawRows
from tests.tiny import make_tokenizer

KEY = {"a": 1, "b": [2, None]}


def tokenize(rows: dict[str, list], kind: str) -> dict[str, list]:
    """Two windows for rows of even length; one token lost in `ccc`."""
    row = [place for place, text in enumerate(rows["text"]) for _ in range(2 - len(text) % 2)]
    return {
        "input_ids": [[len(rows["text"][place])] for place in row],
        "row": row,
        "tokens_cut": [int(rows["text"][place] == "ccc") for place in row],
    }


def work() -> Work:
    data = Dataset.from_dict({"text": ["a", "bb", "ccc", "dddd"]})
    sets = {"train": {"": RawRows(data, "t.csv")}, "test": {"x": RawRows(data, "x.csv"), "y/z": RawRows(data, "y.csv")}}
    return Work(sets, {"labels": ["é"]}, tokenize, ["a note"])


def test_digest_is_of_the_content() -> None:
    assert digest({"b": [2, None], "a": 1}) == digest(KEY)
    assert len({digest(KEY), digest({**KEY, "a": 2}), digest({**KEY, "c": 0}), digest({"a": 1, "b": [None, 2]})}) == 4


def test_tokenizer_digest_is_of_what_it_does(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    before = tokenizer_digest(tokenizer)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert tokenizer_digest(loaded) == before
    loaded(["a b c"], truncation=True, max_length=4, padding="max_length")
    assert tokenizer_digest(loaded) == before
    tokenizer.add_tokens(["zyxwv"])
    assert tokenizer_digest(tokenizer) != before


def test_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_FT_CACHE", "/a")
    assert [preparation_root(name) for name in ("/b", None)] == [Path("/b"), Path("/a")]
    monkeypatch.delenv("LIT_FT_CACHE")
    assert preparation_root(None) == Path.home() / ".cache" / "lit_ft"


@pytest.mark.parametrize("processes", [None, 2])
def test_features_and_rows_come_back(tmp_path: Path, processes: int | None) -> None:
    prepared = prepare(KEY, work, tmp_path, processes, overwrite=False)
    assert {kind: list(sets) for kind, sets in prepared.sets.items()} == {"train": [""], "test": ["x", "y/z"]}
    features, rows = prepared.sets["test"]["y/z"]
    assert features[:] == {"input_ids": [[1], [2], [2], [3], [4], [4]], "row": [0, 1, 1, 2, 3, 3]}
    assert rows["text"][:] == ["a", "bb", "ccc", "dddd"]
    assert {**prepared.description, "prepared": None} == {"labels": ["é"], "prepared": None}
    assert prepared.notes[0] == "a note"
    assert "t.csv: 1 of 4 rows are longer than max_seq_length and lose 1 tokens" in prepared.notes[1]


def test_prepared_once_per_key(tmp_path: Path) -> None:
    calls = []

    def counted() -> Work:
        calls.append(1)
        return work()

    for key, overwrite in ((KEY, False), (KEY, False), ({**KEY, "a": 2}, False), (KEY, True)):
        prepare(key, counted, tmp_path, None, overwrite)
    assert len(calls) == 3
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert sorted(json.loads((path / "key.json").read_text())["a"] for path in folders) == [1, 2]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(error):
        once(KEY, build, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
    assert (once(KEY, lambda folder: (folder / "whole").touch(), tmp_path) / "whole").exists()


def _build_slowly(root: Path, log: Path, seconds: float) -> None:
    def build(folder: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        (folder / "part").touch()
        time.sleep(seconds)
        (folder / "whole").touch()

    assert (once(KEY, build, root) / "whole").exists()


def test_processes_that_start_together_build_once(tmp_path: Path) -> None:
    root, log = tmp_path / "root", tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_build_slowly, args=(root, log, 0.5)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_what_a_killed_build_leaves_is_swept_by_the_next(tmp_path: Path) -> None:
    root, log = tmp_path / "root", tmp_path / "log"
    process = multiprocessing.get_context("fork").Process(target=_build_slowly, args=(root, log, 60))
    process.start()
    while not list(root.glob("*/part")):
        time.sleep(0.01)
    process.kill()
    process.join()
    _build_slowly(root, log, 0)
    assert [path.name for path in root.iterdir() if path.is_dir()] == [digest(KEY)]
