"""A real PostgreSQL server for tests, of our own: started from Debian's binaries in a folder of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "very s3cret/p@ss"


def find_binaries() -> Path | None:
    """The folder of PostgreSQL's programs, the newest version; None when it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("pg_ctl")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def free_port() -> int:
    """A TCP port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A PostgreSQL cluster; it refuses to run as root, so a test that does hands it to the user `postgres`."""

    def __init__(self) -> None:
        binaries = find_binaries()
        if binaries is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no PostgreSQL here: apt install postgresql")
        self.binaries, self.port = binaries, free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="mlops_nb-pg-"))
        self.who: dict[str, Any] = {}
        if os.geteuid() == 0:
            self.who = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self.folder, "postgres", "postgres")
        (self.folder / "password").write_text(PASSWORD)
        self.command("initdb", "-D", self.data, "-U", "ml", "--auth=scram-sha-256", f"--pwfile={self.folder}/password",
                     "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def command(self, name: str, *words: str) -> None:
        """Run one of PostgreSQL's programs as the server's user."""
        done = subprocess.run([str(self.binaries / name), *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, cwd="/", check=False, **self.who)
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=60"
        self.command("pg_ctl", "-D", self.data, "-l", str(self.folder / "log"), "-w", "-s", "-o", options, "start")

    def stop(self, how: str = "fast") -> None:
        """Stop the server: "fast" ends what runs, "immediate" is a crash."""
        self.command("pg_ctl", "-D", self.data, "-m", how, "-w", "-s", "stop")

    def remove(self) -> None:
        """Stop it and take its folder away."""
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def url(self, database: str, user: str = "ml", password: str = PASSWORD, port: int = 0) -> str:
        """The address that a user would write."""
        from urllib.parse import quote

        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{port or self.port}/{database}"

    def query(self, database: str, question: str) -> list[dict[str, Any]]:
        """Ask a database directly, past the code under test; a statement without rows gives none."""
        import pg8000.dbapi

        connection = pg8000.dbapi.connect("ml", unix_sock=f"{self.folder}/.s.PGSQL.{self.port}", database=database,
                                          password=PASSWORD)
        connection.autocommit = True
        try:
            cursor = connection.cursor()
            cursor.execute(question)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
        finally:
            connection.close()
