"""The compared commands: fivrec, the bare scripts, Ansible and pyinfra. Builds command lines; runs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import instances
from instances import Fleet, Ground
from measure import Contender, environment

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Peers:
    """Where the peers are installed; None if they could not be."""

    ansible: Path | None
    pyinfra: Path | None


def bare(script: str, *words: str, env: Mapping[str, str] | None = None, work: int = 1, label: str = "") -> Contender:
    argv = (sys.executable, str(HERE / "bare" / f"{script}.py"), *words)
    return Contender(f"bare {script}{label}", argv, env or {}, work)


def bare_fleet(script: str, fleet: Fleet, at_once: int, *words: str) -> Contender:
    given = (str(fleet.listing), "--connect-url", fleet.connect_url, "--at-once", str(at_once), *words)
    return bare(script, *given, env=fleet.trust, work=len(fleet), label=f", {at_once} at once")


def fivrec(program: Path, *words: str, env: Mapping[str, str] | None = None, work: int = 1) -> Contender:
    return Contender("fivrec", (str(program), *words), env or {}, work)


def offers(program: Path, command: str = "") -> bool:
    """Whether fivrec has the command; if not, says so loudly."""
    words = [str(program), *command.split(), "--help"]
    try:
        done = subprocess.run(words, env=environment(), capture_output=True, timeout=60, check=False)
    except OSError:
        done = None
    if done is None or done.returncode:
        print(f"!! SKIPPED: {program} {command}: there is no such command (yet)", file=sys.stderr, flush=True)
        return False
    return True


def ansible(peers: Peers, ground: Ground, fleet: Fleet, *, rounds: int, forks: int = 10) -> Contender | None:
    """Returns one playbook run over all instances, a host each."""
    if peers.ansible is None:
        return None
    folder = fleet.manifest.parent
    inventory = folder / f"inventory-{len(fleet)}.yml"
    inventory.write_text(_inventory(fleet))
    playbook = HERE / "peers" / "ansible" / "playbook.yml"
    variables = _peer_variables(ground, fleet)
    argv = (
        str(peers.ansible / "bin" / "ansible-playbook"), "--inventory", str(inventory), "--forks", str(forks),
        *(word for name, value in variables.items() for word in ("--extra-vars", f"{name}={value}")),
        str(playbook),
    )  # fmt: skip
    env = {
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_PYTHON_INTERPRETER": str(peers.ansible / "bin" / "python"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "LC_ALL": "C.UTF-8",
    }
    return Contender("ansible-playbook", argv, env | dict(fleet.env), len(fleet), rounds)


def pyinfra(peers: Peers, ground: Ground, fleet: Fleet, *, rounds: int) -> Contender | None:
    """Returns one deploy over all instances, all on @local."""
    if peers.pyinfra is None:
        return None
    variables = _peer_variables(ground, fleet) | {"listing": str(fleet.listing)}
    argv = (
        str(peers.pyinfra / "bin" / "pyinfra"), "-y", "@local", str(HERE / "peers" / "pyinfra" / "deploy.py"),
        *(word for name, value in variables.items() for word in ("--data", f"{name}={value}")),
    )  # fmt: skip
    env = {"PATH": f"{peers.pyinfra / 'bin'}:{environment()['PATH']}", "LC_ALL": "C.UTF-8"}
    return Contender("pyinfra", argv, env | dict(fleet.env), len(fleet), rounds)


def _peer_variables(ground: Ground, fleet: Fleet) -> dict[str, str]:
    return {
        "database_host": ground.server.host,
        "database_port": str(ground.server.port),
        "database_user": ground.server.user,
        "connect_url": fleet.connect_url,
        "schema_script": str(ground.schema),
        "instance_environment": instances.ENVIRONMENT,
    }


def _inventory(fleet: Fleet) -> str:
    hosts = (f"    {one.name}: {{database: {one.database}, instance_key: {one.key}}}" for one in fleet.instances)
    return "\n".join(("all:", "  vars: {ansible_connection: local}", "  hosts:", *hosts, ""))
