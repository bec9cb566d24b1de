"""A hub on this machine: the few requests that huggingface_hub makes to push a folder, answered over HTTP."""

import base64
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.repocard import ModelCard

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens it knows; those of a user called `me`."""


class LocalHub(ThreadingHTTPServer):
    """Keeps repositories in memory.

    Attributes:
        repositories: by name: `private`, and files by branch.
        commits: their messages.
        down: requests whose paths have this in them are refused,
        status: with this.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories: dict[str, dict[str, Any]] = {}
        self.commits: list[str] = []
        self.down: str | None = None
        self.status = 403
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        return self.repositories[name]["branches"][branch]


class _Answers(BaseHTTPRequestHandler):
    server: LocalHub

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        body = self._body()
        if self.server.down is not None and self.server.down in path:
            return self._answer(self.server.status, {"error": "the storage is full"})
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (WRITER, READER):
            return self._answer(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            try:
                ModelCard(json.loads(body)["content"])
            except ValueError as error:
                return self._answer(400, {"errors": [{"message": str(error)}]})
            return self._answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body), token)
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([\w-]+)(?:/([^/]+))?)?", path)
        if found is None or found[1] not in self.server.repositories:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        name, what, rest = found.groups()
        return self._of_repository(name, what, rest, body, token)

    def _create(self, asked: dict[str, Any], token: str) -> None:
        space = asked.get("organization") or "me"
        name = f"{space}/{asked['name']}"
        url = {"url": f"{self.server.endpoint}/{name}"}
        if space != "me" or token == READER:
            return self._answer(403, {"error": f"You have no right to make a model in {space}"})
        if name in self.server.repositories:
            return self._answer(409, {"error": "You already created this model repo", **url})
        self.server.repositories[name] = {"private": asked.get("visibility") == "private", "branches": {"main": {}}}
        return self._answer(200, url)

    def _of_repository(self, name: str, what: str | None, rest: str | None, body: bytes, token: str) -> None:
        branches = self.server.repositories[name]["branches"]
        if what is None:
            return self._answer(200, {"id": name, "private": self.server.repositories[name]["private"]})
        if token == READER:
            return self._answer(403, {"error": "This token may not write"})
        if what == "branch":
            return self._answer(409 if rest in branches else 200, {}, then=branches.setdefault(rest, {}))
        if what == "preupload":
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return self._answer(200, {"files": [{"path": one["path"], **modes} for one in json.loads(body)["files"]]})
        if what == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    branches[rest][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                else:
                    self.server.commits.append(line["value"]["summary"])
            url = f"{self.server.endpoint}/{name}/commit/{'a' * 40}"
            return self._answer(200, {"success": True, "commitOid": "a" * 40, "commitUrl": url})
        return self._answer(200, {})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None, then: Any = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """Runs one for a while."""
    with LocalHub() as server:
        threading.Thread(target=partial(server.serve_forever, 0.01), daemon=True).start()
        yield server
        server.shutdown()


def environment(hub: LocalHub) -> dict[str, str]:
    """What a new process needs to take it for the hub; storage of large files has a protocol of its own: not here."""
    told = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": WRITER}
    return {**os.environ, "PYTHONPATH": os.getcwd(), **told}


def use(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, token: str | None = WRITER) -> None:
    """Does in this process what `environment` does in a new one."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere/token")
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    if token is None:
        monkeypatch.delenv("HF_TOKEN", raising=False)
    else:
        monkeypatch.setenv("HF_TOKEN", token)
