"""`palpate doctor`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from ..errors import PalpateError
from . import machine
from .console import FAULTY, Console, app
from .inference import Machine
from .verbs import verb


@verb(app, examples=("palpate doctor", "palpate doctor --device cuda --precision bfloat16", "palpate doctor --json"))
def doctor(console: Console, machine_options: Machine) -> None:
    """Show what a bug report needs: versions, machine, threads, extras, caches, and the time of a click.

    Exit code 1: something that Palpate needs does not work.
    """
    record: dict[str, Any] = {"versions": machine.versions(), "errors": {}}
    parts: dict[str, Callable[[], Any]] = {
        "cpu": machine.processor,
        "memory": machine.memory,
        "devices": machine.devices,
        "threads": machine.threads,
        "extras": machine.extras,
        "weights": machine.weights_folder,
        "cache": machine.feature_cache,
        "click": lambda: machine.timed_click(machine_options.settings("palpate-tiny")),
    }
    for name, part in parts.items():
        with console.step(name, f"checking {name}"):
            try:
                record[name] = part()
            except (ImportError, OSError, RuntimeError, PalpateError) as error:  # a broken part is what is asked for
                record[name] = None
                record["errors"][name] = f"{type(error).__name__}: {error}"
    record["configuration"] = None if console.config is None else machine.short(console.config.absolute())
    record["advice"] = _advice(record)
    console.result(record, _lines(record))
    if record["errors"]:
        raise typer.Exit(FAULTY)


def _advice(record: dict[str, Any]) -> list[str]:
    """What could be mended, a sentence each."""
    advice = []
    if record["threads"] and record["threads"]["spins"]:
        variables = ", ".join(record["threads"]["waiting"]) or "none"
        advice.append(
            "threads spin while they wait, so that a click takes many times as long beside another busy process: set "
            f"OMP_WAIT_POLICY=PASSIVE, and unset what says otherwise (set now: {variables})"
        )
    if (record["versions"]["torch"] or "").startswith("2.9."):
        advice.append("torch 2.9 is 4 to 20 times slower in bfloat16 and float16 on CUDA: install another version")
    if record["cpu"] and record["cpu"]["usable_cores"] == 1:
        advice.append("this process may use one core only")
    return advice


def _lines(record: dict[str, Any]) -> list[str]:
    found = record["versions"]
    own = ("palpate", "python", "platform")
    lines = [
        f"palpate {found['palpate']}, Python {found['python']}, {found['platform']}",
        "packages: " + ", ".join(f"{name} {found[name] or 'MISSING'}" for name in found if name not in own),
    ]
    writers: dict[str, Callable[[Any], list[str]]] = {
        "cpu": _cpu,
        "memory": _memory,
        "devices": _devices,
        "threads": _threads,
        "extras": _extras,
        "weights": _weights,
        "cache": _cache,
        "click": _click,
    }
    for name, write in writers.items():
        lines += [f"{name}: {record['errors'][name]}"] if name in record["errors"] else write(record[name])
    lines.append(f"configuration: {record['configuration'] or 'none'} (palpate.toml; PALPATE_CONFIG names another)")
    return [*lines, *(f"advice: {sentence}" for sentence in record["advice"])]


def _cpu(cpu: dict[str, Any]) -> list[str]:
    features = ", ".join(cpu["features"]) or "none of AVX2, AVX-512, AMX, bf16 known"
    return [f"CPU: {cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores usable; {features}"]


def _memory(memory: dict[str, Any]) -> list[str]:
    words = {"total_gb": "GB", "available_gb": "GB available", "limit_gb": "GB at most in this container"}
    return [
        "memory: " + ", ".join(f"{memory[name]:g} {unit}" for name, unit in words.items() if memory[name] is not None)
    ]


def _devices(devices: list[dict[str, Any]]) -> list[str]:
    first, *others = devices
    lines = [f"device: cpu ({first['instructions']})"]
    for each in others:
        lines.append(
            f"device: {each['device']} ({each['name']}, {each['memory_gb']:g} GB, capability {each['capability']})"
        )
    return lines


def _threads(threads: dict[str, Any]) -> list[str]:
    variables = ", ".join(f"{name}={value}" for name, value in threads["waiting"].items()) or "nothing set"
    if threads["threads"] == 1:
        return [f"threads: 1, which waits for no other ({threads['openmp']}; {variables})"]
    how = "spin" if threads["spins"] else "sleep"
    used = f"{threads['busy_while_waiting']:.2f} of a core used"
    return [f"threads: {threads['threads']}, which {how} while they wait ({used}; {threads['openmp']}; {variables})"]


def _extras(extras: dict[str, Any]) -> list[str]:
    lines = []
    for extra, state in extras.items():
        if state["missing"]:
            lines.append(f"extra {extra}: {', '.join(state['missing'])} missing; {state['install']}")
        else:
            lines.append(f"extra {extra}: installed")
    return lines


def _weights(weights: dict[str, Any]) -> list[str]:
    return [f"weights: {weights['folder']}, {weights['files']} files, {weights['bytes'] / 1e6:,.0f} MB"]


def _cache(cache: dict[str, Any]) -> list[str]:
    return [f"cache: at most {cache['max_bytes'] / 1e9:.1f} GB of features in memory ({cache['variable']} changes it)"]


def _click(click: dict[str, Any]) -> list[str]:
    return [
        f"click: {click['first_seconds']:.2f} s, a further one {click['further_seconds']:.2f} s "
        f"({click['model']}, {click['device']}, {click['precision']}, a synthetic nodule of 28 mm)"
    ]
