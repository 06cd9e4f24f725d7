"""A stand-in for the API of the Hugging Face hub: repositories in memory, on this machine."""

import base64
import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Handler(BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks in creating, writing and reading a repository."""

    def answer(self, body, status=200, **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        repos, parts = self.server.repos, self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            key = f"{asked.get('type', 'model')}s/{name}"
            if key in repos:
                return self.answer({"error": "exists", "url": self.server.url}, 409)
            repos[key] = {}
            return self.answer({"url": f"{self.server.url}/{name}", "name": name, "id": "1"})
        if self.path == "/api/validate-yaml":
            return self.answer({"warnings": [], "errors": []})
        key = "/".join(parts[1:4])
        if key not in repos:
            return self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        if parts[4] == "preupload":
            named = json.loads(body)["files"]
            return self.answer({"files": [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in named
            ]})  # fmt: skip
        assert parts[4] == "commit"
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                repos[key][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return self.answer({
            "commitUrl": f"{self.server.url}/{'/'.join(parts[2:4])}/commit/{'0' * 40}", "commitOid": "0" * 40,
            "hookOutput": "", "success": True,
        })  # fmt: skip

    def do_GET(self):
        path = unquote(self.path.partition("?")[0]).strip("/")
        if path.startswith("api/"):
            parts = path.split("/")
            files = self.server.repos.get("/".join(parts[1:4]))
            if files is None:
                return self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
            if "tree" in parts:
                return self.answer([
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ])  # fmt: skip
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            about = {"id": "/".join(parts[2:4]), "sha": "0" * 40, "siblings": siblings, "tags": []}
            return self.answer({**about, "private": False, "downloads": 0, "likes": 0})
        before, _, name = path.partition("/resolve/")
        key = before if before.startswith("datasets/") else f"models/{before}"
        content = self.server.repos.get(key, {}).get(name.partition("/")[2])
        if content is None:
            return self.answer({"error": "not found"}, 404, X_Error_Code="EntryNotFound")
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        return self.answer(content, ETag=etag, X_Repo_Commit="0" * 40, Accept_Ranges="bytes")

    do_HEAD = do_GET

    def log_message(self, *_):
        """Print nothing."""


@contextlib.contextmanager
def hub():
    """Serve a hub; yields the server with its ``url`` and ``repos``, files by ``models/USER/NAME``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.repos, server.url = {}, f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
