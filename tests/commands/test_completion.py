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


CASES = {
    "fi": {"fit"},
    "": {"fit", "validate", "test", "predict", *COMMANDS},
    "fit --trainer.max_ep": {"--trainer.max_epochs"},
    "fit --tra": {"--trainer", "--trainer.max_epochs", "--trainer.precision"},
    "fit --model.learning_r": {"--model.learning_rate"},
    "predict --data.predict_f": {"--data.predict_file"},
    "fit --model lit_ft.TextC": {"lit_ft.TextClassificationModule"},
    "fit --checkpoint.on_failure s": {"stop"},
    "preview --stri": {"--strict"},
    "export --hub_m": {"--hub_model_id"},
    "cache clear --older": {"--older_than_days"},
    "completion z": {"zsh"},
    "sweep --n_tr": {"--n_trials"},
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_completes(tmp_path: Path) -> None:
    said, script = io.StringIO(), tmp_path / "lit-ft"
    with redirect_stdout(said), pytest.raises(SystemExit) as ended:
        completion(["bash"])
    assert ended.value.code == 0
    script.write_text(said.getvalue())
    for typed, completed in CASES.items():
        words = ["lit-ft", *typed.split(" ")]
        asked = ["bash", "-c", ASK, "bash", str(script), *words]
        found = {*subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout.split()}
        assert completed <= found, typed
        assert all(each.startswith(words[-1]) for each in found), typed
        assert found == completed or typed == "fit --tra", typed
