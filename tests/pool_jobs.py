"""What the workers of pool tests do, in a module that a spawned process can import."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from palpate.errors import ModelError
from palpate.files import replacing


class UnpicklableError(Exception):
    """An error that another process cannot make again."""

    def __init__(self, one: str, two: str):
        super().__init__(f"{one} and {two}")


def do(job: str) -> str:
    """Do what the job's text says: "die", "raise", "sleep 600 PATH", ... or answer with it and the process's number."""
    verb, *words = job.split()
    match verb:
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            sys.exit(3)
        case "raise":
            raise ValueError("no such word")
        case "odd":
            raise UnpicklableError("one", "two")
        case "unsendable":
            return lambda: None  # type: ignore[return-value]
        case "sleep":
            with replacing(words[1]) as (staged,):
                staged.write_text("half")
                time.sleep(float(words[0]))
        case "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
    return f"{job} {os.getpid()}"


def ready() -> Callable[[str], str]:
    """A start that has nothing to load."""
    return do


def refusing() -> Callable[[str], str]:
    """A start without a model."""
    raise ModelError("no model 'none'; name another")


def dying() -> Callable[[str], str]:
    """A start that the system kills."""
    os.kill(os.getpid(), signal.SIGKILL)
    return do


def dying_once(marker: Path) -> Callable[[str], str]:
    """A start that the system kills the first time."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return do


def failing() -> Callable[[str], str]:
    """A start with a fault of the program."""
    raise RuntimeError("a fault")


def ignores_interrupts(_: int) -> bool:
    """Whether this process hears no Ctrl-C."""
    return signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def number_of(word: str) -> int:
    """A word as a number."""
    return int(word)


def waiting_of(_: int) -> str | None:
    """How this process's OpenMP threads wait, by its environment."""
    return os.environ.get("OMP_WAIT_POLICY")
