"""The house stays in order: imports go one way, files and functions stay readable, the public surface is pinned."""

import ast
import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import lit_ft
from tests.public_surface import FILE, surface

ROOT = Path(lit_ft.__file__).parent
FOUNDATION = {"errors", "objects", "ranges"}
"""What every room may use."""
MAY_IMPORT = {
    "errors": set(), "objects": set(), "ranges": set(),
    "screen": set(), "faults": set(), "standard_input": set(), "yaml_files": set(),
    "data": set(),
    "ops": {"data"},
    "optim": set(),
    "metrics": {"data", "ops"},
    "pages": {"data"},
    "runs": {"ops"},
    "parser": set(),
    "resuming": {"ops", "runs", "yaml_files"},
    "datamodules": {"data", "ops"},
    "modules": {"data", "ops", "optim", "metrics"},
    "sweeping": {"pages", "runs", "yaml_files"},
    "callbacks": {"data", "ops", "metrics", "pages", "runs", "sweeping", "made_with"},
    "loading": {"modules", "ops", "runs"},
    "tasks": {"data", "ops", "datamodules", "modules"},
    "made_with": {"ops", "runs"},
    "predictor": {"data", "ops", "datamodules", "modules", "runs", "loading", "made_with"},
    "cli": {"datamodules", "modules", "callbacks", "ops", "parser", "resuming", "runs", "screen", "faults",
            "standard_input", "yaml_files"},
    "commands": {"cli", "callbacks", "data", "datamodules", "modules", "loading", "ops", "pages", "runs", "screen",
                 "sweeping", "yaml_files", "__main__"},
    "__main__": {"cli", "commands"},
}  # fmt: skip
"""Each room of the package, and those whose files its own may import; `lit_ft` itself imports them when asked."""
SHARED = {
    "__init__", "base", "tokenizing", "preparing", "streaming", "adamw", "padding", "normaliser", "standalone",
    "evaluation", "language_modeling", "candidate_labels", "pooled", "seq2seq", "causal_lm", "chats",
    "replying", "reference", "batch_notes", "viewing", "place", "labelled", "building", "rows", "loaders",
    "threshold", "reply_rewards", "encoder_decoder", "generating", "own_tokenizer",
}  # fmt: skip
"""Files of the wings that are no task."""
FILES = sorted(path for path in ROOT.rglob("*.py"))
REPOSITORY = Path(__file__).parents[1]
BESIDE = sorted(
    path
    for folder in ("tests", "examples", "benchmarks")
    for path in (REPOSITORY / folder).rglob("*.py")
    if path.name != "__init__.py"
)
"""What stands beside the package; its `__init__.py` are empty."""


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of lit_ft that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                f"{node.module}.{alias.name}" if source(node.module).is_dir() else node.module for alias in node.names
            }
    return {name for name in found if name.startswith("lit_ft.")}


def source(module: str) -> Path:
    """Where a module of lit_ft lies, without the end."""
    return ROOT.joinpath(*module.split(".")[1:])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    here = room(path)
    rooms = {module.split(".")[1] for module in imported(path)} - {here}
    if here != "__init__":
        assert not rooms - FOUNDATION - MAY_IMPORT[here]


def test_nothing_is_imported_in_a_circle() -> None:
    modules = {".".join(("lit_ft", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    graph = {
        name: {each for each in imported(path) if each in modules and each != name}
        for name, path in modules.items()
        if name != "lit_ft.__init__"
    }
    assert len([*TopologicalSorter(graph).static_order()]) >= len(graph)
    # nor are folders, taken as a whole; files that lie beside folders stand for themselves
    folders: dict[Path, set[Path]] = {}
    for name, others in graph.items():
        for other in others:
            one, two = (_place(modules[each]) for each in (name, other))
            folders.setdefault(one, set()).update({two} - {one})
    assert len([*TopologicalSorter(folders).static_order()]) >= len(folders)


def _place(path: Path) -> Path:
    return path if path.parent in (ROOT, ROOT / "data", ROOT / "ops") else path.parent


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=lambda path: path.name)
def test_folders_can_be_overlooked(folder: Path) -> None:
    assert len([*folder.glob("*.py")]) <= 36


def test_no_task_imports_a_task() -> None:
    for wing in ("datamodules", "modules"):
        tasks = [path for path in (ROOT / wing).glob("*.py") if path.stem not in SHARED]
        for path in tasks:
            text = path.read_text(encoding="utf-8")
            assert not [other.stem for other in tasks if other != path and f"lit_ft.{wing}.{other.stem}" in text]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_say_what_they_are_for_and_stay_readable(path: Path) -> None:
    for node in ast.walk(says_what_it_is_for(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "__init__":
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= 60, f"{path}: {node.name}"


@pytest.mark.parametrize("path", BESIDE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_files_beside_the_package_say_what_they_are_for(path: Path) -> None:
    assert says_what_it_is_for(path)


def says_what_it_is_for(path: Path) -> ast.Module:
    """The file's tree; that it has a docstring and at most 400 lines is made sure of."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert text.count("\n") <= 400
    return tree


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


def test_options_and_their_defaults_are_those_agreed_on() -> None:
    agreed = json.loads(FILE.read_text(encoding="utf-8"))
    assert surface() == agreed, "a change for users: python -m tests.public_surface, and a line in CHANGELOG.md"
