for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  headings.forEach((heading, column) => {
    heading.querySelector("button").onclick = () => {
      // Numbers begin with the largest, names with A.
      const before = heading.getAttribute("aria-sort");
      const ascending = before ? before === "descending" : column === 0;
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const text = row => row.cells[column].textContent.trim();
      const value = row => row.cells[column].dataset.value === "" ? -Infinity : Number(row.cells[column].dataset.value);
      const compare = column ? (a, b) => Math.sign(value(a) - value(b)) || 0
                             : (a, b) => text(a).localeCompare(text(b), language, { numeric: true });
      body.append(...[...body.rows].sort((a, b) => ascending ? compare(a, b) : compare(b, a)));
    };
  });
}
