"""SLURM of Debian on machines of the tests: munge, a controller, and a node on each of two machines."""

import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.deploy.lan import Machine

PORTS = {"controller": 6817, "node": 6818}
START_S = 60.0
PATH = f"{os.environ['PATH']}:/usr/sbin"
SETTINGS = """\
ClusterName=observatory
SlurmctldHost={controller.name}({controller.address})
SlurmctldPort={ports[controller]}
SlurmdPort={ports[node]}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=1
{nodes}
PartitionName=night Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def slurm(folder: Path, controller: Machine, nodes: Sequence[Machine]) -> Iterator[Path]:
    """Run SLURM; gives the path of its configuration, for ``SLURM_CONF``.

    Parameters
    ----------
    folder : Path
        Folder for its files, which all machines see.
    controller : Machine
        Where jobs are submitted.
    nodes : sequence of Machine
        Where they run, one at a time on each.
    """
    folder.mkdir(mode=0o755)
    for name in ("state", *(f"spool-{node.name}" for node in nodes)):
        (folder / name).mkdir()
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # needed even where none is used
    conf = folder / "slurm.conf"
    lines = [f"NodeName={node.name} NodeAddr={node.address} CPUs=1 RealMemory=4000 State=UNKNOWN" for node in nodes]
    conf.write_text(SETTINGS.format(controller=controller, ports=PORTS, folder=folder, nodes="\n".join(lines)))
    log, environment = folder / "said.log", {"SLURM_CONF": str(conf), "PATH": PATH}
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    files = [f"--key-file={key}", f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge.pid"]
    files += [f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    controller.run("munged", "--foreground", "--force", *files, log=log, **environment)
    _wait_for_program("munge", "-n", "-S", f"{folder}/munge.socket", environment=environment)
    controller.run("slurmctld", "-D", log=log, **environment)
    for node in nodes:
        node.run("slurmd", "-D", "-N", node.name, log=log, **environment)
    idle = ("nsenter", f"--net={controller.file}", "sinfo", "-h", "-t", "idle", "-o", "%D")
    _wait_for_program(*idle, environment=environment, answer=str(len(nodes)))
    yield conf


def _wait_for_program(*command: str, environment: dict[str, str], answer: str = "") -> None:
    said, deadline = "", time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, timeout=2)
            if done.returncode == 0 and answer in done.stdout:
                return
            said = done.stdout + done.stderr
        time.sleep(0.1)
    raise AssertionError(f"{command}: {said}")
