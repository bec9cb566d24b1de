"""`lit-ft sweep`: real sweeps of a tiny model, whose figures are read by Optuna itself and from the runs' own files."""

import ast
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from optuna.trial import FrozenTrial, TrialState

import lit_ft
from lit_ft import cli
from lit_ft.commands.report import report
from lit_ft.commands.sweep import TrialCLI, sweep
from lit_ft.errors import UserError
from lit_ft.sweeping.trials import share
from tests.configs.running import CONFIGS
from tests.conversations import conversation, make_chat_model, write_rows
from tests.processes import Command
from tests.test_report import checked
from tests.tiny import SAMPLE

DIRECTIONS = {"text_classification": "maximize", "lora": "minimize"}
"""Of the shipped sweeps."""
RATES = [1e-3, 1e-2, 10.0, 1e30]
"""Two that learn, one that ends beyond all bounds, one whose loss is no number."""


def write(folder: Path, model: str, **told: Any) -> Path:
    """Writes a run of two steps an epoch, and a sweep over its learning rate; `run` changes the run."""
    options: dict[str, Any] = {
        "model": {"class_path": "TextClassificationModule", "init_args": {"model_name_or_path": model}},
        "data": {
            "class_path": "TextClassificationDataModule",
            "init_args": {
                "train_file": str(SAMPLE / "train.csv"), "validation_file": str(SAMPLE / "validation.csv"),
                "text_column_names": "text", "max_train_samples": 16, "max_eval_samples": 12, "batch_size": 8,
            },
        },
        "trainer": {"max_epochs": 3, "accelerator": "cpu", "enable_model_summary": False, **told.pop("trainer", {})},
    }  # fmt: skip
    (folder / "run.yaml").write_text(yaml.safe_dump(options))
    asked = {"run": "run.yaml", "parameters": {"model.learning_rate": {"choices": RATES}}, **told}
    (folder / "sweep.yaml").write_text(yaml.safe_dump({"folder": str(folder / "found"), **asked}))
    return folder / "sweep.yaml"


def read(folder: Path) -> list[FrozenTrial]:
    """The trials, as Optuna reads them."""
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / 'study.db'}").trials


def losses(run: Path) -> list[float]:
    """The validation losses that a run logged."""
    with (run / "metrics.csv").open(newline="") as file:
        return [float(row["val_loss"]) for row in csv.DictReader(file) if row.get("val_loss")]


