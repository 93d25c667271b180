// A click on a heading sorts its column: numbers from the largest first, words from the first; a second click turns it.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const value = (row) => {
      const cell = row.cells[column];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
    };
    const numeric = head.classList.contains("number");
    const now = head.getAttribute("aria-sort");
    const ascending = numeric ? now === "descending" : now !== "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;  // cells without a number stay below
      const difference = typeof x === "number" ? x - y : x.localeCompare(y);
      return ascending ? difference : -difference;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
  }));
}
