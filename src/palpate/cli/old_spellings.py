"""Command lines as they were before verbs and options were renamed: still read, not in `--help`, and named as renamed.

The words are translated before any verb sees them, so nothing behind this file knows an old name.
"""

from __future__ import annotations

from collections.abc import Sequence

VERBS: dict[str, str] = {"look": "audit"}  # old verb: new verb
SUBVERBS = {"session": {"drop": "reject"}}  # of a verb: old verb below it: new verb
# Options that have become verbs: `segment --batch jobs.csv` is `batch jobs.csv`.
OPTIONS_TO_VERBS = {"segment": {"--batch": "batch", "--auto": "propose"}}
WITH_VALUE = ("--log",)  # options before the verb whose value is the next word
_PROMPTS = {"--not": "--background", "--prior": "--initial-mask", "--least-ml": "--min-ml"}
# Options of a verb, and of the verbs below it; those of an option that became a verb are still listed here.
OPTIONS: dict[str, dict[str, str]] = {
    "segment": _PROMPTS,
    "look": {"--lesion": "--target"},
    "session": _PROMPTS,
    "train": {"--stored": "--weights-dtype", "--validations": "--num-validations"},
}


def modern(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line in today's words.

    Args:
        words: what follows `palpate`.

    Returns:
        The words as they are spelled today, and for each old spelling a clause that names the new one.
    """
    place = _verb_place(words)
    if place is None:
        return list(words), []
    verb, rest, clauses = words[place], list(words[place + 1 :]), []
    below = SUBVERBS.get(verb, {})
    if rest and rest[0] in below:
        clauses.append(f"`palpate {verb} {rest[0]}` is now `palpate {verb} {below[rest[0]]}`")
        rest[0] = below[rest[0]]
    end = rest.index("--") if "--" in rest else len(rest)
    options, values = rest[:end], rest[end:]
    if verb in VERBS:
        clauses.append(f"`palpate {verb}` is now `palpate {VERBS[verb]}`")
    renamed = OPTIONS.get(verb, {})
    verbs = OPTIONS_TO_VERBS.get(verb, {})
    today = VERBS.get(verb, verb)
    translated = []
    for word in options:
        name, equals, value = word.partition("=")
        if name in verbs:
            today = verbs[name]
            clauses.append(f"`palpate {verb} {name}` is now `palpate {today}`")
            translated += [value] if equals else []
        elif name in renamed:
            clauses.append(f"{name} is now {renamed[name]}")
            translated.append(f"{renamed[name]}{equals}{value}")
        else:
            translated.append(word)
    return [*words[:place], today, *translated, *values], list(dict.fromkeys(clauses))


def _verb_place(words: Sequence[str]) -> int | None:
    """Where the verb is: the first word that is neither an option before the verb nor its value."""
    is_value = False
    for place, word in enumerate(words):
        if not is_value and not word.startswith("-"):
            return place
        is_value = word in WITH_VALUE and not is_value
    return None
