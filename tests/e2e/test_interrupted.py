"""A run that is killed in the middle, by a user who is not root: the next one ends where an undisturbed one ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import yaml

from tests.e2e import state
from tests.e2e.conftest import ENVIRONMENT, ROOT, Lab

pytestmark = pytest.mark.lab

HOSTS = ["master", "worker1"]
PASSWORD = "of-a-user-of-the-lab"
# Each run gets a little further than the one before.
PLACES = [
    "nginx : Install nginx",
    "k3s_server : Ensure that the server runs",
    "control_api : Install the locked dependencies",
    "k3s_agent : Start the agent",
]


@pytest.fixture(scope="module")
def killed() -> Iterator[Lab]:
    """A lab of bare hosts, which are logged in to as a user with sudo: on the master without a password of his."""
    lab = Lab(name="killed")
    lab.command("down")
    try:
        lab.command("up", *HOSTS)
        admit(lab, "master", password="")
        admit(lab, "worker1", password=PASSWORD)
        yield lab
    finally:
        lab.command("down")


def admit(lab: Lab, host: str, *, password: str) -> None:
    """Let the user `deploy` in, and let him become root: with his password, if he has one."""
    rule = "deploy ALL=(ALL) " + ("ALL" if password else "NOPASSWD: ALL")
    lab.on(host, "useradd --create-home --shell /bin/bash deploy")
    lab.on(
        host,
        f"echo '{rule}' >/etc/sudoers.d/deploy; cp -r /root/.ssh /home/deploy/; chown -R deploy: /home/deploy/.ssh",
    )
    variables = {"ansible_user": "deploy"}
    if password:
        lab.on(host, f"echo deploy:{password} | chpasswd")
        variables["ansible_become_password"] = password
    file = lab.state / f"inventory/host_vars/{host}.yml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(variables))


def kill_at(lab: Lab, task: str, *, when: Callable[[], object]) -> None:
    """Run site.yml until the task has begun and `when` returns; then kill it, with all its processes here."""
    inventory = str(lab.state / "inventory")
    playbook = subprocess.Popen(
        [str(ROOT / ".venv/bin/ansible-playbook"), "-i", inventory, "playbooks/site.yml"],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said = []
    with playbook:
        for line in playbook.stdout:
            said.append(line)
            if line.startswith(f"TASK [{task}]"):
                when()
                for process in [playbook.pid, *descendants(playbook.pid)]:
                    with suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                return
    pytest.fail(f"'{task}' was never reached:\n{''.join(said)[-6000:]}", pytrace=False)


def descendants(process: int) -> Iterator[int]:
    """Ansible's workers have sessions of their own: no process group holds them all."""
    found = subprocess.run(["pgrep", "--parent", str(process)], capture_output=True, text=True, check=False)
    for child in map(int, found.stdout.split()):
        yield child
        yield from descendants(child)


def changes(output: str) -> dict[str, int]:
    recap = output.split("PLAY RECAP")[1]
    return {
        host: int(count)
        for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", recap, flags=re.MULTILINE)
    }


def test_check_mode_on_bare_hosts_changes_nothing(killed: Lab) -> None:
    before = {host: state.of(killed, host) for host in HOSTS}
    out = killed.playbook("playbooks/site.yml", "--check", "--diff")
    assert all(changes(out)[host] > 5 for host in HOSTS), out
    for host in HOSTS:
        assert state.differences(before[host], state.of(killed, host)) == {}


def test_packages_are_installed_again_after_the_power_was_cut_in_the_middle(killed: Lab) -> None:
    def cut_power() -> None:
        killed.on("master", "until [ $(ls /var/lib/dpkg/updates | wc -l) -gt 9 ]; do sleep 0.1; done")
        killed.command("kill", "master")

    kill_at(killed, "postgresql : Install PostgreSQL", when=cut_power)
    killed.command("up", "master")
    assert "dpkg was interrupted" in killed.on("master", "apt-get install --yes tree 2>&1 || true")
    killed.playbook("playbooks/site.yml", "--tags=base")
    assert killed.on("master", "dpkg --audit") == ""


def test_a_killed_run_ends_as_an_undisturbed_one_when_it_is_run_again(lab: Lab, killed: Lab) -> None:
    for place in PLACES:
        kill_at(killed, place, when=lambda: time.sleep(0.5))
    killed.playbook("playbooks/site.yml")
    killed.wait_for_status("worker1", "ACTIVE", seconds=60)
    assert list(killed.workers()) == ["worker1"]
    for host in HOSTS:
        assert state.differences(lab.as_built[host], state.of_built(killed, host)) == {}


def test_another_run_and_check_mode_find_nothing_to_change(killed: Lab) -> None:
    for arguments in ([], ["--check", "--diff"]):
        out = killed.playbook("playbooks/site.yml", *arguments)
        assert {host: changes(out)[host] for host in HOSTS} == dict.fromkeys(HOSTS, 0), out


def test_tags_apply_one_role_only(killed: Lab) -> None:
    for file in ("/etc/redis/redis.conf", "/etc/nginx/nginx.conf"):
        killed.on("master", f"echo '# by hand' >>{file}")
    killed.playbook("playbooks/site.yml", "--tags=redis")
    found = killed.on("master", "grep -l 'by hand' /etc/redis/redis.conf /etc/nginx/nginx.conf")
    assert found.split() == ["/etc/nginx/nginx.conf"]


def test_a_worker_is_added_by_a_run_that_is_limited_to_it(killed: Lab) -> None:
    killed.command("up", "worker2")
    admit(killed, "worker2", password=PASSWORD)
    out = killed.playbook("playbooks/site.yml", "--limit=worker2")
    assert set(changes(out)) <= {"worker2", "localhost"}
    killed.wait_for_status("worker2", "ACTIVE", seconds=30)
