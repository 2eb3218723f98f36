"""The archive: a directory, or a bucket of an S3-compatible store. What is once written is never written over."""

import asyncio
import errno
import hashlib
import os
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from domain.errors import ArchiveConflict
from domain.ports import Archive, Kept

_RETRIES = 3
_WITHIN = timedelta(seconds=60)


def open_archive(url: str) -> Archive:
    """Return the archive that the setting names; see `adapters.settings.Settings.archive`.

    Raises:
        ValueError: neither `file:///…` nor `s3://…`.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return DirectoryArchive(Path(unquote(parts.path)))
    if parts.scheme == "s3" and parts.netloc:
        more = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        return BucketArchive(
            parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint=more.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL"),
            region=more.get("region") or os.environ.get("AWS_REGION", "us-east-1"),
        )
    msg = f"not an archive: {url}"
    raise ValueError(msg)


class DirectoryArchive(Archive):
    """A folder; best on a volume of its own that only this software may write to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, content: bytes) -> Kept:
        """Write beside, flush to the disk, then link into place: a crash leaves the whole file or none."""
        path = self._folder / name
        await asyncio.to_thread(_write_once, path, content)
        return _kept(name, path.as_uri(), content)

    async def get(self, name: str) -> bytes:
        """Read the file."""
        return await asyncio.to_thread((self._folder / name).read_bytes)

    async def names(self, under: str) -> Sequence[str]:
        """Return the files below, without those that are being written."""
        return await asyncio.to_thread(self._below, under)

    def _below(self, under: str) -> list[str]:
        files = (path for path in (self._folder / under).rglob("*") if path.is_file())
        return sorted(
            path.relative_to(self._folder).as_posix() for path in files if not path.name.startswith(".")
        )


def _write_once(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(prefix=".", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o440)
        try:
            os.link(beside, path)  # unlike a rename, refuses what stands there
        except FileExistsError:
            _require_same(path.as_posix(), path.read_bytes(), content)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        Path(beside).unlink()


class BucketArchive(Archive):
    """A bucket; best with versioning or object lock, so that not even its owner can change what was written.

    The keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """

    def __init__(self, bucket: str, *, prefix: str, endpoint: str | None, region: str) -> None:
        self._address = f"s3://{bucket}/{prefix}/" if prefix else f"s3://{bucket}/"
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            region=region,
            client_options={"allow_http": bool(endpoint and endpoint.startswith("http://"))},
            retry_config={"max_retries": _RETRIES, "retry_timeout": _WITHIN},
            config={"endpoint": endpoint} if endpoint else {},
        )

    async def put(self, name: str, content: bytes) -> Kept:
        """Write, unless something stands there (`If-None-Match: *`)."""
        try:
            await obstore.put_async(self._store, name, content, mode="create")
        except AlreadyExistsError:
            _require_same(self._address + name, await self.get(name), content)
        except BaseError as error:
            raise _away(error) from error
        return _kept(name, self._address + name, content)

    async def get(self, name: str) -> bytes:
        """Read the object."""
        try:
            answer = await obstore.get_async(self._store, name)
            return bytes(await answer.bytes_async())
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._address + name) from None
        except BaseError as error:
            raise _away(error) from error

    async def names(self, under: str) -> Sequence[str]:
        """Return the objects below."""
        try:
            found = [each["path"] async for page in obstore.list(self._store, prefix=under) for each in page]
        except BaseError as error:
            raise _away(error) from error
        return sorted(found)


def _away(error: Exception) -> OSError:
    """Return the first line of what went wrong: the rest of it quotes requests."""
    return OSError(str(error).partition("\n")[0])


def _kept(name: str, location: str, content: bytes) -> Kept:
    return Kept(name=name, location=location, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def _require_same(location: str, stands: bytes, content: bytes) -> None:
    if stands != content:
        raise ArchiveConflict(
            "archive_conflict", f"归档位置“{location}”已有不同的内容,未覆盖。请立即报告审计人员。"
        )
