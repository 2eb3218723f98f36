"""An S3 server for tests, that checks signatures and permissions: moto, as a process of its own."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import httpx2

from starter.stack import free_port

BUCKET = "archive-of-tests"
_ALLOWED = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


@dataclass(frozen=True)
class Bucket:
    """A bucket and the keys to it."""

    endpoint: str
    name: str
    key_id: str
    secret: str

    @property
    def url(self) -> str:
        """Return the setting that names it."""
        return f"s3://{self.name}/shaodao?endpoint={self.endpoint}&region=us-east-1"


@contextlib.contextmanager
def s3_server() -> Iterator[Bucket]:
    """Give a server with one bucket and one user for as long as the block lasts."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    try:
        for _ in range(200):
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"{endpoint}/moto-api/")
                break
            time.sleep(0.05)
        make = _client_maker(endpoint)
        make("s3").create_bucket(Bucket=BUCKET)
        iam = make("iam")
        iam.create_user(UserName="shaodao")
        iam.put_user_policy(UserName="shaodao", PolicyName="s3", PolicyDocument=json.dumps(_ALLOWED))
        key = iam.create_access_key(UserName="shaodao")["AccessKey"]
        httpx2.post(f"{endpoint}/moto-api/reset-auth", content=b"0")  # from now on every request is checked
        yield Bucket(endpoint, BUCKET, key["AccessKeyId"], key["SecretAccessKey"])
    finally:
        process.terminate()
        process.wait()


def _client_maker(endpoint: str) -> Any:
    session = boto3.Session(
        aws_access_key_id="anybody", aws_secret_access_key="anything", region_name="us-east-1"
    )
    return lambda service: session.client(service, endpoint_url=endpoint)
