"""What is deployed is checked without a network: the files themselves, and that they set what the product reads."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from temporalio.envconfig import ClientConfigProfile

from adapters.settings import Settings
from tests import deployment
from tests.conftest import BIN
from tests.deployment import DEPLOY, ROOT, Part


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


def deployed(folder: Path) -> dict[str, Part]:
    """Return everything of ours that any of the files runs."""
    filled_in = dict.fromkeys(deployment.env_example(), "x" * 32)
    ways = {
        "compose": deployment.compose(filled_in, folder),
        "pods": deployment.pods(),
        "units": deployment.units(),
    }
    ours = {
        way: {name: part for name, part in parts.items() if part.command and "shaodao" in part.command[0]}
        for way, parts in ways.items()
    }
    assert all(set(parts) == {"api", "worker", "migrate"} for parts in ours.values())
    return {f"{way}, {name}": part for way, parts in ours.items() for name, part in parts.items()}


def is_read_by_temporal(name: str) -> bool:
    """Whether the SDK's environment configuration makes a difference of this variable."""

    def profile(**given: str) -> ClientConfigProfile:
        return ClientConfigProfile.load(disable_file=True, override_env_vars=given)

    return profile(**{name: "true"}) != profile()


def test_temporal_itself_says_which_variables_it_reads() -> None:
    assert is_read_by_temporal("TEMPORAL_ADDRESS")
    assert not is_read_by_temporal("TEMPORAL_ADRESS")


def test_every_variable_that_is_deployed_is_one_that_something_reads(tmp_path: Path) -> None:
    ours = {f"SHAODAO_{name.upper()}" for name in Settings.model_fields}
    others = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", *deployment.image_environment()}
    for where, part in deployed(tmp_path).items():
        left = part.environment.keys() - ours - others
        assert not {name for name in left if not is_read_by_temporal(name)}, where
    interpolated = set(re.findall(r"\$\{(\w+)", (DEPLOY / "compose.yaml").read_text("utf-8")))
    assert set(deployment.env_example()) <= interpolated
    texts = [file.read_text("utf-8") for file in DEPLOY.rglob("*") if file.is_file()]
    named = {name for text in texts for name in re.findall(r"SHAODAO_[A-Z_]*[A-Z]", text)}
    assert named <= ours | {"SHAODAO_TAG"}


def test_every_part_is_given_what_it_cannot_do_without_and_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = {
        f"SHAODAO_{name.upper()}" for name, each in Settings.model_fields.items() if each.is_required()
    }
    wanted = {"SHAODAO_ARCHIVE", "SHAODAO_AUDIT_KEY", "SHAODAO_WORKER_VERSIONING", "SHAODAO_TEMPORAL_UI_URL"}
    for name in [name for name in os.environ if name.startswith(("SHAODAO_", "TEMPORAL_"))]:
        monkeypatch.delenv(name)
    for where, part in deployed(tmp_path).items():
        given = part.environment.keys()
        assert given >= required | wanted | {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}, where
        assert len(given & {"SHAODAO_PAYLOAD_KEYS", "SHAODAO_PAYLOAD_KEYS_FILE"}) == 1, where
        with monkeypatch.context() as patched:
            for name, value in part.environment.items():
                patched.setenv(name, value)
            assert Settings().archive == part.environment["SHAODAO_ARCHIVE"], where


def test_every_part_of_one_way_has_the_same_settings(tmp_path: Path) -> None:
    first: dict[str, Mapping[str, str]] = {}
    for where, part in deployed(tmp_path).items():
        settings = {name: value for name, value in part.environment.items() if name != "SHAODAO_BUILD_ID"}
        assert settings == first.setdefault(where.partition(",")[0], settings), where


def test_what_is_written_lies_where_the_process_may_write(tmp_path: Path) -> None:
    steps = deployment.dockerfile()
    (volume,) = (arguments for name, arguments in steps if name == "VOLUME")
    assert any(arguments.endswith(f"install -d -o shaodao -g shaodao {volume}") for _, arguments in steps)
    for where, part in deployed(tmp_path).items():
        named = [part.environment.get("SHAODAO_ANCHOR_DIR"), part.environment["SHAODAO_ARCHIVE"]]
        folders = [name.removeprefix("file://") for name in named if name and not name.startswith("s3://")]
        assert len(folders) == (0 if where.startswith("pods") else 2), where
        assert all(folder.startswith(f"{volume}/") for folder in folders), where
    for name in ("api", "worker"):
        assert "StateDirectory=shaodao\n" in (DEPLOY / "systemd" / f"shaodao-{name}.service").read_text(
            "utf-8"
        )


def test_everything_that_the_image_copies_reaches_the_builder_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == {
        str(source) for source, _ in deployment.copied()
    }


def test_kubernetes_adds_no_variables_of_its_own_that_look_like_ours() -> None:
    kinds = {"Deployment", "Job"}
    pods = [each["spec"]["template"]["spec"] for each in deployment.manifests() if each["kind"] in kinds]
    assert [pod["enableServiceLinks"] for pod in pods] == [False, False, False]


def test_the_image_installs_what_the_lock_file_names_and_nothing_of_the_developers() -> None:
    def pinned(file: Path) -> set[str]:
        return set(re.findall(r"^([a-z0-9_.\[\]-]+==\S+)", file.read_text("utf-8"), re.MULTILINE))

    image, everything = pinned(DEPLOY / "requirements.lock"), pinned(ROOT / "requirements.lock")
    assert image <= everything
    assert not {name for name in image if name.startswith(("pytest", "mypy", "moto", "playwright"))}
    packages = re.findall(r"^COPY (\w+) \1$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert set(packages) >= {"domain", "workflows", "activities", "adapters", "starter"}
