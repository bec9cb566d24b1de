"""The house stays in order: imports go one way, files and functions stay readable, the public surface is pinned."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lit_ft

ROOT = Path(lit_ft.__file__).parent
FLOORS = {
    "data": 1,
    "ops": 2,
    "pages": 2,
    "sweeping": 3,
    "optim": 3,
    "metrics": 3,
    "datamodules": 4,
    "modules": 4,
    "callbacks": 4,
    "cli": 5,
    "commands": 6,
}
SHARED = {
    "__init__",
    "base",
    "tokenizing",
    "preparing",
    "streaming",
    "adamw",
    "padding",
    "normaliser",
    "standalone",
    "parallel",
    "evaluation",
    "language_modeling",
    "candidate_labels",
    "pooled",
    "seq2seq",
    "causal_lm",
    "chats",
    "replying",
    "reference",
    "batch_notes",
    "viewing",
}
"""Files of the wings that are no task."""
FILES = sorted(path for path in ROOT.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "lit_ft" else [node.module]
            )
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        rooms |= {name.split(".")[1] for name in names if name.startswith("lit_ft.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    here = room(path)
    if here not in FLOORS or here == "cli":
        return
    for there in imported(path) & set(FLOORS):
        assert there == here or FLOORS[there] < FLOORS[here], f"{path} imports lit_ft.{there}"


def test_no_task_imports_a_task() -> None:
    for wing in ("datamodules", "modules"):
        tasks = [path for path in (ROOT / wing).glob("*.py") if path.stem not in SHARED]
        for path in tasks:
            text = path.read_text(encoding="utf-8")
            assert not [other.stem for other in tasks if other != path and f"lit_ft.{wing}.{other.stem}" in text]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_say_what_they_are_for_and_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert text.count("\n") <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__":
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= 60, f"{path}: {node.name}"


def test_public_names_are_importable_and_lazy() -> None:
    assert set(lit_ft.__all__) == {
        "CausalLMDataModule",
        "CausalLMModule",
        "EmbeddingZeroShotDataModule",
        "EmbeddingZeroShotModule",
        "InstructionTuningDataModule",
        "InstructionTuningModule",
        "MaskedLMDataModule",
        "MaskedLMModule",
        "MultipleChoiceDataModule",
        "MultipleChoiceModule",
        "PreferenceDataModule",
        "PreferenceModule",
        "Predictor",
        "QuestionAnsweringDataModule",
        "QuestionAnsweringModule",
        "RewardModule",
        "SentenceEmbeddingDataModule",
        "Seq2SeqDataModule",
        "SentenceEmbeddingModule",
        "Seq2SeqModule",
        "SummarizationDataModule",
        "SummarizationModule",
        "TextClassificationDataModule",
        "TextClassificationModule",
        "TokenClassificationDataModule",
        "TokenClassificationModule",
        "TransformerDataModule",
        "TransformerModule",
        "TranslationDataModule",
        "TranslationModule",
        "ZeroShotDataModule",
        "ZeroShotModule",
        "__version__",
        "load_predictor",
    }
    for name in lit_ft.__all__:
        assert getattr(lit_ft, name)
    code = "import sys, lit_ft; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="TextClassificationModule"):
        _ = lit_ft.TextClasificationModule  # type: ignore[attr-defined]
