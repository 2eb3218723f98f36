"""What commands of this machine work with: the embedded stack's folder, and the store of the settings."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.store import Store

DEFAULT_DATA = Path(".shaodao")
_ADDRESSES = "addresses.json"
_OTHER_INSTALLATION = {"SHAODAO_DATABASE_URL", "SHAODAO_CONFIG"}
_OTHER_TEMPORAL = {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_CONFIG_FILE"}


def leave_addresses(data: Path, *, url: str, temporal: str, namespace: str, ui_url: str | None) -> None:
    """Write where the stack of this folder listens, for the commands of this machine."""
    content = {"url": url, "temporal_address": temporal, "temporal_namespace": namespace, "ui_url": ui_url}
    beside = data / f".{_ADDRESSES}"
    beside.touch(0o600)
    beside.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    beside.replace(data / _ADDRESSES)


def remove_addresses(data: Path) -> None:
    """Say that nothing listens any more."""
    (data / _ADDRESSES).unlink(missing_ok=True)


def is_missing(data: Path) -> bool:
    """Whether there is no such folder, nor another installation named by the environment."""
    return not data.is_dir() and not _OTHER_INSTALLATION & os.environ.keys()


def use_data(data: Path) -> None:
    """Take database, secret, keys and addresses from an embedded stack's folder, unless the environment names others.

    Where the environment names another database, it is another installation, and so are its Temporal and its key.
    """
    another = bool(_OTHER_INSTALLATION & os.environ.keys())
    secret, database = data / "secret", data / "shaodao.db"
    if secret.exists():
        os.environ.setdefault("SHAODAO_SECRET", secret.read_text().strip())
    if database.exists():
        os.environ.setdefault("SHAODAO_DATABASE_URL", f"sqlite:///{database.resolve()}")
        os.environ.setdefault("SHAODAO_ARCHIVE", (data / "archive").resolve().as_uri())
    if (keys := data / "payload-keys").exists() and "SHAODAO_PAYLOAD_KEYS" not in os.environ:
        os.environ.setdefault("SHAODAO_PAYLOAD_KEYS_FILE", str(keys.resolve()))
    if not another:
        _use_audit_key(data)
        _use_addresses(data)


def _use_audit_key(data: Path) -> None:
    if (key := data / "audit.key").exists():
        os.environ.setdefault("SHAODAO_AUDIT_KEY", str(key.resolve()))
        os.environ.setdefault("SHAODAO_ANCHOR_DIR", str((data / "anchors").resolve()))


def _use_addresses(data: Path) -> None:
    """Reach the stack where it listens now; a file that cannot be read says as little as one that is not there."""
    try:
        known = json.loads((data / _ADDRESSES).read_text("utf-8"))
    except (OSError, ValueError):
        return
    if not _OTHER_TEMPORAL & os.environ.keys():
        os.environ["TEMPORAL_ADDRESS"] = known["temporal_address"]
        os.environ["TEMPORAL_NAMESPACE"] = known["temporal_namespace"]
    os.environ.setdefault("SHAODAO_URL", known["url"])


@asynccontextmanager
async def open_store() -> AsyncIterator["Store"]:
    """Give the store of the settings, and close it in the end."""
    from adapters.settings import Settings
    from adapters.store import open_store as opened

    store = opened(Settings())
    try:
        yield store
    finally:
        await store.close()
