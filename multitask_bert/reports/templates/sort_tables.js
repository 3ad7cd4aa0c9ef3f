document.querySelectorAll("thead th").forEach(head => head.addEventListener("click", () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const text = row => row.cells[column].textContent.trim();
  const number = row => /^[-+]?[\d.,]+(e[-+]?\d+)?(%|\s|$)/i.test(text(row)) ? parseFloat(text(row).replaceAll(",", "")) : NaN;
  const rows = [...body.rows], isMissing = row => ["", "-"].includes(text(row));
  const known = rows.filter(row => !isMissing(row));
  const sign = head.ariaSort === "ascending" ? -1 : 1;
  const byNumber = (a, b) => number(a) - number(b);
  const byText = (a, b) => text(a).localeCompare(text(b), undefined, { numeric: true });
  const compare = known.some(row => isNaN(number(row))) ? byText : byNumber;
  known.sort((a, b) => sign * compare(a, b));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  body.append(...known, ...rows.filter(isMissing));
}));
