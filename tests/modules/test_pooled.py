"""How texts are pooled is in the checkpoint, and read from the right revision, where nobody says it by option."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer

import lit_ft
from lit_ft import SentenceEmbeddingModule
from lit_ft.commands.export import export
from lit_ft.errors import UserError
from tests.tiny import texts


def pooling_by_cls(model: str, folder: Path) -> Path:
    """A folder of sentence-transformers that takes the first token's vector as it is."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    transformer = modules.Transformer(model)
    pooling = modules.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="cls")
    library.SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder))
    return folder


def test_a_checkpoint_pools_as_its_folder_did_without_it(
    tiny: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)  # a relative path could be a name on the hub, too
    theirs = library.SentenceTransformer(str(pooling_by_cls(tiny("bert"), tmp_path / "theirs")), device="cpu")
    expected = theirs.encode(texts()[:5])
    trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
    trainer.strategy.connect(module := SentenceEmbeddingModule(model_name_or_path="theirs"))
    module.build()
    trainer.save_checkpoint("model.ckpt")
    shutil.rmtree("theirs")

    built = SentenceEmbeddingModule(model_name_or_path=tiny("bert"))  # as a Trainer does before it reads the file
    built.build()
    built.on_load_checkpoint(torch.load("model.ckpt", weights_only=True))
    assert built.way == {"pooling": "cls", "normalize": False}
    rows = lit_ft.load_predictor("model.ckpt")(texts()[:5])
    torch.testing.assert_close(torch.tensor([row["embedding"] for row in rows]), torch.tensor(expected))
    folder = export(["--ckpt_path=model.ckpt", "--out=hf"])
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"] is True
    again = library.SentenceTransformer(str(folder), device="cpu").encode(texts()[:5])
    torch.testing.assert_close(torch.tensor(again), torch.tensor(expected))


def test_revision_and_place_of_downloads_are_those_of_the_model(tiny: Callable[..., str], tmp_path: Path) -> None:
    hub = tmp_path / "models--me--vectors"
    (hub / "refs").mkdir(parents=True)
    for number, branch in enumerate(("main", "cls")):
        (hub / "refs" / branch).write_text(str(number) * 40)
        shutil.copytree(tiny("bert"), hub / "snapshots" / (str(number) * 40))
    pooling_by_cls(tiny("bert"), hub / "snapshots" / ("1" * 40))
    options = {"model_name_or_path": "me/vectors", "cache_dir": str(tmp_path)}
    for branch, pooling, normalize in (("main", "mean", True), ("cls", "cls", False)):
        module = SentenceEmbeddingModule(**options, model_revision=branch)
        module.build()
        assert module.way == {"pooling": pooling, "normalize": normalize}


def test_no_such_folder() -> None:
    with pytest.raises(UserError, match=r"^/no/where: lit_ft.json cannot be looked for: there is no such folder in"):
        lit_ft.load_predictor("/no/where")
