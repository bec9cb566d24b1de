"""Hashes of files that are remembered: never stale, whatever is edited, set back, damaged or still written."""

import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict, load_from_disk

from lit_ft.data.caching.fingerprints import (
    RACY_NS,
    check_unchanged,
    content_digest,
    files_below,
    folder_digest,
    forget,
    stamp,
)
from lit_ft.errors import UserError


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def memories(root: Path) -> list[Path]:
    return sorted((root / "fingerprints").glob("*.json"))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets our clock, not the files', go on by a minute."""
    real = time.time_ns

    def go_on() -> None:
        monkeypatch.setattr(time, "time_ns", lambda: real() + 60 * 10**9)

    return go_on


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "train.csv"
    path.write_bytes(b"text\na\nb\n")
    return path


def forge(root: Path) -> str:
    """Puts a hash that is none into the memory, so that a test sees whether it is believed."""
    (memory,) = memories(root)
    entry = json.loads(memory.read_text())
    memory.write_text(json.dumps({**entry, "sha256": "f" * 64}))
    return "f" * 64


def test_it_is_the_sha256_of_the_content(root: Path, file: Path) -> None:
    assert content_digest(file, root) == sha256(b"text\na\nb\n")
    file.write_bytes(b"")
    assert content_digest(file, root) == sha256(b"")


def test_an_old_file_is_not_read_again(root: Path, file: Path, later: Callable[[], None]) -> None:
    later()
    content_digest(file, root)
    forged = forge(root)
    assert content_digest(file, root) == forged
    assert content_digest(Path(os.path.relpath(file)), root) == forged


def test_a_young_file_is_not_remembered(root: Path, file: Path, later: Callable[[], None]) -> None:
    content_digest(file, root)
    assert memories(root) == []
    later()
    content_digest(file, root)
    assert len(memories(root)) == 1


