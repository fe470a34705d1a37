"""A reserved ROS domain is held by one process at a time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from conftest import PACKAGE_FOLDER

from flash_vstream_ros.ros import private_domain
from flash_vstream_ros.ros.private_domain import PORT_BASE, claim_domain, reserved_domain

CLAIM = "from flash_vstream_ros.ros.private_domain import *; print(claim_domain()); input()"


def test_concurrent_processes_reserve_different_domains() -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    others = [
        subprocess.Popen([sys.executable, "-c", CLAIM], env={**os.environ, "PYTHONPATH": path()}, **pipes)
        for _ in range(3)
    ]
    try:
        theirs = [int(process.stdout.readline()) for process in others]
        domains = [*theirs, claim_domain(), int(os.environ["ROS_DOMAIN_ID"])]
        assert len(set(domains)) == len(domains)
    finally:
        for process in others:
            process.communicate("\n", timeout=60)


def path() -> str:
    return os.pathsep.join(filter(None, [PACKAGE_FOLDER, os.environ.get("PYTHONPATH", "")]))


def test_a_domain_is_free_again_after_use_and_running_out_of_domains_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with reserved_domain() as domain:
        monkeypatch.setattr(private_domain, "DOMAINS", range(domain, domain + 1))
        with pytest.raises(RuntimeError, match=f"from {domain} to {domain} are reserved"):
            claim_domain()
    with socket.socket() as lock:
        lock.bind(("", PORT_BASE + domain))


@pytest.mark.parametrize(("chosen", "kept"), [("42", True), ("", False)])
def test_a_domain_id_set_by_the_user_is_kept(monkeypatch: pytest.MonkeyPatch, chosen: str, kept: bool) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", chosen)
    private_domain.use_private_domain()
    assert (os.environ["ROS_DOMAIN_ID"] == chosen) is kept
