"""Two nodes on one machine: network namespaces joined by a virtual cable, which can be cut.

Each node has a host name, a network, a /dev/shm and a private folder of its own.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from helpers_runs import ROOT

HOSTS = ("node1", "node2")
ADDRESSES = ("10.9.0.1", "10.9.0.2")
INTERFACES = ("v1", "v2")


class Nodes:
    """Made by `up`, taken away by `down`; `start` runs a program on a node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.private = folder / "private"
        self.private.mkdir()
        self.names = tuple(f"vlrl-{os.getpid()}-{host}" for host in HOSTS)
        self.started: list[subprocess.Popen[bytes]] = []

    def up(self) -> str | None:
        """Make the nodes; why it cannot be done where it cannot."""
        first, second = self.names
        try:
            for name in self.names:
                _ip(f"netns add {name}")
            cable = f"link add v1 netns {first} type veth peer name v2 netns {second}"
            _ip(cable)
            for name, interface, address in zip(self.names, INTERFACES, ADDRESSES, strict=True):
                _ip(f"-n {name} addr add {address}/24 dev {interface}")
            self.join()
            for node in range(2):
                self.start(node, ["true"], self.folder / "probe").wait(30)
        except FileNotFoundError as error:
            return f"no {error.filename}"
        except subprocess.CalledProcessError as error:
            return f"{error.stderr.decode(errors='replace').strip()}"
        failed = (self.folder / "probe").read_text(encoding="utf-8")
        return failed or None

    def join(self) -> None:
        """Plug the cable in."""
        for name, interface in zip(self.names, INTERFACES, strict=True):
            _ip(f"-n {name} link set lo up")
            _ip(f"-n {name} link set {interface} up")

    def start(
        self, node: int, command: Sequence[str], log: Path, more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A program on a node, in a session of its own."""
        hosts = self.folder / "hosts"
        names = zip(ADDRESSES, HOSTS, strict=True)
        lines = ["127.0.0.1 localhost", *(f"{address} {host}" for address, host in names)]
        hosts.write_text("\n".join(lines) + "\n", encoding="utf-8")
        setup = [
            f"hostname {HOSTS[node]}",
            "mount -t tmpfs tmpfs /dev/shm",
            f"mount -t tmpfs tmpfs {shlex.quote(str(self.private))}",
            f"mount --bind {shlex.quote(str(hosts))} /etc/hosts",
            f"exec {shlex.join(command)}",
        ]
        inside = ["ip", "netns", "exec", self.names[node], "unshare", "--uts", "--mount"]
        environment = {
            **os.environ,
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "GLOO_SOCKET_IFNAME": INTERFACES[node],
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TORCH_EXTENSIONS_DIR": str(self.folder / "extensions"),
            **(more or {}),
        }
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*inside, "sh", "-ec", " && ".join(setup)],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, jobs: Path, logs: Sequence[Path]) -> list[Ended]:
        """One rank a node runs the jobs of helpers_runs.py; how each has ended."""
        port = str(free_port())
        processes = [
            self.start(
                node,
                [sys.executable, str(ROOT / "tests/helpers_runs.py"), str(jobs)],
                logs[node],
                {"RANK": str(node), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_SIZE": "1"}
                | {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": port},
            )
            for node in range(2)
        ]
        return ended(processes, logs)

    def down(self) -> None:
        """End what still runs, and take the nodes away."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(30)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


class Ended:
    """How a program ended."""

    def __init__(self, status: int, at: float, log: Path) -> None:
        self.status, self.at = status, at
        self.said = log.read_text(encoding="utf-8", errors="replace")


def ended(
    processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path], timeout_s: float = 400
) -> list[Ended]:
    """Wait for all, noting when each came to its end; what takes longer is killed."""
    until = time.monotonic() + timeout_s
    found: dict[int, Ended] = {}
    while len(found) < len(processes):
        for number, process in enumerate(processes):
            if number not in found and process.poll() is not None:
                found[number] = Ended(process.returncode, time.time(), logs[number])
        if time.monotonic() > until:
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    return [found[number] for number in range(len(processes))]


def free_port() -> int:
    """A port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)
