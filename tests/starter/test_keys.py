"""Payload keys from the command line, in the embedded stack, and where there are none."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.keys import Keys
from starter.embedded import Stack, StackOptions
from starter.stack import free_port
from tests.conftest import BIN
from tests.payloads import fresh_key, key_id

ROOT = Path(__file__).parent.parent.parent


def shaodao(folder: Path, *arguments: str, **settings: str) -> tuple[int, str, str]:
    """Run the command line with these settings and no other; return its status and what it said on both ways."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SHAODAO_", "TEMPORAL_"))
    }
    done = subprocess.run(
        [str(BIN / "shaodao"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=folder,
        env={
            **clean,
            "COLUMNS": "160",
            "SHAODAO_DATABASE_URL": "sqlite://",
            "SHAODAO_SECRET": "x" * 40,
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
            **settings,
        },
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "algorithm", "use"),
    [
        ((), "aes-256-gcm", "default"),
        (("--algorithm", "sm4-gcm", "--use", "sample"), "sm4-gcm", "sample"),
        (("--use", "old"), "aes-256-gcm", "old"),
    ],
)
def test_a_new_key_is_one_line_for_the_file_and_no_two_are_the_same(
    tmp_path: Path, arguments: tuple[str, ...], algorithm: str, use: str
) -> None:
    lines = [shaodao(tmp_path, "keys", "new", *arguments) for _ in range(2)]
    assert [(status, said.count("\n"), wrong) for status, said, wrong in lines] == [(0, 1, "")] * 2
    first, second = (Keys(f"{said}{fresh_key() if use != 'default' else ''}") for _, said, _ in lines)
    assert (first.lines[0].algorithm, first.lines[0].uses) == (algorithm, (use,))
    assert first.lines[0].id != second.lines[0].id
    assert first.lines[0].check != second.lines[0].check


def test_an_unknown_algorithm_is_refused(tmp_path: Path) -> None:
    status, said, wrong = shaodao(tmp_path, "keys", "new", "--algorithm", "des")
    assert (status, said) == (2, "")
    assert "aes-256-gcm、sm4-gcm" in wrong


@pytest.mark.parametrize(
    "use", ["a b", "不存在,yicheng", "default,yicheng", "yicheng,old", "Yicheng", ",", ""]
)
def test_a_use_that_the_file_would_be_refused_for_is_refused_before_a_key_is_written(
    tmp_path: Path, use: str
) -> None:
    status, said, wrong = shaodao(tmp_path, "keys", "new", "--use", use)
    assert (status, said) == (2, "")
    assert "用途应为 default、old 或区(市)代码" in wrong


def test_keys_are_checked_where_nothing_but_keys_is_set(tmp_path: Path) -> None:
    file, line = tmp_path / "keys", fresh_key()
    file.write_text(line)
    file.chmod(0o600)
    nothing_else = {"SHAODAO_DATABASE_URL": "", "SHAODAO_SECRET": ""}
    status, said, wrong = shaodao(
        tmp_path, "keys", "check", SHAODAO_PAYLOAD_KEYS_FILE=str(file), **nothing_else
    )
    assert (status, key_id(line) in said) == (0, True), wrong
    status, said, wrong = shaodao(tmp_path, "keys", "check", **nothing_else)
    assert (status, "未配置载荷密钥" in wrong) == (1, True)


def test_the_check_shows_every_key_but_never_the_key_itself(tmp_path: Path) -> None:
    file, line = tmp_path / "keys", fresh_key()
    file.write_text(line)
    file.chmod(0o600)
    status, said, wrong = shaodao(tmp_path, "keys", "check", SHAODAO_PAYLOAD_KEYS_FILE=str(file))
    assert (status, key_id(line) in said, "default" in said) == (0, True, True), wrong
    assert line.split()[2] not in said + wrong
    file.chmod(0o644)
    status, said, wrong = shaodao(tmp_path, "keys", "check", SHAODAO_PAYLOAD_KEYS_FILE=str(file))
    assert (status, "chmod 600" in wrong) == (1, True)
    status, said, wrong = shaodao(tmp_path, "doctor", SHAODAO_PAYLOAD_KEYS_FILE=str(file))
    assert (status, "chmod 600" in said) == (1, True)
    status, said, wrong = shaodao(tmp_path, "keys", "check", SHAODAO_PAYLOAD_KEYS="nonsense")
    assert (status, "第 1 条应有四项" in wrong) == (1, True)


@pytest.mark.parametrize("process", ["worker", "api"])
def test_without_keys_no_process_starts_and_each_says_what_to_do(tmp_path: Path, process: str) -> None:
    status, said, wrong = shaodao(tmp_path, process)
    assert status == 1, said + wrong
    for words in ("未配置载荷密钥", "shaodao keys new", "SHAODAO_PAYLOAD_ENCRYPTION=off"):
        assert words in wrong.replace("\n", "")
    assert "Traceback" not in wrong


def test_doctor_says_whether_payloads_are_encrypted(tmp_path: Path) -> None:
    line = fresh_key()
    assert "未配置载荷密钥" in shaodao(tmp_path, "doctor")[1]
    assert "以明文存入" in shaodao(tmp_path, "doctor", SHAODAO_PAYLOAD_ENCRYPTION="off")[1]
    said = shaodao(tmp_path, "doctor", SHAODAO_PAYLOAD_KEYS=line)[1]
    assert f"default:{key_id(line)}(aes-256-gcm)" in said


def _stack(folder: Path, **environment: str) -> Stack:
    return Stack(
        StackOptions(
            data=folder,
            districts=ROOT / "districts",
            port=free_port(),
            temporal_port=free_port(),
            environment=environment,
        )
    )


def test_the_embedded_stack_makes_its_key_once_for_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SHAODAO_PAYLOAD_KEYS", "SHAODAO_PAYLOAD_KEYS_FILE"):
        monkeypatch.delenv(name, raising=False)
    stack = _stack(tmp_path)
    file = tmp_path / "payload-keys"
    assert stack.environment["SHAODAO_PAYLOAD_KEYS_FILE"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text("utf-8")
    assert stack.converter.payload_codec is not None
    _stack(tmp_path)
    assert file.read_text("utf-8") == before


def test_the_embedded_stack_takes_keys_that_somebody_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAODAO_PAYLOAD_KEYS", fresh_key())
    assert "SHAODAO_PAYLOAD_KEYS_FILE" not in _stack(tmp_path).environment


def test_workflows_load_no_cryptography() -> None:
    program = "import sys, workflows.case, workflows.notices; print('cryptography' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"
