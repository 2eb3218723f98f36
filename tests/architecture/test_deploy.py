"""What is deployed is checked without a network: the files themselves, and that they set what the product reads."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from adapters.settings import Settings
from tests.conftest import BIN

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"


def run(*command: str | Path, folder: Path = ROOT) -> tuple[int, str]:
    """Run a checker; return its status and what it said."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "POSTGRES_PASSWORD": "x", "SHAODAO_SECRET": "x", "SHAODAO_PAYLOAD_KEYS": "x"},
    )
    return done.returncode, done.stdout + done.stderr


def verify_units(folder: Path) -> tuple[int, str]:
    return run("sh", folder / "verify.sh", BIN / "shaodao")


CHECKS = {
    "Dockerfile": ("hadolint", "deploy/Dockerfile"),
    "compose schema": (
        "check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "deploy/compose.yaml",
    ),
    "compose": ("docker-compose", "-f", "deploy/compose.yaml", "config", "--quiet"),
    "kubernetes": (
        "kubernetes-validate",
        "--strict",
        *(str(file) for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))),
    ),
}


@pytest.mark.parametrize("what", CHECKS)
def test_a_deployment_file_is_right(what: str) -> None:
    program, *arguments = CHECKS[what]
    status, said = run(BIN / program, *arguments)
    assert status == 0, said


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_the_systemd_units_are_right_and_a_mistake_in_one_is_found(tmp_path: Path) -> None:
    status, said = verify_units(DEPLOY / "systemd")
    assert (status, said) == (0, "")
    shutil.copytree(DEPLOY / "systemd", tmp_path / "systemd")
    unit = tmp_path / "systemd" / "shaodao-api.service"
    unit.write_text(unit.read_text().replace("shaodao-migrate.service", "shaodao-migrat.service"))
    assert verify_units(tmp_path / "systemd")[0] != 0


def test_every_setting_that_is_deployed_is_one_that_the_product_reads() -> None:
    known = {f"SHAODAO_{name.upper()}" for name in Settings.model_fields} | {"SHAODAO_TAG"}
    files = [
        *DEPLOY.glob("*.yaml"),
        *(DEPLOY / "kubernetes").glob("*.yaml"),
        DEPLOY / "env.example",
        DEPLOY / "systemd" / "environment.example",
    ]
    named = {name for file in files for name in re.findall(r"SHAODAO_[A-Z_]+", file.read_text("utf-8"))}
    assert named <= known
    assert {"SHAODAO_DATABASE_URL", "SHAODAO_SECRET", "SHAODAO_PAYLOAD_KEYS", "SHAODAO_ARCHIVE"} <= named


def test_the_image_installs_what_the_lock_file_names_and_nothing_of_the_developers() -> None:
    def pinned(file: Path) -> set[str]:
        return set(re.findall(r"^([a-z0-9_.\[\]-]+==\S+)", file.read_text("utf-8"), re.MULTILINE))

    image, everything = pinned(DEPLOY / "requirements.lock"), pinned(ROOT / "requirements.lock")
    assert image <= everything
    assert not {name for name in image if name.startswith(("pytest", "mypy", "moto", "playwright"))}
    packages = re.findall(r"^COPY (\w+) \1$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert set(packages) >= {"domain", "workflows", "activities", "adapters", "starter"}
