"""Settings: the environment (SHAODAO_*) over a TOML file. Secrets never stand on a command line."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from domain.errors import DomainError


class SettingsInvalid(DomainError):
    """A setting is missing or wrong; the detail names each one."""


class KeySettings(BaseSettings):
    """What is set about payload keys; whoever looks at keys alone needs nothing else.

    Attributes:
        payload_keys, payload_keys_file: keys that encrypt what Temporal keeps (see `adapters.keys`); one of the two.
        payload_encryption: `off` only where somebody says so; without keys nothing starts otherwise.

    Raises:
        SettingsInvalid: naming every setting that is missing or wrong.
    """

    model_config = SettingsConfigDict(env_prefix="SHAODAO_", extra="ignore", env_ignore_empty=True)

    payload_keys: SecretStr | None = None
    payload_keys_file: Path | None = None
    payload_encryption: Literal["on", "off"] = "on"

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            wrong = "、".join(f"SHAODAO_{'_'.join(map(str, each['loc'])).upper()}" for each in error.errors())
            detail = f"以下设置缺失或有误:{wrong}。请在环境变量或 SHAODAO_CONFIG 指定的 TOML 文件中设置。"
            raise SettingsInvalid("settings_invalid", detail) from None
        except (OSError, tomllib.TOMLDecodeError) as error:
            detail = f"SHAODAO_CONFIG 指定的文件无法读取或不是有效的 TOML:{error}。"
            raise SettingsInvalid("settings_invalid", detail) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the environment over the file that SHAODAO_CONFIG names."""
        del dotenv_settings, file_secret_settings
        named = os.environ.get("SHAODAO_CONFIG")
        if named and not Path(named).is_file():
            raise FileNotFoundError(named)
        file = TomlConfigSettingsSource(settings_cls, Path(named)) if named else None
        return (init_settings, env_settings, *((file,) if file else ()))


class Settings(KeySettings):
    """Everything that an installation may set.

    An empty variable is one that is not set: Compose passes on what nobody filled in as empty text.
    The address of Temporal, its namespace, TLS and API key are the SDK's own TEMPORAL_* settings.

    Attributes, beside those of the keys:
        database_url: an SQLAlchemy URL, SQLite or PostgreSQL.
        secret: signs the bearer tokens; at least 32 characters.
        temporal_within: how long an act waits for Temporal before it is kept for the relay, in seconds.
        max_body_bytes: larger requests are refused.
        archive: where closed cases go: `file:///folder` or `s3://bucket/prefix?endpoint=https://host&region=name`;
            the keys of an S3-compatible store are its own AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
        build_id: names this version of the code to Temporal; made from the package's version and the rules'
            content when not given.
        worker_versioning: `off`; `on` (versions are switched by the operator); or `current` (a starting worker makes
            its own version the current one: for one machine).
        audit_key: signs audit bundles and anchors: a PEM file (Ed25519), or its text.
        anchor_dir: where anchors are published as files; None for the table alone.
        anchor_every: how often each district is anchored, in minutes; a day at most.

    Raises:
        SettingsInvalid: naming every setting that is missing or wrong.
    """

    database_url: str
    secret: Annotated[SecretStr, Field(min_length=32)]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8030
    temporal_binary: str | None = None
    temporal_ui_url: str | None = None
    temporal_within: Annotated[float, Field(gt=0, le=60)] = 8.0
    max_body_bytes: Annotated[int, Field(gt=0)] = 1_000_000
    archive: Annotated[str, Field(pattern=r"^(file:///|s3://[^/?]+)")] | None = None
    build_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$")] | None = None
    worker_versioning: Literal["off", "on", "current"] = "off"
    audit_key: SecretStr | None = None
    anchor_dir: Path | None = None
    anchor_every: Annotated[int, Field(ge=1, le=1440)] = 60

    def __init__(
        self, **values: Any
    ) -> None:  # the type checker would make one of its own, with other arguments
        super().__init__(**values)
