"""Folders of shards are looked through before torch reads them: it would run whatever their pickles hold."""

import pickle
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

from lit_ft.errors import UserError

SHARDS_INDEX = ".metadata"
"""The file in a folder of shards that torch writes at the end."""
PATHS = ("PosixPath", "WindowsPath")
KNOWN = {
    "torch": ("Size",),
    "torch.serialization": ("_get_layout",),
    "torch.distributed.checkpoint.metadata": (
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta", "TensorProperties",
        "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    ),
    "torch.distributed.checkpoint.filesystem": ("_StorageInfo",),
    "collections": ("OrderedDict",),
    "pathlib": PATHS,
    "pathlib._local": PATHS,
}  # fmt: skip
"""What torch writes into an index, by module; and dtypes."""
NO_SIZE = torch.Size((0,))


def check_shards(folder: Path) -> None:
    """Makes sure that nothing in a folder of shards runs code when torch reads it.

    torch unpickles the index, and of the shards what is no tensor, such as options of the optimizer. An index that it
    cannot read it looks for by process (`__0.metadata`).

    Args:
        folder: the checkpoint.

    Raises:
        UserError: a pickle names what does not belong into it, or it cannot be read.
    """
    for path in sorted(folder.glob(f"*{SHARDS_INDEX}")):
        try:
            with path.open("rb") as file:
                index = _Index(file).load()
            if not isinstance(index, Metadata):
                raise pickle.UnpicklingError(f"{type(index).__name__} is no index of shards")
            _check_values(folder, index)
        except Exception as error:  # whatever a damaged file leads to
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"{path}: not a checkpoint that can be read safely: {reason}") from None


def _check_values(folder: Path, index: Metadata) -> None:
    """Reads what is no tensor as torch would, but with plain values alone."""
    reader = FileSystemReader(folder)
    reader.set_up_storage_reader(index, True)
    names = [name for name, kind in index.state_dict_metadata.items() if isinstance(kind, BytesStorageMetadata)]
    at = [MetadataIndex(name) for name in names]
    wanted = [ReadItem(LoadItemType.BYTE_IO, each, NO_SIZE, each, NO_SIZE, NO_SIZE) for each in at]
    reader.read_data(LoadPlan(wanted), _PlainValues())


class _Index(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not dtype and name not in KNOWN.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into it")
        return super().find_class(module, name)


class _PlainValues(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: BytesIO) -> None:
        try:
            torch.load(value, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            foreign = re.search(r"GLOBAL (\S+)", str(error))
            name = foreign.group(1) if foreign else "what is no plain value"
            raise pickle.UnpicklingError(f"{name} does not belong into {read_item.dest_index.fqn}") from None
