"""Files that lie beside a model, in its folder or on the hub, and that not every model has."""

from pathlib import Path

from transformers.utils import cached_file

from lit_ft.data.reading.sources import resolve_path, why_not_loaded
from lit_ft.errors import UserError

QUIET = {f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")}


def file_beside(name: str, file: str, revision: str = "main", cache_dir: str | None = None) -> Path | None:
    """Returns where a file lies, downloaded if need be; `None` where the model has none.

    Args:
        name: of the model: folder, `package://name/folder` or hub name.
        file: its path there.
        revision: branch, tag or commit on the hub.
        cache_dir: where downloads are kept.

    Raises:
        UserError: there is no such model.
    """
    try:
        found = cached_file(resolve_path(name), file, revision=revision, cache_dir=cache_dir, **QUIET)
    except OSError as error:
        raise UserError(f"{name}: {file} cannot be looked for: {why_not_loaded(name, error)}") from None
    return None if found is None else Path(found)
