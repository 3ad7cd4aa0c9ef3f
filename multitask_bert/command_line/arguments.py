"""The words of the command line, in an order that Hydra can read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

WITH_VALUE = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--experimental-rerun",
}  # fmt: skip
INFO = {"--info", "-i"}  # its value may be left out, so what follows it must stay


def options_first(arguments: Sequence[str]) -> list[str]:
    """Options before overrides: `tasks=ner -m seed=1,2` -> `-m tasks=ner seed=1,2`.

    Hydra's parser, as Python's usual one, refuses overrides on both sides of an option.
    """
    if INFO & {*arguments}:
        return list(arguments)
    options, overrides = [], []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            overrides.append(word)
            continue
        options.append(word)
        if word in WITH_VALUE:
            options += islice(words, 1)
    return [*options, *overrides]
