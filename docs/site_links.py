"""A hook of MkDocs: links that leave docs/, to code or to the README, become text, since the site has no such page."""

from __future__ import annotations

import posixpath
import re
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    folder = posixpath.dirname(page.file.src_uri)

    def shown(link: re.Match[str]) -> str:
        leaves = posixpath.normpath(f"{folder or '.'}/{link[2]}").startswith("..")
        return link[1] if leaves else link[0]

    return LINK.sub(shown, markdown)