def test_a_sweep(tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pruner = {"class_path": "ThresholdPruner", "init_args": {"upper": 4.0}}
    told = ["--config", str(write(tmp_path, tiny("bert"), sampler="grid", pruner=pruner, jobs=2))]
    folder = tmp_path / "found"
    sweep([*told, "--data.max_eval_samples=14"])
    said = capsys.readouterr().out
    by_rate = {trial.params["model.learning_rate"]: trial for trial in read(folder)}
    assert [*by_rate] != RATES  # drawn, each once
    states = [by_rate[rate].state for rate in RATES]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]

    of = {rate: folder / f"trial_{trial.number}" for rate, trial in by_rate.items()}
    for rate in RATES[:2]:
        logged = losses(of[rate] / "version_0")
        assert [*by_rate[rate].intermediate_values] == [0, 1, 2]
        assert [*by_rate[rate].intermediate_values.values()] == pytest.approx(logged)
        assert by_rate[rate].value == pytest.approx(min(logged))
        assert yaml.safe_load((of[rate] / "version_0" / "config.yaml").read_text())["data"]["init_args"][
            "max_eval_samples"
        ] == 14  # fmt: skip
    (only,) = losses(of[10.0] / "version_0")
    assert by_rate[10.0].value == pytest.approx(only)
    assert only > 4
    assert f"trial {by_rate[1e30].number} failed (exit status 2)" in said
    assert "Often: a learning rate that is too high" in said

    study = optuna.load_study(study_name="found", storage=f"sqlite:///{folder / 'study.db'}")
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best == {"model": {"init_args": {"learning_rate": study.best_params["model.learning_rate"]}}}
    assert f"best: trial {study.best_trial.number}, val_loss {study.best_value:.5g}" in said
    kept = [path.parent.parent.name for path in folder.glob("*/*/checkpoints")]
    assert {f"trial_{study.best_trial.number}"} <= {*kept} <= {f"trial_{study.best_trial.number}", of[1e30].name}
    with (folder / "trials.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert int(rows[0]["trial"]) == study.best_trial.number
    assert sorted((int(row["trial"]), row["state"]) for row in rows) == [
        (trial.number, trial.state.name.lower()) for trial in study.trials
    ]
    assert "best so far" in checked(folder / "sweep.html").text

    with pytest.raises(SystemExit):
        cli.main(["fit", f"--config={folder / 'run.yaml'}", f"--config={folder / 'best.yaml'}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["learning_rate"] == study.best_params["model.learning_rate"]
    report([*(str(of[rate] / "version_0") for rate in RATES[:2]), f"--out={tmp_path / 'comparison.html'}"])
    compared = checked(tmp_path / "comparison.html").text
    assert all(f"{of[rate].name}/version_0" in compared for rate in RATES[:2])
    assert "callbacks" not in compared

    sweep([*told, "--data.max_eval_samples=14", "--n_trials=9"])  # nothing is left to do
    assert len(read(folder)) == 4
    with pytest.raises(UserError, match=r"holds a sweep with another data\.max_eval_samples: name another --folder"):
        sweep(told)


@pytest.mark.parametrize("signum", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.soak)])
def test_a_sweep_that_is_stopped_goes_on(tiny: Callable[..., str], tmp_path: Path, signum: int) -> None:
    trainer = {"max_epochs": 4, "num_sanity_val_steps": 0}
    told = ["--config", str(write(tmp_path, tiny("bert"), n_trials=1, trainer=trainer))]
    run = tmp_path / "found" / "trial_0" / "version_0"
    process = Command("sweep", *told)
    while not (run / "checkpoints" / "last.ckpt").exists():
        assert process.status is None
        time.sleep(0.01)
    process.signal(signum)
    said = process.end()
    if signum == signal.SIGTERM:
        assert process.status == 143
        assert "the same command goes on" in said
    (trial,) = read(tmp_path / "found")
    assert trial.state == TrialState.RUNNING

    sweep(told)
    (trial,) = read(tmp_path / "found")
    assert trial.state == TrialState.COMPLETE
    assert [path.name for path in run.parent.glob("version_*")] == ["version_0"]
    logged = losses(run)
    assert [*trial.intermediate_values] == [*range(4)]
    assert [*trial.intermediate_values.values()] == pytest.approx(logged)
    commands = json.loads((run / "run.json").read_text())["commands"]
    assert [each["status"] for each in commands] == ["Interrupted: stopped by SIGTERM", "finished"]
    assert 0 < commands[0]["step"] < commands[1]["step"] == 8


def test_trials_that_a_killed_sweep_left_without_values_or_pruned_are_ended(
    tiny: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path, tiny("bert"), n_trials=2)
    (tmp_path / "found").mkdir()
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'found' / 'study.db'}", study_name="found")
    study.ask()
    stopped = study.ask({"model.learning_rate": optuna.distributions.CategoricalDistribution(RATES)})
    stopped.report(3.0, 0)
    stopped.set_user_attr("pruned", 1)
    sweep([f"--config={file}"])
    assert [trial.state for trial in read(tmp_path / "found")] == [TrialState.FAIL, TrialState.PRUNED]
    assert "no trial has ended well" in capsys.readouterr().out


def trial_of(place: str, monkeypatch: pytest.MonkeyPatch, pruner: Any = "none") -> tuple[optuna.Study, list[str]]:
    """A study with a trial that this process runs, and the words for it."""
    study = optuna.create_study(storage=place, study_name="one", load_if_exists=True)
    study.set_user_attr("pruner", pruner)
    number = study.ask().number
    monkeypatch.setenv("LIT_FT_TRIAL", f"{os.getppid()}:{number}")
    pruning = {
        "class_path": "lit_ft.callbacks.pruning.Pruning",
        "init_args": {"storage": place, "study": "one"},
    }
    return study, [f"--trainer.callbacks+={json.dumps(pruning)}", "--export.enabled=false"]


