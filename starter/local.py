"""What commands of this machine work with: the embedded stack's folder, and the store of the settings."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.store import Store

DEFAULT_DATA = Path(".shaodao")


def use_data(data: Path) -> None:
    """Take database, secret and payload keys from an embedded stack's folder, unless the environment names others."""
    secret, database = data / "secret", data / "shaodao.db"
    if secret.exists():
        os.environ.setdefault("SHAODAO_SECRET", secret.read_text().strip())
    if database.exists():
        os.environ.setdefault("SHAODAO_DATABASE_URL", f"sqlite:///{database.resolve()}")
        os.environ.setdefault("SHAODAO_ARCHIVE", (data / "archive").resolve().as_uri())
    if (keys := data / "payload-keys").exists() and "SHAODAO_PAYLOAD_KEYS" not in os.environ:
        os.environ.setdefault("SHAODAO_PAYLOAD_KEYS_FILE", str(keys.resolve()))


@asynccontextmanager
async def open_store() -> AsyncIterator["Store"]:
    """Give the store of the settings, and close it in the end."""
    from adapters.settings import Settings
    from adapters.store import Store

    store = Store(Settings().database_url)
    try:
        yield store
    finally:
        await store.close()
