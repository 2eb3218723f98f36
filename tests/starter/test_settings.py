"""Settings that are missing or wrong are named, in Chinese, and no secret is shown."""

from pathlib import Path

import pytest

from adapters.settings import Settings, SettingsInvalid

SECRET = "a-secret-for-tests-that-is-long-enough-0123"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "SECRET", "CONFIG", "PORT", "HOST"):
        monkeypatch.delenv(f"SHAODAO_{name}", raising=False)


def refusal() -> str:
    with pytest.raises(SettingsInvalid) as refused:
        Settings()
    return refused.value.detail


def test_every_missing_setting_is_named_at_once() -> None:
    assert "SHAODAO_DATABASE_URL、SHAODAO_SECRET" in refusal()


def test_a_short_secret_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAODAO_DATABASE_URL", "sqlite://")
    monkeypatch.setenv("SHAODAO_SECRET", "too-short")
    detail = refusal()
    assert "SHAODAO_SECRET" in detail
    assert "too-short" not in detail


def test_the_environment_stands_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "shaodao.toml"
    file.write_text(f'database_url = "sqlite://"\nsecret = "{SECRET}"\nport = 9000\nhost = "10.0.0.1"\n')
    monkeypatch.setenv("SHAODAO_CONFIG", str(file))
    monkeypatch.setenv("SHAODAO_PORT", "9001")
    settings = Settings()
    assert (settings.port, settings.host) == (9001, "10.0.0.1")
    assert SECRET not in repr(settings)


@pytest.mark.parametrize("content", ["bad = [", None])
def test_a_file_that_is_away_or_no_toml_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "shaodao.toml"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SHAODAO_CONFIG", str(file))
    assert "SHAODAO_CONFIG" in refusal()


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAODAO_DATABASE_URL", "sqlite://")
    monkeypatch.setenv("SHAODAO_SECRET", "")
    assert "SHAODAO_SECRET" in refusal()
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    for name in ("AUDIT_KEY", "PAYLOAD_KEYS", "ANCHOR_DIR", "ARCHIVE", "BUILD_ID"):
        monkeypatch.setenv(f"SHAODAO_{name}", "")
    settings = Settings()
    assert (settings.audit_key, settings.payload_keys, settings.anchor_dir) == (None, None, None)
    assert (settings.archive, settings.build_id) == (None, None)
