"""What every task keeps, as tests to be inherited: a task's own test says which rows and which batches it is about."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything

from lit_ft import TransformerDataModule, TransformerModule
from lit_ft.commands.export import export
from lit_ft.metrics.starting_afresh import reset
from lit_ft.ops.building.checkpoint_extras import pack
from tests.processes import two_processes

LONG, FLOAT = torch.int64, torch.float32
NO_DROPOUT: dict[str, dict[str, float]] = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "t5": {"dropout_rate": 0.0},
    "llama": {},
}
OPTIMIZER = {"learning_rate": 3e-3, "lr_scheduler_type": "constant", "adam_epsilon": 1e-3}
"""Runs of different lengths have the same steps, and AdamW does not blow float noise up to whole steps."""
QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}  # fmt: skip


class KeepWeights(Callback):
    """Leaves the weights in a file at the end of fit, where other processes are gone by then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            torch.save(pl_module.model.state_dict(), self.path)


class TaskContract:
    """The tests of one task, on a tiny model and rows in memory.

    Attributes:
        module_class: of the task.
        data_class: of the task.
        keys: of a training batch, with dimensions and type of each.
        architecture: of the tiny model; or `model` is overridden.
        data_options: beside rows and batch sizes.
        module_options: beside the model.
        pads: batches have padding.
        rows_are_features: a row is a feature of its own, and not in blocks with others.
    """

    module_class: type[Any]
    data_class: type[Any]
    keys: ClassVar[dict[str, tuple[int, torch.dtype]]]
    architecture: str = "bert"
    data_options: ClassVar[dict[str, Any]] = {}
    module_options: ClassVar[dict[str, Any]] = {}
    pads = True
    rows_are_features = True

    # What a task says

    def rows(self, count: int, start: int = 0) -> list[dict[str, Any]]:
        """Returns different rows, other ones from another start."""
        raise NotImplementedError

    @pytest.fixture
    def model(self, tiny: Callable[..., str], tmp_path: Path) -> str:
        """The folder of a tiny model."""
        return tiny(self.architecture)

    # What the tests are made of

    def data(self, model: str, **options: Any) -> Any:
        sets = {"train": self.rows(22), "validation": self.rows(7, 60), "predict": self.rows(9, 80)}
        given = {"dataset": sets, "batch_size": 4, "predict_split_name": "predict", **self.data_options, **options}
        return self.data_class(model_name_or_path=model, **given)

    def module(self, model: str, **options: Any) -> Any:
        return self.module_class(model_name_or_path=model, **{**OPTIMIZER, **self.module_options, **options})

    def fitted(
        self, model: str, folder: Path, data: dict[str, Any] | None = None, dropout: bool = True, **options: Any
    ) -> tuple[Any, Any]:
        """Trains for a while; returns Trainer and module."""
        seed_everything(5, verbose=False)
        off = {} if dropout else {"config_overrides": NO_DROPOUT[self.architecture]}
        resume = options.pop("ckpt_path", None)
        given = {"max_epochs": 2, "limit_val_batches": 0, "enable_checkpointing": False, **QUIET, **options}
        trainer, module = Trainer(default_root_dir=folder, **given), self.module(model, **off)
        trainer.fit(module, self.data(model, **(data or {})), ckpt_path=resume, weights_only=True)
        return trainer, module

    # The tests

    def test_classes_are_of_the_two_wings(self) -> None:
        assert issubclass(self.module_class, TransformerModule)
        assert issubclass(self.data_class, TransformerDataModule)

    def test_batches_have_their_keys_shapes_and_types(self, model: str) -> None:
        data = self.data(model)
        data.prepare_data()
        data.setup("fit")
        for batch in data.train_dataloader():
            tensors = {name: value for name, value in batch.items() if isinstance(value, torch.Tensor)}
            assert {name: (value.ndim, value.dtype) for name, value in tensors.items()} == self.keys
            assert len({len(value) for value in tensors.values()} - {0}) == 1
        assert data.val_dataloader()

    def test_a_cut_off_split_shares_no_row_with_train(self, model: str) -> None:
        def features(**options: Any) -> dict[str, Counter[bytes]]:
            data = self.data(model, dataset={"train": self.rows(30)}, **options)
            data.setup("fit")
            stores = {kind: each.store for kind, sets in data.features.items() for each in sets.values()}
            return {
                kind: Counter(bytes(store[at]["input_ids"]) for at in range(len(store)))
                for kind, store in stores.items()
            }

        whole = features(validation_split_percentage=0)["train"]
        cut = features(validation_split_percentage=20)
        if self.rows_are_features:
            assert cut["train"] + cut["validation"] == whole
        assert cut["train"]
        assert cut["validation"]
        assert features(validation_split_percentage=20) == cut

    def test_training_alone_is_shuffled(self, model: str) -> None:
        data = self.data(model, eval_sampling_strategy="sequential", data_seed=3)
        data.setup("fit")

        def order(loader: Any) -> list[bytes]:
            return [row.numpy().tobytes() for batch in loader for row in batch["input_ids"]]

        loader, (scored,) = data.train_dataloader(), data.val_dataloader()
        loader.sampler.set_epoch(0)
        first = order(loader)
        loader.sampler.set_epoch(1)
        assert order(loader) != first
        loader.sampler.set_epoch(0)
        assert order(loader) == first
        assert order(scored) == order(scored)

    def test_a_run_that_stopped_ends_as_one_that_did_not(self, model: str, tmp_path: Path) -> None:
        _, whole = self.fitted(model, tmp_path)
        stopped, _ = self.fitted(model, tmp_path, max_steps=3)
        stopped.save_checkpoint(tmp_path / "stopped.ckpt")
        _, resumed = self.fitted(model, tmp_path, ckpt_path=tmp_path / "stopped.ckpt")
        for name, value in whole.state_dict().items():
            assert torch.equal(value, resumed.state_dict()[name]), name

    def test_the_exported_folder_is_the_module(self, model: str, tmp_path: Path) -> None:
        trainer, module = self.fitted(model, tmp_path, max_steps=2)
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        name = f"{self.module_class.__module__}.{self.module_class.__name__}"
        words = ["--ckpt_path", str(tmp_path / "a.ckpt"), "--out", str(tmp_path / "hf"), "--class_path", name]
        export(words)
        theirs = module.auto_class.from_pretrained(tmp_path / "hf").state_dict()  # by transformers alone
        ours = module.model.state_dict()
        for key in theirs:
            assert torch.equal(theirs[key], ours[key]), key
        again = self.module(str(tmp_path / "hf"))
        again.description = module.description
        again.build()
        sample = module.sample_inputs(next(iter(trainer.datamodule.train_dataloader())))
        with torch.no_grad():
            one, other = (each.eval().scores(each(**sample)) for each in (module, again))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)

    def test_predictions_come_in_the_order_of_the_rows(self, model: str, tmp_path: Path) -> None:
        numbered = [{**row, "number_of_row": at} for at, row in enumerate(self.rows(11, 80))]
        _, module = self.fitted(model, tmp_path, max_steps=1)
        data = self.data(model, dataset={"predict": numbered}, eval_batch_size=3)
        batches = Trainer(default_root_dir=tmp_path, **QUIET).predict(module, data)
        rows = [row for batch in batches or [] for row in batch]
        assert [row["number_of_row"] for row in rows] == list(range(11))
        assert all(set(row) > set(numbered[0]) - {"label", "labels"} for row in rows)

    def test_an_evaluation_logs_what_it_promised_and_its_metrics_start_afresh(self, model: str, tmp_path: Path) -> None:
        _, module = self.fitted(model, tmp_path, max_steps=1)
        data = self.data(model)
        (logged,) = Trainer(default_root_dir=tmp_path, **QUIET).validate(module, data, verbose=False)
        assert {name.removeprefix("val_") for name in logged} == {"loss", *module.metric_names(module.description)}
        assert math.isfinite(logged["val_loss"])

        (loader,) = data.val_dataloader()
        with torch.inference_mode():  # as Lightning evaluates
            rows = [row for at, batch in enumerate(loader) for row in module.validation_step(batch, at)["rows"]][::2]
            (used,), new = module.set_metrics("val"), module.metrics(module.description, "val")
            assert reset(used)
            for metrics in (used, new):
                module.update(metrics, rows)
            torch.testing.assert_close(module.compute(used), module.compute(new), rtol=0, atol=0, equal_nan=True)

    def test_a_checkpoint_stands_alone(self, model: str, tmp_path: Path) -> None:
        trainer, module = self.fitted(model, tmp_path, max_steps=1)
        trainer.save_checkpoint(tmp_path / "a.ckpt")
        loaded = self.module_class.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
        assert loaded.description == module.description
        mine = pack(module.description, module.model.config, module.tokenizer)
        assert pack(loaded.description, loaded.hf_config, loaded.tokenizer) == mine
        for name, value in module.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name

    def test_padding_changes_nothing(self, model: str, tmp_path: Path) -> None:
        data = self.data(model)
        data.setup("fit")
        found = {}
        for option in ("off", "auto"):
            torch.manual_seed(0)
            module = self.module(model, padding_free=option, config_overrides=NO_DROPOUT[self.architecture])
            module.description = data.description
            module.build()
            totals = [module.loss(module.outputs(batch), batch) for batch in data.train_dataloader()]
            found[option] = torch.stack(
                [torch.stack([torch.as_tensor(each).float() for each in pair]) for pair in totals]
            )
        torch.testing.assert_close(found["auto"], found["off"], atol=1e-4, rtol=1e-4)
        masks = [batch["attention_mask"] for batch in data.train_dataloader() if "attention_mask" in batch]
        assert any(not mask.bool().all() for mask in masks) == self.pads

    def test_two_processes_train_as_one(self, model: str, tmp_path: Path) -> None:
        options = {"max_epochs": 1, "limit_train_batches": 2}
        self.fitted(
            model, tmp_path, {"batch_size": 8}, dropout=False, callbacks=[KeepWeights(tmp_path / "one.pt")], **options
        )
        two = {**two_processes(), "callbacks": [KeepWeights(tmp_path / "two.pt")]}
        self.fitted(model, tmp_path, {"batch_size": 4}, dropout=False, **two, **options)
        one, other = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("one", "two"))
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, atol=1e-4, rtol=1e-3, msg=name)