def test_each_validation_is_reported_once_and_counted_on(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, words = trial_of(f"sqlite:///{tmp_path / 'study.db'}", monkeypatch)
    write(tmp_path, tiny("bert"))
    told = ["fit", f"--config={tmp_path / 'run.yaml'}", *words, f"--trainer.default_root_dir={tmp_path / 'runs'}",
            "--trainer.val_check_interval=1", "--ckpt_path=auto"]  # fmt: skip
    cli.main([*told, "--trainer.max_epochs=1"])  # sanity check and two validations
    assert [*study.trials[0].intermediate_values] == [0, 1]
    cli.main([*told, "--trainer.max_epochs=2"])
    (trial,) = study.trials
    assert [*trial.intermediate_values] == [0, 1, 2, 3]
    assert [*trial.intermediate_values.values()] == pytest.approx(losses(tmp_path / "runs" / "version_0"))
    assert trial.user_attrs == {"metric": "val_loss"}
    monkeypatch.delenv("LIT_FT_TRIAL")
    cli.main([*told, "--trainer.max_epochs=3"])  # somebody else's run from the same configuration
    assert len(study.trials[0].intermediate_values) == 4


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_the_pruner_ends_a_run(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    pruner = {"class_path": "ThresholdPruner", "init_args": {"upper": 0.0, "n_warmup_steps": 1}}
    study, words = trial_of(f"sqlite:///{tmp_path / 'study.db'}", monkeypatch, pruner)
    trainer = {"devices": processes, "strategy": "ddp" if processes > 1 else "auto", "max_epochs": 9}
    write(tmp_path, tiny("bert"), trainer=trainer)
    told = ["fit", f"--config={tmp_path / 'run.yaml'}", *words, f"--trainer.default_root_dir={tmp_path / 'runs'}"]
    if processes > 1:
        monkeypatch.setenv("LIT_FT_TRIAL", f"{os.getpid()}:0")
        command = [sys.executable, "-m", "lit_ft", *told]  # a child of this process, as of a sweep
        subprocess.run(command, check=True, timeout=300, env={**os.environ, "PYTHONPATH": str(CONFIGS.parent)})
    else:
        cli.main(told)
    assert [*study.trials[0].intermediate_values] == [0, 1]
    assert study.trials[0].user_attrs["pruned"] == 2
    assert len(losses(tmp_path / "runs" / "version_0")) == 2


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweep").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweeps_are_as_their_runs_take_them(path: Path, tmp_path: Path, capsys: Any) -> None:
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'study.db'}", study_name=tmp_path.name, direction=DIRECTIONS[path.stem]
    )
    study.tell(study.ask(), state=TrialState.FAIL)  # the only one that is asked for: no run starts
    sweep([f"--config={path}", f"--folder={tmp_path}", "--n_trials=1"])
    assert "no trial has ended well" in capsys.readouterr().out
    assert len(path.read_text().splitlines()) <= 32


