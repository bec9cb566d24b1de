"""Folders named by a hash: built once by whoever comes first, whole or not at all, killed, shared, damaged or full."""

import json
import logging
import mmap
import multiprocessing
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from lit_ft.data.caching.cache import being_prepared, find, once, preparation_root, remove
from lit_ft.data.caching.digests import digest
from lit_ft.errors import UserError

KEY = {"a": 1, "b": [2, None]}
NAME = digest(KEY)
FORK = multiprocessing.get_context("fork")


def fill(folder: Path) -> None:
    (folder / "part").mkdir()
    (folder / "part" / "whole").write_text("rows")


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir())


def wait_for(happened: Callable[[], object]) -> None:
    while not happened():
        time.sleep(0.01)


def in_another_process(run: Callable[[], None], user: int | None = None) -> int | None:
    """Runs a function to its end; as another user where we are root, whom no permission stops."""

    def body() -> None:
        if user is not None and os.getuid() == 0:
            os.setgid(user)
            os.setuid(user)
        run()

    process = FORK.Process(target=body)
    process.start()
    process.join()
    return process.exitcode


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that any user can enter, as pytest's own cannot."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_FT_CACHE", "/a")
    assert [preparation_root(name) for name in ("/b", None)] == [Path("/b"), Path("/a")]
    monkeypatch.delenv("LIT_FT_CACHE")
    assert preparation_root(None) == Path.home() / ".cache" / "lit_ft"


def test_built_once_per_key(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        fill(folder)

    changed = [{**KEY, "a": 2}, {**KEY, "a": "1"}, {**KEY, "c": None}, {"a": 1, "b": [None, 2]}, {"a": 1}]
    for key in (KEY, *changed):
        assert once(key, build, tmp_path) == once(dict(reversed(key.items())), build, tmp_path)
    assert len(built) == len(folders(tmp_path)) == 6
    folder = once(KEY, build, tmp_path, overwrite=True)
    assert len(built) == 7
    assert json.loads((folder / "key.json").read_text()) == KEY


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(error):
        once(KEY, build, tmp_path)
    assert folders(tmp_path) == []
    assert (once(KEY, fill, tmp_path) / "part" / "whole").exists()


def test_an_interrupted_build_anew_keeps_the_earlier_one(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise KeyboardInterrupt

    earlier = once(KEY, fill, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        once(KEY, build, tmp_path, overwrite=True)
    assert folders(tmp_path) == [NAME]
    assert find(NAME, tmp_path) == earlier


def build_slowly(root: Path, journal: Path, seconds: float) -> None:
    def build(folder: Path) -> None:
        with journal.open("a") as file:
            file.write("built\n")
        (folder / "begun").touch()
        time.sleep(seconds)
        fill(folder)

    assert (once(KEY, build, root) / "part" / "whole").read_text() == "rows"


@pytest.mark.parametrize("count", [2, 5])
def test_processes_that_start_together_build_once(tmp_path: Path, count: int) -> None:
    root, journal = tmp_path / "root", tmp_path / "journal"
    processes = [FORK.Process(target=build_slowly, args=(root, journal, 0.3)) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * count
    assert journal.read_text() == "built\n"
    assert folders(root) == [NAME]


def test_who_waits_takes_over_from_a_killed_build(tmp_path: Path) -> None:
    root, journal = tmp_path / "root", tmp_path / "journal"
    first = FORK.Process(target=build_slowly, args=(root, journal, 60))
    first.start()
    wait_for(lambda: list(root.glob("*/begun")))
    assert being_prepared(NAME, root)
    waiting = [FORK.Process(target=build_slowly, args=(root, journal, 0)) for _ in range(2)]
    for process in waiting:
        process.start()
    first.kill()
    for process in (first, *waiting):
        process.join()
    assert [process.exitcode for process in waiting] == [0, 0]
    assert journal.read_text() == "built\n" * 2
    assert folders(root) == [NAME]


def test_the_helpers_of_a_killed_build_do_not_keep_it_locked(tmp_path: Path) -> None:
    """Workers of a pool outlive a parent that is killed, with all files that it had open."""
    helper = tmp_path / "helper"

    def build(folder: Path) -> None:
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        helper.write_text(str(child))
        time.sleep(60)

    process = FORK.Process(target=once, args=(KEY, build, tmp_path / "root"))
    process.start()
    wait_for(lambda: helper.exists() and helper.read_text())
    process.kill()
    process.join()
    try:
        assert in_another_process(lambda: build_slowly(tmp_path / "root", tmp_path / "journal", 0)) == 0
    finally:
        os.kill(int(helper.read_text()), signal.SIGKILL)
    assert folders(tmp_path / "root") == [NAME]


def test_who_waits_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lock = FileLock(tmp_path / f"{NAME}.lock", thread_local=False)
    lock.acquire()
    with caplog.at_level(logging.INFO, "lit_ft"):
        thread = threading.Thread(target=once, args=(KEY, fill, tmp_path))
        thread.start()
        wait_for(lambda: caplog.messages)
        lock.release()
        thread.join()
        once(KEY, fill, tmp_path)
    assert caplog.messages == [f"another process prepares {tmp_path / NAME}: waiting for it"]


def test_a_mapped_folder_can_be_built_anew(tmp_path: Path) -> None:
    path = once(KEY, fill, tmp_path) / "part" / "whole"
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        once(KEY, lambda folder: fill(folder) or (folder / "new").touch(), tmp_path, overwrite=True)
        assert (tmp_path / NAME / "new").exists()
        assert mapped[:] == b"rows"
    assert folders(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "part" / "whole").unlink(), "whole is missing"),
        (lambda folder: os.truncate(folder / "part" / "whole", 3), "part/whole has 3 bytes instead of 4"),
        (lambda folder: os.truncate(folder / "key.json", 0), "key.json has 0 bytes"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda folder: os.truncate(folder / "manifest.json", 9), "manifest.json cannot be read"),
        (lambda folder: shutil.rmtree(folder / "part"), "whole is missing"),
    ],
)
def test_a_damaged_folder_is_built_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None], said: str
) -> None:
    folder = once(KEY, fill, tmp_path)
    harm(folder)
    assert find(NAME, tmp_path) is None
    with caplog.at_level(logging.INFO, "lit_ft"):
        assert once(KEY, fill, tmp_path) == once(KEY, fill, tmp_path) == folder
    assert (folder / "part" / "whole").read_text() == "rows"
    assert len(caplog.messages) == 1
    assert said in caplog.messages[0]
    assert "prepared anew" in caplog.messages[0]


