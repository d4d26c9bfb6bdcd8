"""Freed memory that a training keeps."""

import platform
import subprocess
import sys

import pytest

from palpate.training.freed_memory import keep_freed_memory

# Page faults of twenty blocks of 64 MB, one freed before the next; every page of a block is written.
FAULTS = """
import resource
import torch
from palpate.training.freed_memory import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS.format(keep=keep)], check=True, capture_output=True, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc's malloc alone")
def test_blocks_are_taken_again() -> None:
    assert faults(keep=True) < faults(keep=False) / 2


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
