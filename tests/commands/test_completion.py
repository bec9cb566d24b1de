"""`lit-ft completion`: bash itself is asked what it would complete."""

import io
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from lit_ft.__main__ import COMMANDS
from lit_ft.commands.completion import completion

ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
[[ $(complete -p lit-ft) =~ -F\\ ([^ ]+) ]]
"${BASH_REMATCH[1]}" lit-ft "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    said = io.StringIO()
    with redirect_stdout(said), pytest.raises(SystemExit) as ended:
        completion(["bash"])
    assert ended.value.code == 0
    path = tmp_path_factory.mktemp("completion") / "lit-ft"
    path.write_text(said.getvalue())
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("fi", {"fit"}),
        ("", {"fit", "validate", "test", "predict", *COMMANDS}),
        ("fit --trainer.max_ep", {"--trainer.max_epochs"}),
        ("fit --tra", {"--trainer", "--trainer.max_epochs", "--trainer.precision"}),
        ("fit --model.learning_r", {"--model.learning_rate"}),
        ("predict --data.predict_f", {"--data.predict_file"}),
        ("fit --model lit_ft.TextC", {"lit_ft.TextClassificationModule"}),
        ("fit --checkpoint.on_failure s", {"stop"}),
        ("preview --stri", {"--strict"}),
        ("export --hub_m", {"--hub_model_id"}),
        ("cache clear --older", {"--older_than_days"}),
        ("completion z", {"zsh"}),
        ("sweep --n_tr", {"--n_trials"}),
    ],
)
def test_bash_completes(typed: str, completed: set[str], script: Path) -> None:
    words = ["lit-ft", *typed.split(" ")]
    done = subprocess.run(["bash", "-c", ASK, "bash", str(script), *words], capture_output=True, text=True, timeout=60)
    found = {*done.stdout.split()}
    assert completed <= found
    assert all(each.startswith(words[-1]) for each in found)
    assert found == completed or typed in ("fit --tra",)
