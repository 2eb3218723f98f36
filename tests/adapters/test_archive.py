"""The archive: what is once written stays as it is; a directory and an S3 server keep to the same contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.archive import open_archive
from domain.errors import ArchiveConflict
from domain.ports import Archive
from tests.s3 import Bucket, s3_server


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as given:
        yield given


@pytest.fixture(params=["directory", "bucket"])
def archive(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    if request.param == "directory":
        return open_archive((tmp_path / "归档").as_uri())
    given: Bucket = request.getfixturevalue("bucket")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given.secret)
    folder = given.url.replace("/shaodao?", f"/{tmp_path.name}?")
    return open_archive(folder)


async def test_what_was_written_is_read_again_and_listed(archive: Archive) -> None:
    kept = await archive.put("cases/a/1/manifest.json", b"{}")
    await archive.put("cases/a/2/ledger", b"two")
    await archive.put("terms/x", b"")
    assert await archive.get(kept.name) == b"{}"
    assert kept.sha256 == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert (kept.size, kept.location.endswith("cases/a/1/manifest.json")) == (2, True)
    assert await archive.names("cases") == ["cases/a/1/manifest.json", "cases/a/2/ledger"]


async def test_the_same_again_changes_nothing_and_something_else_is_refused(archive: Archive) -> None:
    kept = await archive.put("cases/a", b"first")
    assert await archive.put("cases/a", b"first") == kept
    with pytest.raises(ArchiveConflict, match="archive_conflict"):
        await archive.put("cases/a", b"other")
    assert await archive.get("cases/a") == b"first"


async def test_what_is_not_there_is_not_found(archive: Archive) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        await archive.get("cases/nothing")
    assert missing.value.filename.endswith("/cases/nothing")
    assert await archive.names("nowhere") == []


async def test_a_bucket_refuses_a_wrong_key_and_the_error_is_one_line(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", bucket.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    with pytest.raises(OSError, match="403") as refused:
        await open_archive(bucket.url).put("cases/a", b"x")
    assert "\n" not in str(refused.value)


async def test_an_interrupted_write_leaves_nothing_that_is_listed(tmp_path: Path) -> None:
    archive = open_archive(tmp_path.as_uri())
    await archive.put("cases/a", b"whole")
    (tmp_path / "cases" / ".half").write_bytes(b"hal")
    assert await archive.names("cases") == ["cases/a"]
    assert not (tmp_path / "cases" / "a").stat().st_mode & 0o222


@pytest.mark.parametrize("url", ["ftp://host/folder", "s3:///prefix", "/folder"])
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an archive"):
        open_archive(url)
