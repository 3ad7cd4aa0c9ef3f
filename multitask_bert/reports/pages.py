"""HTML pages that need no other file: a Jinja2 template, tables, and figures inside the page.

Every page extends `templates/base.html`, which has the title, a list of facts, the style and the script that sorts
tables. Macros for tables and plots are in `templates/parts.html`. All values are escaped; the content security policy
of a page forbids everything but its own style, images and script.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_bert.utils.visible import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent / "templates"
SORT_SCRIPT = TEMPLATES / "sort_tables.js"
PIXELS_PER_INCH, SHARPNESS = 100, 2  # pixels of the page per inch of a figure; image pixels per pixel of the page


@dataclass(frozen=True)
class TextTable:
    """A table of text; `num_names`: columns on the left that hold names, the others hold numbers.

    `num_settings`: how many of the names, the last ones, are values of settings; a line shows them as `setting=value`.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 2
    note: str = ""
    num_settings: int = 0


@dataclass(frozen=True)
class Plot:
    """An image of a page; `name`: of its file, without `.png`."""

    name: str
    title: str
    caption: str
    png: bytes

    @property
    def width(self) -> int:
        """Pixels of the page; the image has `SHARPNESS` times as many."""
        return int.from_bytes(self.png[16:20]) // SHARPNESS  # a PNG begins with signature, IHDR, width

    @property
    def source(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def png_of(figure: Figure) -> bytes:
    """The figure as PNG, without empty margins."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=PIXELS_PER_INCH * SHARPNESS, bbox_inches="tight")
    return file.getvalue()


def render(template: str, *, title: str, **values: Any) -> bytes:
    """The page of `templates/<template>`; `title` is its heading, `values` are what the template names.

    Raises:
        jinja2.UndefinedError: the template names a value that is not given.
    """
    script = SORT_SCRIPT.read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template).render(
        title=title, sort_script=_markup(script), script_hash=script_hash, **values
    )  # fmt: skip
    return page.encode(errors="replace")


def percent(share: float) -> str:
    """A share as `12.3%`, and a small one as `0.0042%` rather than `0.0%`."""
    return f"{100 * share:.1f}%" if share == 0 or share >= 0.01 else f"{100 * share:.2g}%"


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=_finalize,
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip


def _finalize(value: Any) -> Any:
    """Show control characters of every value that a template prints."""
    return value if hasattr(value, "__html__") else visible(str(value))


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)
