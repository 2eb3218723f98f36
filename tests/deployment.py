"""What the files in deploy/ say is installed and run: for the tests that check it, and for the one that does it."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import BIN

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
HOME = "/opt/shaodao"
_COMPOSE_GRACE, _POD_GRACE, _UNIT_GRACE = 10.0, 30.0, 90.0
"""What Docker, Kubernetes and systemd give where a file says nothing, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process that is deployed.

    Attributes:
        grace: seconds between SIGTERM and SIGKILL.
        probes: paths that have to answer over HTTP.
        check: a command that has to succeed while it is well; empty for none.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str]
    grace: float
    probes: tuple[str, ...] = ()
    check: tuple[str, ...] = ()

    def moved(self, places: Mapping[str, str], **settings: str) -> "Part":
        """Return it with folders and addresses put to where they are here, and these settings in place of its own."""

        def put(text: str) -> str:
            for there, here in places.items():
                text = text.replace(there, here)
            return text

        environment = {name: put(value) for name, value in self.environment.items()}
        return replace(
            self,
            command=tuple(map(put, self.command)),
            environment={**environment, **settings},
            check=tuple(map(put, self.check)),
        )


# --- the image ---------------------------------------------------------------------------------------------


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    found = (line.partition(" ") for line in lines if line and not line.startswith("#"))
    return [(name, " ".join(rest.split())) for name, _, rest in found]


def copied() -> list[tuple[Path, str]]:
    """Return what the Dockerfile copies, as paths in the repository, and where to."""
    found = []
    for name, arguments in dockerfile():
        if name == "COPY":
            *sources, target = arguments.split()
            found += [(Path(source), target) for source in sources]
    return found


def image_environment() -> dict[str, str]:
    """Return the variables that the Dockerfile sets."""
    pairs = (shlex.split(arguments) for name, arguments in dockerfile() if name == "ENV")
    return dict(pair.split("=", 1) for line in pairs for pair in line)


def install(home: Path) -> Path:
    """Copy and install into a folder with a fresh virtual environment, step by step as the image is built.

    Returns:
        The environment's folder of programs.
    """
    home.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "venv", str(home / ".venv")], check=True)
    programs = home / ".venv" / "bin"
    for name, arguments in dockerfile():
        if name == "COPY":
            *sources, target = arguments.split()
            for source in sources:
                _copy(ROOT / source, home / target)
        for command in arguments.split("&&") if name == "RUN" else ():
            program, *rest = shlex.split(command)
            if program == "pip":
                done = subprocess.run(
                    [str(programs / "pip"), *rest], cwd=home, check=False, capture_output=True, text=True
                )
                assert done.returncode == 0, done.stdout + done.stderr
    return programs


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name if target.is_dir() else target)


# --- Docker Compose ----------------------------------------------------------------------------------------


def env_example() -> list[str]:
    """Return what deploy/env.example asks people to fill in."""
    return re.findall(r"^([A-Z_]+)=$", (DEPLOY / "env.example").read_text("utf-8"), re.MULTILINE)


def compose(filled_in: Mapping[str, str], folder: Path) -> dict[str, Part]:
    """Return the services of compose.yaml, as Compose reads it with the example's lines filled in.

    Args:
        filled_in: by name; what is missing stays empty.
        folder: for the filled-in file.
    """
    env_file = folder / "compose.env"
    env_file.write_text("".join(f'{name}="{filled_in.get(name, "")}"\n' for name in env_example()), "utf-8")
    files = ("-f", DEPLOY / "compose.yaml", "--env-file", env_file)
    said = subprocess.run(
        [BIN / "docker-compose", *files, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
    )
    assert said.returncode == 0, said.stderr
    services: dict[str, Any] = json.loads(said.stdout)["services"]
    return {name: _service(each) for name, each in services.items()}


def _service(service: Mapping[str, Any]) -> Part:
    ours = "build" in service
    entrypoint = json.loads(dict(dockerfile())["ENTRYPOINT"]) if ours else service.get("entrypoint") or []
    given = {name: str(value) for name, value in service.get("environment", {}).items()}
    _, *check = service.get("healthcheck", {}).get("test", ["NONE"])
    return Part(
        command=tuple(word.replace("$$", "$") for word in (*entrypoint, *(service.get("command") or []))),
        environment={**(image_environment() if ours else {}), **given},
        grace=_seconds(service["stop_grace_period"]) if "stop_grace_period" in service else _COMPOSE_GRACE,
        check=tuple(check),
    )


def _seconds(text: str) -> float:
    """Read a duration as Compose writes it: `1m0s`."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+)([hms])", text))


# --- Kubernetes --------------------------------------------------------------------------------------------


def manifests() -> list[dict[str, Any]]:
    """Return every object of the manifests."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text("utf-8"))]


def pods() -> dict[str, Part]:
    """Return each container by name, with what its config map and secret give it."""
    objects = manifests()
    given = {
        (each["kind"], each["metadata"]["name"]): each.get("data", {}) | each.get("stringData", {})
        for each in objects
        if each["kind"] in {"ConfigMap", "Secret"}
    }
    found = {}
    for each in objects:
        if each["kind"] not in {"Deployment", "Job"}:
            continue
        spec = each["spec"]["template"]["spec"]
        for container in spec["containers"]:
            environment = image_environment()
            for source in container.get("envFrom", []):
                for kind, reference in source.items():
                    environment |= given[
                        {"configMapRef": "ConfigMap", "secretRef": "Secret"}[kind], reference["name"]
                    ]
            environment |= {one["name"]: one["value"] for one in container.get("env", [])}
            probes = (container.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness"))
            found[container["name"]] = Part(
                command=(*json.loads(dict(dockerfile())["ENTRYPOINT"]), *container["args"]),
                environment=environment,
                grace=float(spec.get("terminationGracePeriodSeconds", _POD_GRACE)),
                probes=tuple(probe["httpGet"]["path"] for probe in probes if probe),
            )
    return found


# --- systemd -----------------------------------------------------------------------------------------------


def units() -> dict[str, Part]:
    """Return each unit by its name without `shaodao-`, with the settings of environment.example."""
    lines = (DEPLOY / "systemd" / "environment.example").read_text("utf-8").splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    found = {}
    for file in sorted((DEPLOY / "systemd").glob("*.service")):
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.read_string(file.read_text("utf-8"))
        service = unit["Service"]
        assert service["EnvironmentFile"] == "/etc/shaodao/environment"
        found[file.stem.removeprefix("shaodao-")] = Part(
            command=tuple(shlex.split(service["ExecStart"])),
            environment=environment,
            grace=float(service.get("TimeoutStopSec", str(_UNIT_GRACE))),
        )
    return found
