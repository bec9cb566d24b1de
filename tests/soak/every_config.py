"""Every YAML of configs/, killed in the middle and gone on: fit, test, predict, export, reload; what came out as JSON.

    python -m tests.soak.every_config --data FOLDER --configs 'text_classification/*' --out results.json

Each stage is the command `lit-ft` in a process of its own. These are forked from one that has imported the packages
already, which saves six seconds a command; with `--fresh` each begins with an interpreter of its own.
"""

import argparse
import csv
import fnmatch
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.soak.bringing import Given, bring
from tests.soak.reloading import NOT_TRIED, reload

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
NOT_TASKS = {"trainer", "sweep"}
"""Folders whose YAMLs are given beside another one's, or start runs of their own."""
STEPS, SAVED_EVERY = 10, 3
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}  # two threads wait for each other on a busy machine
LIMIT = 600
"""Seconds a command may take."""
UNLIKE = {"train_tokens/s"}
"""What no two runs have in common."""


class Failure(Exception):
    """A stage that did not do what it should."""


def names(patterns: list[str]) -> list[str]:
    """The YAMLs, as `task/name`, the first of each task before the second ones."""
    tasks = [path for path in sorted(CONFIGS.iterdir()) if path.name not in NOT_TASKS]
    yamls = [enumerate(sorted(task.glob("*.yaml"))) for task in tasks]
    numbered = [(at, str(path.relative_to(CONFIGS).with_suffix(""))) for task in yamls for at, path in task]
    every = [name for _, name in sorted(numbered)]
    return [name for name in every if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def run_command(words: list[str], folder: str, log: str, fresh: bool) -> None:
    """What a process does: the console entry, with what it says in a file."""
    os.chdir(folder)
    os.environ["LIT_FT_CACHE"] = str(Path(folder) / "prepared")
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    if fresh:
        os.execv(sys.executable, [sys.executable, "-m", "lit_ft", *words])
    multiprocessing.set_start_method("fork", force=True)  # Python's own, which processes from a server do not have
    from lit_ft.__main__ import entry

    sys.argv = ["lit-ft", *words]
    try:
        entry()
    finally:
        sys.stdout.flush()


class Runner:
    """Runs the commands of one YAML.

    Attributes:
        seconds: of each stage.
    """

    def __init__(self, folder: Path, fresh: bool, later: int) -> None:
        self.folder, self.fresh, self.later = folder, fresh, later
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.soak.preloaded"])
        self.seconds: dict[str, float] = {}

    def start(self, stage: str, target: Any, *args: Any) -> BaseProcess:
        process = self.context.Process(target=target, args=args, name=stage)
        process.start()
        return process

    def command(self, stage: str, words: list[str]) -> BaseProcess:
        log = str(self.folder / f"{stage}.log")
        return self.start(stage, run_command, words, str(self.folder), log, self.fresh)

    def wait(self, stage: str, process: BaseProcess, began: float) -> None:
        process.join(LIMIT)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise Failure(f"{stage}: not done after {LIMIT} s")
        self.seconds[stage] = round(time.monotonic() - began, 1)
        if process.exitcode != 0:
            log = self.folder / f"{stage}.log"
            said = log.read_text(errors="replace")[-1500:] if log.exists() else ""
            raise Failure(f"{stage}: status {process.exitcode}: {said}")

    def run(self, stage: str, words: list[str]) -> None:
        began = time.monotonic()
        self.wait(stage, self.command(stage, words), began)

    def kill_in_the_middle(self, words: list[str], root: Path) -> int:
        """Kills a run that has saved and has done some steps more; returns how many its metrics tell of."""
        began = time.monotonic()
        process = self.command("killed", words)
        saved = root / "version_0" / "checkpoints" / "last.ckpt"
        told = root / "version_0" / "metrics.csv"
        rows: int | None = None
        while process.exitcode is None:
            if rows is None and saved.exists():
                rows = _lines(told)
            if rows is not None and _lines(told) >= rows + self.later:
                process.kill()
                process.join()
                break
            if time.monotonic() - began > LIMIT:
                process.kill()
                raise Failure("killed: never came to its first checkpoint")
            time.sleep(0.002)
        self.seconds["killed"] = round(time.monotonic() - began, 1)
        if process.exitcode != -9:
            self.wait("killed", process, began)
            raise Failure("killed: it was done before it could be killed")
        return _lines(told) - 1


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def logged(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv, but for what differs from run to run."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in UNLIKE} for row in csv.DictReader(file)]


def differences(resumed: Path, whole: Path) -> str:
    """Says in what a run that was killed differs from one that was not, if in anything."""
    import torch

    rows, expected = logged(resumed), logged(whole)
    if rows != expected:
        at = next(
            (at for at, (a, b) in enumerate(zip(rows, expected, strict=False)) if a != b),
            min(map(len, (rows, expected))),
        )
        found, other = (str(each[at : at + 1]) for each in (rows, expected))
        return f"metrics.csv differs from row {at}: {found} for {other} ({len(rows)} and {len(expected)} rows)"
    last, theirs = (
        torch.load(run / "checkpoints" / "last.ckpt", weights_only=True, mmap=True) for run in (resumed, whole)
    )
    for part in ("global_step", "epoch"):
        if last[part] != theirs[part]:
            return f"{part}: {last[part]} for {theirs[part]}"
    for part in ("state_dict", "optimizer_states"):
        unlike = _unlike(last[part], theirs[part], part)
        if unlike:
            return f"{len(unlike)} tensors of last.ckpt differ, such as {unlike[0]}"
    return ""


def _unlike(one: Any, other: Any, name: str) -> list[str]:
    import torch

    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in _unlike(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            found for at, pair in enumerate(zip(one, other, strict=True)) for found in _unlike(*pair, f"{name}.{at}")
        ]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [name]
    return [] if one == other else [name]


def compare(resumed: str, whole: str, out: str) -> None:
    """What a process of its own does: the parent keeps no tensors."""
    Path(out).write_text(json.dumps(differences(Path(resumed), Path(whole))))


def check_reload(name: str, folder: str, out: str) -> None:
    """What a process of its own does: loads the run and its export again."""
    log = os.open(str(Path(folder) / "reload.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    run = next(iter((Path(folder) / "killed").glob("version_*")))
    exported = Path(folder) / "exported"
    Path(out).write_text(json.dumps(reload(run, exported if exported.exists() else None)))


def shortened(name: str) -> list[str]:
    """Words that make a run short: 10 steps, two epochs, a checkpoint every third; the rest is the YAML's own."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    options, trainer = config["data"]["init_args"], config["trainer"]
    words = [
        f"--trainer.max_steps={STEPS}", "--trainer.max_epochs=50", "--trainer.log_every_n_steps=1",
        "--trainer.check_val_every_n_epoch=1", "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", f"--checkpoint.every_n_train_steps={SAVED_EVERY}",
        "--model.learning_rate=0.0005", "--trainer.accelerator=cpu",
    ]  # fmt: skip
    if options.get("streaming"):
        words += ["--trainer.val_check_interval=5", "--model.num_warmup_steps=2", "--data.shuffle_buffer_size=20"]
    else:  # an epoch ends, and is validated, before the run does
        words.append(f"--trainer.limit_train_batches={10 if 'accumulate_grad_batches' in trainer else 5}")
    if not options.get("streaming") and trainer.get("val_check_interval", 0) > 1:
        words.append("--trainer.val_check_interval=1.0")
    if "accumulate_grad_batches" in trainer:
        words.append("--trainer.accumulate_grad_batches=2")
    if "max_tokens_per_batch" in options:
        words.append("--data.max_tokens_per_batch=500")
    else:
        words.append("--data.batch_size=4")
    return words


def go_through(name: str, given: Given, runner: Runner, result: dict[str, Any]) -> None:
    """All stages of a YAML that is trained."""
    folder = runner.folder
    words = ["--config", str(CONFIGS / f"{name}.yaml"), *shortened(name), *given.words]
    roots = {kind: folder / kind for kind in ("whole", "killed")}
    runner.run("fit", ["fit", *words, f"--trainer.default_root_dir={roots['whole']}"])
    killed = [*words, f"--trainer.default_root_dir={roots['killed']}"]
    auto = ["fit", *killed, "--ckpt_path=auto"]
    result["killed_after_rows"] = runner.kill_in_the_middle(auto, roots["killed"])
    runner.run("resumed", auto)
    out = folder / "compared.json"
    began = time.monotonic()
    runner.wait(
        "compare",
        runner.start("compare", compare, *(str(roots[k] / "version_0") for k in ("killed", "whole")), str(out)),
        began,
    )
    unlike = json.loads(out.read_text())
    result["resumed_equals_whole"] = not unlike
    result["steps"] = max(int(row["step"]) for row in logged(roots["whole"] / "version_0")) + 1
    failures = [f"resumed: {unlike}"] if unlike else []
    try:
        best = ["--ckpt_path=best", "--trainer.precision=32-true"]  # `load_predictor` knows of no autocast
        runner.run("test", ["test", *killed, "--ckpt_path=best"])
        last = {key: value for row in logged(roots["killed"] / "version_0") for key, value in row.items() if value}
        result["test"] = {key: round(float(value), 4) for key, value in last.items() if key.startswith("test_")}
        runner.run("predict", ["predict", *killed, *best])
        merge = ["--merge"] if given.adapter else []
        runner.run(
            "export", ["export", "--ckpt_path=best", f"--default_root_dir={roots['killed']}", "--out=exported", *merge]
        )
        reload_stage(name, runner, result)
    except Failure as failure:
        failures.append(str(failure))
    if failures:
        raise Failure("; ".join(failures))


def reload_stage(name: str, runner: Runner, result: dict[str, Any]) -> None:
    """Loads what was left in other ways and compares predictions."""
    out, began = runner.folder / "reloaded.json", time.monotonic()
    runner.wait("reload", runner.start("reload", check_reload, name, str(runner.folder), str(out)), began)
    result["reload"] = json.loads(out.read_text())
    unlike = [f"{way}: {said}" for way, said in result["reload"].items() if said not in ("agrees", NOT_TRIED)]
    result["reload_agrees"] = not unlike
    if unlike:
        raise Failure(f"reload: {unlike}")


def without_training(name: str, given: Given, runner: Runner, result: dict[str, Any]) -> None:
    """Zero-shot classification: test and predict alone."""
    words = ["--config", str(CONFIGS / f"{name}.yaml"), *given.words, "--trainer.accelerator=cpu"]
    words += ["--trainer.enable_progress_bar=false"]
    runner.run("test", ["test", *words, f"--trainer.default_root_dir={runner.folder / 'tested'}"])
    last = {key: value for row in logged(runner.folder / "tested" / "version_0") for key, value in row.items() if value}
    result["test"] = {key: round(float(value), 4) for key, value in last.items() if key.startswith("test_")}
    runner.run("predict", ["predict", *words, f"--trainer.default_root_dir={runner.folder / 'killed'}"])
    reload_stage(name, runner, result)


def one(name: str, data: Path | None, folder: Path, fresh: bool, later: int = 1) -> dict[str, Any]:
    """Goes through one YAML; what fails is in the result."""
    folder.mkdir(parents=True)
    runner, result = Runner(folder, fresh, later), {"config": name, "failure": ""}
    try:
        given = bring(name, data, folder / "rows")
        result |= {"rows": given.source, "model": given.model}
        (without_training if name.startswith("zero_shot/") else go_through)(name, given, runner, result)
    except Failure as failure:
        result["failure"] = str(failure)
    except Exception:  # the others are to be tried all the same
        result["failure"] = traceback.format_exc()
    result["counts"] = row_counts(folder)
    result["seconds"] = runner.seconds
    return result


def row_counts(folder: Path) -> dict[str, int]:
    """How many rows each split of a run had that were used, as the run itself has noted."""
    counts: dict[str, int] = {}
    for path, split in (("whole/*/data_summary.json", ""), ("*/*/evaluation.test.json", "test")):
        for found in sorted(folder.glob(path))[:1]:
            for each in json.loads(found.read_text())["sets"]:
                name = split or each["split"]
                counts[name] = counts.get(name, 0) + int(each["kept" if "kept" in each else "rows"])
    return counts


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    head = ["configuration", "rows", "model", "steps", "killed after", "resumed = whole", "tested", "reload", "seconds"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    said = {True: "yes", False: "**no**", None: ""}
    for each in sorted(results, key=lambda each: str(each["config"])):
        losses = {name: value for name, value in each.get("test", {}).items() if name.endswith("loss")}
        rows = f"{each.get('rows', '')}: {' + '.join(map(str, each['counts'].values()))}"
        cells = [
            each["config"], rows, each.get("model", ""), each.get("steps", ""), each.get("killed_after_rows", ""),
            said[each.get("resumed_equals_whole")], ", ".join(f"{value:.3f}" for value in losses.values()),
            said[each.get("reload_agrees")], round(sum(each["seconds"].values())),
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Goes through the YAMLs that are asked for; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of real data; without it rows are made of the sample data")
    parser.add_argument("--configs", nargs="+", default=["*"], help="which, such as 'translation/*'")
    parser.add_argument("--out", type=Path, default=Path("results.json"), help="what stands there is not run again")
    parser.add_argument(
        "--work", type=Path, help="where runs go; those that fail stay there (default: a temporary folder)"
    )
    parser.add_argument("--fresh", action="store_true", help="an interpreter of its own for each command")
    parser.add_argument("--later", type=int, default=1, help="steps from the first checkpoint to the kill (default 1)")
    args = parser.parse_args()
    os.environ |= ENVIRONMENT
    results: list[dict[str, Any]] = json.loads(args.out.read_text()) if args.out.exists() else []
    results, work = [each for each in results if not each["failure"]], args.work or Path(tempfile.mkdtemp())
    for name in names(args.configs):
        if any(each["config"] == name for each in results):
            continue
        folder = work.resolve() / name
        shutil.rmtree(folder, ignore_errors=True)
        results.append(one(name, args.data and args.data.resolve(), folder, args.fresh, args.later))
        args.out.write_text(json.dumps(results, indent=1))
        print(name, results[-1]["failure"][-800:] or "fine", results[-1]["seconds"], flush=True)
        if not results[-1]["failure"]:
            shutil.rmtree(folder)
    print(table(results))
    sys.exit(any(each["failure"] for each in results))


if __name__ == "__main__":
    main()
