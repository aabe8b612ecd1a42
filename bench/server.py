"""A release build of Tenantry with a private PostgreSQL in a folder of its own, for benches that need no peers."""
import json
import os
import re
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def binary():
    """TENANTRY_BIN: one that is built already."""
    if given := os.environ.get("TENANTRY_BIN"):
        return given
    subprocess.run(["cargo", "build", "--quiet", "--release", "--bin", "tenantry"], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tenantry"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """`settings`: what `config.toml` calls `section.key`, as SECTION__KEY."""

    def __init__(self, program, folder, settings):
        self.folder, self.port = folder, free_port()
        settings = {"DATA__DIR": folder / "data", "SERVER__LISTEN": f"127.0.0.1:{self.port}", "TELEMETRY__LOG_FILTER": "warn", **settings}
        environment = {**os.environ, **{f"TENANTRY__{name}": str(value) for name, value in settings.items()}}
        said = folder / "said"
        self.process = subprocess.Popen([program, "serve"], env=environment, stdout=said.open("w"), stderr=subprocess.STDOUT)
        for _ in range(1200):
            found = re.search(r"Operator token +(\S+)", said.read_text())
            if found or self.process.poll() is not None:
                break
            time.sleep(0.1)
        if not found:
            raise SystemExit(f"the server does not start:\n{said.read_text()}")
        self.token = found.group(1)
        place = next((folder / "data" / "postgres").rglob(".s.PGSQL.*[0-9]"))
        self.psql = ["psql", "-X", "-h", str(place.parent), "-p", place.name.rsplit(".", 1)[1], "-U", "postgres", "-qAt", "-v", "ON_ERROR_STOP=1"]

    def graphql(self, query, variables=None):
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            told = json.load(answer)
        if told.get("errors"):
            raise SystemExit(f"{told['errors']}")
        return told["data"]

    def sql(self, database, statement):
        """As the private PostgreSQL's superuser."""
        return subprocess.run([*self.psql, "-d", database, "-c", statement], check=True, capture_output=True, text=True).stdout.strip()

    def stop(self):
        self.process.terminate()
        self.process.wait()
