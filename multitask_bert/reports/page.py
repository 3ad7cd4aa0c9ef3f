"""An inspection as one HTML page that needs nothing else: tables, and plots as SVG.

`document`, `escape` and `html_table` serve other pages too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape as escape_html
from pathlib import Path

from multitask_bert.reports.inspection import Inspection
from multitask_bert.reports.splits import SplitFigures
from multitask_bert.reports.tables import Rows, tables_of
from multitask_bert.utils.files import write_bytes
from multitask_bert.utils.visible import visible

NUM_LABELS_DRAWN = 40
WIDTH, HEIGHT = 360, 110  # of a histogram, in pixels
BAR_HEIGHT, BAR_WIDTH, LABEL_WIDTH = 16, 180, 150
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 78rem; padding: 0 1em; color: #1c2733; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; } h3 { font-size: 1em; margin: 1.5em 0 .3em; }
table { border-collapse: collapse; } .wide { overflow-x: auto; }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #d8dee6; white-space: nowrap; }
th.name, td.name { text-align: left; } td.labels { text-align: left; white-space: normal; }
.plots { display: flex; flex-wrap: wrap; gap: 1.2em 2em; } figure { margin: 0; } figcaption { color: #5a6775; }
svg { display: block; } svg text { font-size: 11px; fill: #1c2733; } svg rect { fill: #3b7cb8; }
svg rect.cut { fill: #c8553d; } svg line { stroke: #c8553d; stroke-dasharray: 4 3; }
.note { color: #5a6775; } .leak { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { background: #14191f; color: #dbe3ea; } svg text { fill: #dbe3ea; } th, td { border-color: #38434f; }
  .note, figcaption { color: #93a1af; }
}
"""


def write_page(path: Path, inspection: Inspection) -> None:
    """The page, written whole or not at all."""
    tasks = list(dict.fromkeys(split.task for split in inspection.splits))
    sizes, lengths, _, leaks, plan = tables_of(inspection)
    parts = [
        *html_table(sizes),
        *html_table(lengths),
        *html_table(plan),
        *html_table(leaks),
        *_examples_of_leaks(inspection),
    ]
    for task in tasks:
        splits = [split for split in inspection.splits if split.task == task]
        parts += [f"<h2>{escape(task)}</h2><h3>Length in pieces</h3>", '<div class="plots">']
        parts += [_figure(split.split, _histogram(split, inspection.max_length)) for split in splits]
        parts.append("</div>")
        for head in splits[0].labels:
            parts += [f"<h3>Labels of {escape(head)}</h3>", '<div class="plots">']
            parts += [_figure(_caption(split, head), _bars(split, head)) for split in splits]
            parts.append("</div>")
    write_bytes(path, document(f"Data of {', '.join(tasks)}", parts))


def document(title: str, parts: Iterable[str], *, style: str = "") -> bytes:
    """A page of its own. `parts`: HTML; `style`: rules beyond those that all pages share."""
    head = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
    ]
    return "\n".join([*head, *parts, "</body></html>", ""]).encode(errors="replace")


def escape(text: str) -> str:
    """The text for an element or an attribute, with control characters made visible."""
    return escape_html(visible(text))


def html_table(table: Rows) -> Iterator[str]:
    """With its title above and its note below."""
    yield f"<h2>{escape(table.title)}</h2>"
    if table.rows:
        yield '<div class="wide"><table>'
        kinds = [' class="name"' if place < table.num_names else "" for place in range(len(table.columns))]
        for tag, row in (("th", table.columns), *(("td", row) for row in table.rows)):
            cells = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))
            yield f"<tr>{''.join(cells)}</tr>"
        yield "</table></div>"
    yield f'<p class="note">{escape(table.note)}</p>'


def _examples_of_leaks(inspection: Inspection) -> Iterator[str]:
    for leak in inspection.leaks:
        where = f"{leak.task} {leak.split}, in {leak.train_task} train: {leak.num_examples:,}"
        yield f"<details><summary>{escape(where)}</summary><ul>"
        for there, here, text in leak.places:
            yield f'<li class="leak">{escape(there)} = {escape(here)}: {escape(text)}</li>'
        yield "</ul></details>"


def _figure(caption: str, drawing: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawing}</figure>"


def _caption(split: SplitFigures, head: str) -> str:
    missing = split.num_missing[head]
    return split.split + (f" ({missing:,} missing)" if missing else "")


def _histogram(split: SplitFigures, max_length: int) -> str:
    """Examples by length; those to the right of the line are cut."""
    bins, width = split.lengths.bins, split.lengths.bin_width
    step = WIDTH / len(bins)
    highest = max(1, *bins)
    drawn = []
    for place, count in enumerate(bins):
        height = HEIGHT * count / highest
        first, last = place * width, (place + 1) * width - 1
        title = f"{first:,} {'or more' if place + 1 == len(bins) else f'to {last:,}'} pieces: {count:,}"
        kind = ' class="cut"' if first > max_length else ""
        drawn.append(
            f'<rect{kind} x="{place * step:.1f}" y="{HEIGHT - height:.1f}" width="{step * 0.9:.1f}" '
            f'height="{height:.1f}"><title>{title}</title></rect>'
        )
    line = min(WIDTH, (max_length + 1) / width * step)
    drawn.append(f'<line x1="{line:.1f}" y1="0" x2="{line:.1f}" y2="{HEIGHT}"><title>max_length</title></line>')
    drawn.append(f'<text x="0" y="{HEIGHT + 14}">0</text>')
    drawn.append(f'<text x="{WIDTH}" y="{HEIGHT + 14}" text-anchor="end">{len(bins) * width:,}</text>')
    if line < 0.8 * WIDTH:  # else the two figures would touch
        drawn.append(f'<text x="{line:.1f}" y="{HEIGHT + 14}" text-anchor="middle">{max_length:,}</text>')
    return _svg(WIDTH, HEIGHT + 18, drawn)


def _bars(split: SplitFigures, head: str) -> str:
    """Examples (or words) by label, the commonest first."""
    counts = list(split.labels[head].items())
    most = max([1, *(count for _, count in counts)])
    drawn = []
    for place, (label, count) in enumerate(counts[:NUM_LABELS_DRAWN]):
        y = place * BAR_HEIGHT
        name = label if len(label) <= 22 else f"{label[:21]}…"
        length = BAR_WIDTH * count / most
        drawn.append(
            f'<text x="{LABEL_WIDTH - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{LABEL_WIDTH}" y="{y + 2}" width="{length:.1f}" height="{BAR_HEIGHT - 4}">'
            f"<title>{escape(label)}: {count:,}</title></rect>"
            f'<text x="{LABEL_WIDTH + length + 4:.1f}" y="{y + 12}">{count:,}</text>'
        )
    if (more := len(counts) - NUM_LABELS_DRAWN) > 0:
        drawn.append(f'<text x="{LABEL_WIDTH}" y="{NUM_LABELS_DRAWN * BAR_HEIGHT + 12}">and {more:,} more</text>')
    rows = min(len(counts), NUM_LABELS_DRAWN + 1)
    return _svg(LABEL_WIDTH + BAR_WIDTH + 60, rows * BAR_HEIGHT, drawn)


def _svg(width: int, height: int, drawn: Sequence[str]) -> str:
    return f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">{"".join(drawn)}</svg>'
