"""An exported folder becomes a repository on the Hugging Face hub; what can go wrong is found before it is made."""

import logging
from pathlib import Path
from shlex import quote

from huggingface_hub import HfApi, get_token
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

import lit_ft
from lit_ft.errors import UserError

log = logging.getLogger("lit_ft")

TRANSIENT = (408, 429)
"""What the hub answers, beside 5xx, when a request may well succeed later."""


class HubRepository:
    """A model's repository; the token is that of `HF_TOKEN` or `hf auth login`.

    Args:
        model_id: `name` or `namespace/name`.
        private: a new repository is private, and an old one has to be; `None` = as the namespace has it.
        revision: branch to push to; `None` = `main`.

    Raises:
        UserError: that is no name of a repository.
    """

    def __init__(self, model_id: str | None, private: bool | None = None, revision: str | None = None) -> None:
        if model_id is None:
            raise UserError("push_to_hub needs hub_model_id, the repository to push to: namespace/name")
        if mistake := mistake_in(model_id):
            raise UserError(f"hub_model_id: {mistake}")
        self.model_id, self.private, self.revision = model_id, private, revision
        self.is_open = False

    def open(self) -> None:
        """Makes the repository and its branch, where there are none, and makes sure that the token may write to it.

        Where the hub does not answer, this is said, and `push` tries again.

        Raises:
            UserError: there is no token, the hub says no, or may not be asked.
        """
        if is_offline_mode():
            raise UserError(
                "push_to_hub, but HF_HUB_OFFLINE is set: unset it, or leave push_to_hub out and push the folder later: "
                f"hf upload {self.model_id} FOLDER ."
            )
        if get_token() is None:
            raise UserError("push_to_hub needs a token that may write: run hf auth login, or set HF_TOKEN")
        try:
            self._open()
        except UserError:
            raise
        except Exception as error:  # of httpx, whose package has another name in each major version of the hub's
            status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
            where = HfApi().endpoint
            if status is not None and status < 500 and status not in TRANSIENT:
                raise UserError(
                    f"push_to_hub: {where} says no to {self.model_id}: {_reason(error)} ({status}); is "
                    "hub_model_id right, and may the token (HF_TOKEN, hf auth login) write there?"
                ) from None
            log.warning(f"push_to_hub: {where} does not answer ({_reason(error)}); tried again at the end")

    def _open(self) -> None:
        hub = HfApi()
        self.model_id = hub.create_repo(self.model_id, private=self.private, exist_ok=True).repo_id
        if self.private and not hub.model_info(self.model_id).private:
            raise UserError(
                f"hub_private_repo is true, but {self.model_id} is there already, and public: name another "
                "hub_model_id, or make it private in its settings"
            )
        hub.auth_check(self.model_id, write=True)
        if self.revision not in (None, "main") and not str(self.revision).startswith("refs/"):
            hub.create_branch(self.model_id, branch=str(self.revision), exist_ok=True)
        self.is_open = True

    def push(self, folder: Path) -> None:
        """Uploads a folder; what is there already stays, but for files of the same names.

        Raises:
            UserError: it could not be uploaded; with the command that does it.
        """
        try:
            if not self.is_open:
                self._open()
            message = f"Export of lit_ft {lit_ft.__version__}"
            HfApi().upload_folder(
                repo_id=self.model_id, folder_path=folder, revision=self.revision, commit_message=message
            )
        except Exception as error:  # of HTTP, files, threads and storage: whatever it is, the folder is whole
            options = f" --revision {quote(self.revision)}" if self.revision else ""
            options += " --private" if self.private else ""
            raise UserError(
                f"{folder} could not be pushed to {self.model_id}: {_reason(error)}; it is whole, push it by: "
                f"hf upload {self.model_id} {quote(str(folder))} .{options}"
            ) from None
        log.info(f"pushed: {HfApi().endpoint}/{self.model_id}{f'/tree/{self.revision}' if self.revision else ''}")


def mistake_in(name: str) -> str | None:
    """Returns what is wrong with the name of a repository, if anything."""
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        return str(error)
    return None


def _reason(error: Exception) -> str:
    said = getattr(error, "server_message", None) or str(error)
    return " ".join(said.split()).rstrip(".") or type(error).__name__
