"""How OpenMP's threads wait."""

import os
import subprocess
import sys

import pytest

from palpate import openmp

# The share of a core that the threads use while there is nothing to do: each parallel sum is followed by a pause.
BUSY_WHILE_WAITING = """
import os, sys, time
import palpate.openmp
if sys.argv[1] == "passive":
    palpate.openmp.wait_passively()
import torch
torch.set_num_threads(2)
numbers = torch.ones(1 << 18)
numbers.sum()
began, used = time.perf_counter(), time.process_time()
for _ in range(40):
    numbers.sum()
    time.sleep(0.01)
print((time.process_time() - used) / (time.perf_counter() - began))
"""


@pytest.fixture(autouse=True)
def no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in openmp.CHOICES:
        monkeypatch.delenv(name, raising=False)


def test_threads_of_a_process_that_asked_for_it_sleep() -> None:
    """OpenMP reads what Python sets, as long as torch comes after it."""
    command = [sys.executable, "-c", BUSY_WHILE_WAITING, "passive"]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )
    assert float(said.stdout) < 0.2


@pytest.mark.parametrize("name", openmp.CHOICES)
def test_what_the_user_chose_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1000")
    openmp.wait_passively()
    assert openmp.chosen() == {name: "1000"}
    with openmp.passive_children():
        assert openmp.chosen() == {name: "1000"}
    assert openmp.chosen() == {name: "1000"}


def test_children_inherit_it_and_the_process_keeps_its_own() -> None:
    show = "import os; print(os.environ.get('OMP_WAIT_POLICY'))"
    with openmp.passive_children():
        said = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout
    assert said == "PASSIVE\n"
    assert openmp.chosen() == {}


def test_the_library_leaves_the_environment_alone() -> None:
    code = "import os; before = dict(os.environ); import palpate; palpate.Click; assert dict(os.environ) == before"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_line_waits_passively() -> None:
    code = (
        "import os, sys; sys.argv = ['palpate', '--version']\nfrom palpate.cli import main\n"
        "try: main()\nexcept SystemExit: print(os.environ['OMP_WAIT_POLICY'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "PASSIVE"