def test_use_is_remembered(tmp_path: Path) -> None:
    folder = once(KEY, fill, tmp_path)
    for use in (lambda: once(KEY, fill, tmp_path), lambda: find(NAME, tmp_path)):
        os.utime(folder, (0, 0))
        assert use() == folder
        assert folder.stat().st_mtime > time.time() - 1000


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "none", NAME[:-1], "None"])
def test_only_our_names_are_found(tmp_path: Path, name: str) -> None:
    once(KEY, fill, tmp_path)
    assert find(name, tmp_path) is None


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    def run() -> None:
        os.umask(mask)
        folder = once(KEY, fill, tmp_path / "root")
        for path in (tmp_path / "root", folder, folder / "part"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
        for path in (folder / "part" / "whole", folder / "key.json", folder / "manifest.json"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask

    assert in_another_process(run) == 0


def test_another_user_reads_a_shared_cache_and_is_told_when_he_cannot_write(public: Path) -> None:
    once(KEY, fill, public)
    public.chmod(0o555)

    def run() -> None:
        assert (once(KEY, fill, public) / "part" / "whole").read_text() == "rows"
        for key, overwrite in (({**KEY, "a": 2}, False), (KEY, True)):
            with pytest.raises(UserError, match=r"preparation_dir .* cannot be written: Permission denied; set prep"):
                once(key, fill, public, overwrite)
        with pytest.raises(UserError, match=r"preparation_dir .*new' cannot be made: Permission denied; set prep"):
            once(KEY, fill, public / "new")

    assert in_another_process(run, user=54321) == 0
    public.chmod(0o755)


def test_a_root_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        with pytest.raises(UserError, match=f"preparation_dir '{root}' cannot be made: .*LIT_FT_CACHE"):
            once(KEY, fill, root)


def test_a_full_disk(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        try:
            Path("/dev/full").write_text("x")
        except OSError as error:
            raise RuntimeError("a library's own words") from error

    with pytest.raises(UserError, match=r"the disk is full \(No space left on device\); .*lit-ft cache clear.*LIT_FT"):
        once(KEY, build, tmp_path)
    assert folders(tmp_path) == []


def test_other_errors_of_a_build_come_through(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", "/home/someone/train.csv")

    with pytest.raises(PermissionError, match=r"train\.csv"):
        once(KEY, build, tmp_path)


def test_remove(tmp_path: Path) -> None:
    once(KEY, fill, tmp_path)
    other = once({}, fill, tmp_path)
    killed = tmp_path / f"{NAME}.{'0' * 32}.tmp"
    killed.mkdir()
    with FileLock(tmp_path / f"{NAME}.lock"):
        assert not remove(NAME, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {NAME, killed.name}
    assert remove(NAME, tmp_path)
    assert folders(tmp_path) == [other.name]
    assert not (tmp_path / f"{NAME}.lock").exists()
    assert once(KEY, fill, tmp_path).exists()


def test_two_builds_never_overlap_while_a_third_removes(tmp_path: Path) -> None:
    """A lock file that is deleted must not let two processes in, one by the old file and one by the new."""
    root, inside, stop = tmp_path / "root", tmp_path / "inside", time.monotonic() + 1.5

    def build(folder: Path) -> None:
        inside.mkdir()  # fails when another build is under way
        time.sleep(0.002)
        inside.rmdir()
        fill(folder)

    def many() -> None:
        while time.monotonic() < stop:
            once(KEY, build, root, overwrite=True)

    def removing() -> None:
        while time.monotonic() < stop:
            remove(NAME, root)

    root.mkdir()
    processes = [FORK.Process(target=target) for target in (many, many, many, removing)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
