"""Two processes, as torchrun starts them."""

import shutil
import subprocess
import sys
from pathlib import Path


def in_two_processes(arguments: list[str], made: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments in two processes that train together.

    Once in some seventy runs a process was aborted (SIGABRT) for a reason that was not seen; gloo, which carries their
    words, is known to do so when the other one closes. What was `made` is then removed, and they are run once more.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0 or "SIGABRT" not in done.stderr:
            break
        shutil.rmtree(made, ignore_errors=True)
    assert done.returncode == 0, done.stderr[:3000]  # its end is torchrun's own table, which says nothing of the cause
    return done
