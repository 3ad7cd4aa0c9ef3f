"""The page of a served model: one HTML file with style and script inside, which asks the server for predictions.

What the script shows, it shows as text: neither a text nor a label ever becomes HTML.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"


def page_of(
    *, name: str, heads: Mapping[str, Any], input_types: Sequence[str], examples: Sequence[Any]
) -> tuple[str, str]:
    """The page and its content security policy, which allows the page's own style and script, and this server.

    `heads`: type and labels by task and head; `input_types`: those that the model reads (keys of `inputs.KEYS`);
    `examples`: inputs that the page offers.
    """
    style, script = (_read(file) for file in ("page.css", "page.js"))
    facts = {"heads": heads, "inputTypes": list(input_types), "examples": list(examples)}
    facts_json = json.dumps(facts).replace("<", "\\u003c")  # no text can end the element that holds it
    parts = {"STYLE": style, "SCRIPT": script, "NAME": html.escape(name), "FACTS": facts_json}
    page = re.sub("@([A-Z]+)@", lambda mark: parts[mark[1]], _read("page.html"))
    policy = (
        f"default-src 'none'; connect-src 'self'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _read(file: str) -> str:
    return (ASSETS / file).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
