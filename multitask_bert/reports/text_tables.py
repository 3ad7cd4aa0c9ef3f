"""Tables of text as Markdown and as LaTeX, to paste into a page or a paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from multitask_bert.reports.pages import TextTable

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": "$<$", ">": "$>$", "\u00a0": "~",
}  # fmt: skip


def as_markdown(table: TextTable) -> str:
    """A heading, the table and its note."""
    align = ["---" if index < table.num_names else "---:" for index in range(len(table.columns))]
    rows = [table.columns, align, *table.rows]
    lines = [f"| {' | '.join(_in_markdown(cell) for cell in row)} |" for row in rows]
    return "\n".join([f"## {table.title}", "", *lines, *(["", table.note] if table.note else []), ""])


def as_latex(table: TextTable) -> str:
    """A `table` with a caption; it needs the package booktabs."""
    names = "l" * table.num_names + "r" * (len(table.columns) - table.num_names)
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_in_latex(f'{table.title}. {table.note}'.strip())}}}",
        rf"\begin{{tabular}}{{{names}}}", r"\toprule", _row(table.columns, _in_latex), r"\midrule",
        *(_row(row, _in_latex) for row in table.rows), r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def _row(cells: Sequence[str], write: Callable[[str], str]) -> str:
    return " & ".join(map(write, cells)) + r" \\"


def _in_markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
