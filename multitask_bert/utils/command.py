"""How the program was started, for messages that tell the user what to type."""

from __future__ import annotations

import sys
from pathlib import PurePath

INSTALLED = "multitask-bert"


def command() -> str:
    """`python run.py`, or the name of the installed command."""
    return INSTALLED if PurePath(sys.argv[0]).stem == INSTALLED else "python run.py"
