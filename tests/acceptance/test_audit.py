"""The walk-through of docs/auditors.md, command by command, against the embedded stack."""

import os
import re
import sqlite3
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from adapters import bundle
from adapters.signing import SigningKey
from starter.demo import Player, stories
from starter.embedded import Stack, StackOptions
from starter.stack import free_port
from tests.conftest import BIN

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture(scope="module")
async def played(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, list[str]]]:
    """The embedded stack with one story played to its end and one case under way."""
    options = StackOptions(
        data=tmp_path_factory.mktemp("audit"),
        districts=ROOT / "districts",
        port=free_port(),
        temporal_port=free_port(),
        ui_port=None,
    )
    async with Stack(options) as running, httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
        player = Player(client, "yicheng", running.secret)
        story = stories(datetime.now(UTC))[1]
        yield running, [await player.play(story), await player.play(story, until="check-in")]


def shaodao(stack: Stack, folder: Path, *arguments: str | Path) -> tuple[int, str]:
    """Run a command as an auditor beside the stack's folder does; return its status and what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SHAODAO_")}
    done = subprocess.run(
        [str(BIN / "shaodao"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=folder,
        env={**environment, "TEMPORAL_ADDRESS": stack.temporal.address},
    )
    return done.returncode, done.stdout + done.stderr


async def test_the_walk_through_of_the_auditors_page(played: tuple[Stack, list[str]], tmp_path: Path) -> None:
    stack, (closed, under_way) = played
    data, today = stack.options.data, f"{datetime.now(UTC):%Y-%m-%d}"

    def audit(*arguments: str | Path) -> tuple[int, str]:
        return shaodao(stack, tmp_path, "audit", *arguments)

    status, said = audit("key", "--data", data)
    assert status == 0, said
    pem = said[
        said.index("-----BEGIN") : said.index("-----END PUBLIC KEY-----") + len("-----END PUBLIC KEY-----\n")
    ]
    (tmp_path / "audit.pub").write_text(pem)
    status, said = audit("export", closed, under_way, "--out", "bundles", "--data", data)
    assert status == 0, said
    bundles = [tmp_path / "bundles" / f"{case_id}.zip" for case_id in (closed, under_way)]
    status, said = audit("verify", *bundles, "--public-key", "audit.pub")
    assert (status, said.count("✓")) == (0, 12), said
    status, said = audit("key", "--public-key", "audit.pub")
    assert (status, said.count("指纹")) == (0, 1), said
    fingerprint = next(line for line in said.splitlines() if "指纹" in line)
    assert fingerprint in audit("key", "--data", data)[1]
    status, said = audit("verify", bundles[0])
    assert (status, said.count("? [key_not_trusted]")) == (2, 1), said
    assert ("? 签名自洽,但公钥未核对" in said, "签名有效" in said) == (True, False), said
    status, said = audit("verify", bundles[0], "--data", data)
    assert (status, said.count("✓")) == (0, 6), said
    forged = tmp_path / "forged.zip"
    forged.write_bytes(signed_by_a_stranger(bundles[0].read_bytes()))
    assert audit("verify", forged)[0] == 2
    for how in (("--data", data), ("--public-key", "audit.pub")):
        status, said = audit("verify", forged, *how)
        assert (status, said.count("✗ [other_key]")) == (1, 1), said
    period = ("--period", f"2026-01-01..{int(today[:4]) + 1}{today[4:]}", "--district", "yicheng")
    status, said = audit("export", *period, "--digest", "sm3", "--out", "sm3", "--data", data)
    assert status == 0, said
    assert "SM3" in audit("verify", tmp_path / "sm3" / f"{closed}.zip")[1]
    status, said = audit("verify", closed, "--data", data)
    assert (status, said.count("✓")) == (0, 4), said
    assert audit("verify", closed, "--sdk", "--data", data) == (status, said)
    status, said = audit("verify", *period, "--data", data)
    assert status == 0, said
    assert "无误 2" in said
    assert "✓ 没有整案缺失(对照 Temporal 2 件、归档" in said
    assert "✓ 受理链完整(2 条" in said
    status, said = audit("verify", "--journals", "--data", data)
    assert (status, said.count("✓")) == (0, 4), said
    status, said = audit("anchor", "--district", "yicheng", "--data", data)
    assert status == 0, said
    assert "2 件" in said
    assert "受理 2 条" in said
    assert "已锚定至第2条" in audit("verify", "--journals", "--data", data)[1]
    assert audit("verify", "--anchors", "--data", data)[0] == 0
    files = ("--anchor-files", data / "anchors", "--public-key", "audit.pub", "--data", data)
    assert audit("verify", *files)[0] == 0
    assert audit("anchor", "--date", "2020-01-01", "--data", data)[0] == 1
    assert audit("verify", "nobody", "--data", data)[0] == 2
    assert audit("verify", tmp_path / "no-such.zip")[0] == 2
    assert audit("verify")[0] == 2
    assert audit("key", "--new", "new.key")[0] == 0
    assert audit("key", "--new", "new.key")[0] == 1
    forge(data / "shaodao.db", closed)
    status, said = audit("verify", closed, "--data", data)
    assert status == 1, said
    assert "ledger,第3条,entry" in said
    assert "ledger,第4条" in said
    assert audit("verify", *files)[0] == 1
    delete(data / "shaodao.db", under_way)
    status, said = audit("verify", *period, "--data", data)
    assert status == 1, said
    assert f"✗ [case_deleted] ledger,案件 {under_way}:整案被删除:Temporal(运行中)、" in said
    assert "第1号锚定有此案" in said
    assert f"✗ [row_added] timeline,{under_way}/1" in said
    assert f"✗ [row_missing] intake,第2条({under_way})" in said
    assert audit("verify", "--journals", "--data", data)[0] == 1


def delete(database: Path, case_id: str) -> None:
    """Delete a case from ledger and intake, and forget the timeline."""
    with sqlite3.connect(database) as connection:
        for table in ("ledger", "intake", "cases"):
            assert connection.execute(f"DELETE FROM {table} WHERE case_id = ?", [case_id]).rowcount  # noqa: S608
    connection.close()


def signed_by_a_stranger(content: bytes) -> bytes:
    """Return the same bundle, signed with a key that somebody has just made."""
    opened = bundle.open_bundle(content)
    kept = ("case_id", "district", "exported_at", "over", "sequence", "head", "software", "digest")
    said = {name: getattr(opened.manifest, name) for name in kept}
    return bundle.seal(opened.files, SigningKey.new(), **said)


def forge(database: Path, case_id: str) -> None:
    """Do what somebody does who has the file: drop the triggers, change one row, and delete another."""
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TRIGGER ledger_append_only_update")
        connection.execute("DROP TRIGGER ledger_append_only_delete")
        changed = "UPDATE ledger SET entry = replace(entry, 'enforcement', 'police') WHERE case_id = ? AND sequence = 3"
        assert connection.execute(changed, [case_id]).rowcount == 1
        assert connection.execute("DELETE FROM ledger WHERE case_id = ? AND sequence > 3", [case_id]).rowcount
    connection.close()


def test_every_command_on_the_auditors_page_is_one_that_the_walk_through_runs() -> None:
    page = (ROOT / "docs" / "auditors.md").read_text("utf-8")
    commands = set(re.findall(r"^shaodao audit (\w+)", page, re.MULTILINE))
    options = set(re.findall(r"(--[a-z-]+)", "\n".join(re.findall(r"^shaodao audit .*", page, re.MULTILINE))))
    here = Path(__file__).read_text("utf-8")
    assert commands == {"key", "export", "verify", "anchor"}
    assert all(f'"{option}"' in here for option in options)