@pytest.mark.soak
@pytest.mark.parametrize("name", ["lora", "text_classification"])
def test_shipped_sweeps(name: str, tiny: Callable[..., str], tmp_path: Path, capsys: Any) -> None:
    words = [f"--folder={tmp_path / 'found'}", "--n_trials=1", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    if name == "lora":
        rows = [{"messages": conversation(number)} for number in range(6)]
        file = write_rows(tmp_path / "rows.jsonl", rows)
        model = make_chat_model(tmp_path / "model")
        words += ["--model.gguf_file=null", f"--data.train_file={file}", f"--data.validation_file={file}"]
        words += ["--model.sample_prompts=[]", "--data.max_seq_length=64"]
    else:
        model = tiny("bert")
        words += ["--data.max_train_samples=16", "--data.max_eval_samples=8"]
    sweep([f"--config={CONFIGS / 'sweep' / name}.yaml", f"--model.model_name_or_path={model}", *words])
    (trial,) = read(tmp_path / "found")
    assert trial.state == TrialState.COMPLETE, capsys.readouterr().out
    asked = yaml.safe_load((CONFIGS / "sweep" / f"{name}.yaml").read_text())
    assert trial.params.keys() == asked["parameters"].keys()
    run = yaml.safe_load((tmp_path / "found" / "trial_0" / "version_0" / "config.yaml").read_text())
    for parameter, value in trial.params.items():
        at = run
        for key in parameter.replace(".", ".init_args.", 1).split("."):
            at = at[key]
        assert at == value
    if name == "lora":
        assert run["model"]["init_args"]["peft"]["target_modules"] == "all-linear"  # what is not searched stays
    assert trial.user_attrs["metric"] == asked.get("metric", "val_loss")


RANGE = {"low": 1e-5, "high": 1e-3}
WRONG = {
    "model option": ({"model.learing_rate": RANGE}, {}, [], r"'model\.learing_rate' — did you mean 'model\.learning_r"),
    "trainer option": ({"trainer.max_epoch": RANGE}, {}, [], r"did you mean 'trainer\.max_epochs'\?"),
    "key of an adapter": (
        {"model.peft.rank": {"low": 1, "high": 4}}, {}, ["--model.peft={peft_type: LORA}"], r"LORA has no 'rank'"),
    "no such class": ({"optimizer.lr": RANGE}, {}, [], r"'optimizer\.lr', but the run names no optimizer"),
    "key of a range": ({"data.batch_size": {"low": 1, "hihg": 9}}, {}, [], r"unknown key 'hihg' — did you mean 'high'"),
    "half a range": ({"data.batch_size": {"low": 1}}, {}, [], r"parameters\.data\.batch_size: no high"),
    "upside down": ({"data.batch_size": {"low": 9, "high": 1}}, {}, [], r"parameters\.data\.batch_size: .*low.* high"),
    "log of zero": ({"data.batch_size": {"low": 0, "high": 1, "log": True}}, {}, [], r"batch_size: .*low"),
    "no number": ({"data.batch_size": {"low": "a", "high": 1}}, {}, [], r"low is 'a', which is no number"),
    "both": ({"data.batch_size": {"choices": [1], "low": 1}}, {}, [], r"choices stand alone"),
    "no choice": ({"data.batch_size": {"choices": []}}, {}, [], r"choices is \[\]"),
    "list as a choice": ({"model.freeze": {"choices": [["a"]]}}, {}, [], r"\['a'\] is no plain value"),
    "beyond the option's range": ({"model.warmup_ratio": {"low": 0, "high": 2}}, {}, [], r"warmup_ratio is 2\.0; it"),
    "no parameters": ({}, {}, [], r"nothing to search"),
    "key of the sweep": ({"data.batch_size": RANGE}, {"n_trial": 3}, [], r"'n_trial' — did you mean 'n_trials'"),
    "sampler": ({"model.learning_rate": RANGE}, {"sampler": "tpee"}, [], r"did you mean 'TPESampler'"),
    "pruner": ({"model.learning_rate": RANGE}, {"pruner": "medain"}, [], r"did you mean 'MedianPruner'"),
    "endless grid": ({"model.learning_rate": RANGE}, {"sampler": "grid"}, [], r"a grid needs an end"),
    "no such run": ({"model.learning_rate": RANGE}, {"run": "rum.yaml"}, [], r"rum\.yaml: no such file .*run\.yaml"),
    "direction of nothing": ({"model.learning_rate": RANGE}, {"direction": "maximize"}, [], r"Name the metric"),
    "checkpoint": ({"model.learning_rate": RANGE}, {}, ["--ckpt_path=last"], r"take ckpt_path out"),
    "no checkpoints": (
        {"model.learning_rate": RANGE}, {}, ["--trainer.enable_checkpointing=false"], r"leave trainer\.enable_checkp"),
    "option of the run": ({"model.learning_rate": RANGE}, {}, ["--data.bach_size=3"], r"did you mean 'batch_size'"),
    "storage": ({"model.learning_rate": RANGE}, {"storage": "nosuch://x"}, [], r"nosuch://x: Can't load plugin"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_before_the_first_trial(case: str, tiny: Callable[..., str], tmp_path: Path) -> None:
    parameters, told, words, message = WRONG[case]
    file = write(tmp_path, tiny("bert"), parameters=parameters, **told)
    with pytest.raises(UserError, match=message):
        sweep([f"--config={file}", *words])
    assert not [*tmp_path.glob("found/trial_*")]


@pytest.mark.parametrize(
    ("words", "direction"),
    [
        ([], "minimize"),
        (["--checkpoint.mode=max"], "maximize"),
        (["--checkpoint.monitor=val_hamming_distance"], "minimize"),
        (["--checkpoint.monitor=val_f1_macro"], "maximize"),
    ],
)
def test_the_direction_is_that_of_the_runs_best_checkpoint(
    words: list[str], direction: str, tiny: Callable[..., str], tmp_path: Path
) -> None:
    write(tmp_path, tiny("bert"))
    assert TrialCLI(["fit", f"--config={tmp_path / 'run.yaml'}", *words]).direction == direction


def test_without_optuna_the_package_is_named(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, tiny("bert"))
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"pip install 'lit-ft\[sweep\]'"):
        sweep([f"--config={file}"])


def test_optuna_is_imported_by_sweeps_alone() -> None:
    root = Path(lit_ft.__file__).parent
    needs = {"optuna", *(f"lit_ft.sweeping.{path.stem}" for path in (root / "sweeping").glob("*.py"))}
    needs -= {"lit_ft.sweeping.__init__", "lit_ft.sweeping.options"}
    for path in {*root.rglob("*.py")} - {*root.glob("sweeping/*")} - {root / "callbacks" / "pruning.py"}:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            named = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            named += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {each for each in named if each in needs or each.startswith("optuna.")}, path
            assert "lit_ft.callbacks.pruning" not in named


def test_trials_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert share(0, 1) == {}
    assert share(1, 3) == {"OMP_NUM_THREADS": "2"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    given = [share(slot, 4)["CUDA_VISIBLE_DEVICES"] for slot in range(4)]
    assert given == ["4", "5", "6", "7"]
    assert [share(slot, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["4,6", "5,7"]
    assert [share(slot, 6)["CUDA_VISIBLE_DEVICES"] for slot in range(6)] == ["4", "5", "6", "7", "4", "5"]
