"""Two processes, as torchrun starts them."""

import shutil
import subprocess
import sys
from pathlib import Path


def in_two_processes(arguments: list[str], made: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments in two processes that train together.

    gloo, which carries their words, now and then aborts a process when the other one closes (seen once in some forty
    runs): what was `made` is then removed, and they are run once more. A fault of our own fails twice.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0 or "SIGABRT" not in done.stderr:
            break
        shutil.rmtree(made, ignore_errors=True)
    assert done.returncode == 0, done.stderr[:3000]  # its end is torchrun's own table, which says nothing of the cause
    return done