def test_the_age_that_counts_is_that_of_the_last_change(
    root: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(file, (0, 0))  # the content looks old, the inode was changed just now
    changed = file.stat().st_ctime_ns
    for age, remembered in ((RACY_NS - 1, 0), (RACY_NS, 1)):
        monkeypatch.setattr(time, "time_ns", lambda age=age: changed + age)
        content_digest(file, root)
        assert len(memories(root)) == remembered


def edit_and_set_back(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"text\na\nc\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_and_set_back(path: Path) -> None:
    before = path.stat()
    path.with_suffix(".new").write_bytes(b"text\na\nc\n")
    path.with_suffix(".new").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("edit", [edit_and_set_back, replace_and_set_back])
def test_an_edit_of_the_same_size_and_time_is_noticed(
    root: Path, file: Path, later: Callable[[], None], edit: Callable[[Path], None]
) -> None:
    later()
    before, was = stamp(file), content_digest(file, root)
    edit(file)
    now = stamp(file)
    assert (now.size, now.mtime_ns) == (before.size, before.mtime_ns)
    assert was != content_digest(file, root) == sha256(b"text\na\nc\n")
    with pytest.raises(UserError, match=r"train\.csv changed while its rows were in use \(9 bytes then, 9 now\)"):
        check_unchanged({file: before})


@pytest.mark.parametrize("part", range(4))
def test_each_part_of_the_stamp_counts(root: Path, file: Path, later: Callable[[], None], part: int) -> None:
    later()
    content_digest(file, root)
    forge(root)
    (memory,) = memories(root)
    entry = json.loads(memory.read_text())
    entry["stamp"][part] += 1
    memory.write_text(json.dumps(entry))
    assert content_digest(file, root) == sha256(b"text\na\nb\n")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"path": 1}', b"\xff\xfe", b'{"sha256": 5}'])
def test_a_damaged_memory_is_ignored(root: Path, file: Path, later: Callable[[], None], damage: bytes) -> None:
    later()
    content_digest(file, root)
    (memory,) = memories(root)
    memory.write_bytes(damage)
    assert content_digest(file, root) == sha256(b"text\na\nb\n")
    assert json.loads(memory.read_text())["sha256"] == sha256(b"text\na\nb\n")


@pytest.mark.parametrize("root", ["/proc/none", "/dev/null", "/dev/full"])
def test_a_memory_that_cannot_be_written_is_done_without(root: str, file: Path, later: Callable[[], None]) -> None:
    later()
    assert content_digest(file, Path(root)) == sha256(b"text\na\nb\n")


def test_a_memory_is_whole_whoever_writes_it(root: Path, file: Path, later: Callable[[], None]) -> None:
    later()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=content_digest, args=(file, root)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 5
    assert [path.name for path in (root / "fingerprints").iterdir()] == [path.name for path in memories(root)]
    assert len(memories(root)) == 1


def test_a_file_that_grows_while_it_is_read(root: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.file_digest

    def read_and_write(stream: object, name: str) -> object:
        found = digest(stream, name)
        with file.open("ab") as other:
            other.write(b"c\n")
        return found

    monkeypatch.setattr(hashlib, "file_digest", read_and_write)
    with pytest.raises(UserError, match=r"train\.csv changed .* \(9 bytes then, 11 now\)"):
        content_digest(file, root)


def test_stamps(file: Path) -> None:
    before = {file: stamp(file)}
    check_unchanged(before)
    file.touch()
    with pytest.raises(UserError, match=r"train\.csv changed"):
        check_unchanged(before)
    file.unlink()
    with pytest.raises(UserError, match=r"train\.csv was deleted"):
        check_unchanged(before)
    with pytest.raises(UserError, match=r"train\.csv: cannot be read: No such file"):
        stamp(file)


def test_forget(root: Path, tmp_path: Path, later: Callable[[], None]) -> None:
    later()
    for name in "ab":
        (tmp_path / name).write_text(name)
        content_digest(tmp_path / name, root)
    old, young = memories(root)
    os.utime(old, (0, 0))
    notes = root / "fingerprints" / "notes.json"
    notes.write_text("{}")
    assert forget(root, before=1.0) == 1
    assert memories(root) == sorted([young, notes])
    assert forget(root, before=time.time() + 1) == 1
    assert memories(root) == [notes]
    assert forget(tmp_path / "none", before=2.0) == 0


def test_a_folder_of_data_files(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.csv").write_text("text\na\n")
    (folder / "sub" / "test.csv").write_text("text\nb\n")
    seen = {folder_digest(folder, root)}

    def differs() -> bool:
        found = folder_digest(folder, root)
        return found not in seen and seen.add(found) is None

    assert not differs()
    for name in (".git/index", ".cache/huggingface/x.lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        assert not differs()
    edit_and_set_back(folder / "sub" / "test.csv")
    assert differs()
    (folder / "train.csv").rename(folder / "train.txt")
    assert differs()
    (folder / "README.md").write_text("---\nconfigs: []\n---")
    assert differs()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.csv").write_text("text\nc\n")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    assert differs()
    (folder / "round").symlink_to(folder)
    assert not differs()
    (tmp_path / "elsewhere" / "more.csv").write_text("text\nd\n")
    assert differs()
    assert [str(path.relative_to(folder)) for path in files_below(folder)] == [
        "README.md",
        "linked/more.csv",
        "sub/test.csv",
        "train.txt",
    ]
    folder.rename(tmp_path / "moved")
    assert folder_digest(tmp_path / "moved", root) in seen


def test_a_folder_made_by_save_to_disk(root: Path, tmp_path: Path) -> None:
    """Its own fingerprint stays the same when the rows are edited, and `map` writes beside them."""
    folder = tmp_path / "saved"
    DatasetDict({"train": Dataset.from_dict({"text": ["aaaa", "b"]})}).save_to_disk(folder)
    before, own = folder_digest(folder, root), load_from_disk(folder)["train"]._fingerprint
    load_from_disk(folder)["train"].map(lambda row: {"size": len(row["text"])})
    assert any(path.name.startswith("cache-") for path in (folder / "train").iterdir())
    assert folder_digest(folder, root) == before
    (path,) = (folder / "train").glob("data-*.arrow")
    path.write_bytes(path.read_bytes().replace(b"aaaa", b"cccc"))
    edited = load_from_disk(folder)["train"]
    assert (edited["text"][0], edited._fingerprint) == ("cccc", own)
    assert folder_digest(folder, root) != before


def test_a_folder_that_is_none(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: cannot be read: No such file"):
        folder_digest(tmp_path / "none", root)
