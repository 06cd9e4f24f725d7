// The matrix of heads and sets: another metric, sorting, filtering, and the choice of a head and set.
const matrix = {
  table: document.querySelector("table.matrix"),
  data: DATA.matrix,
  metric: DATA.matrix.metrics[0],
  sorted: null,
  rows: [...document.querySelectorAll("table.matrix tbody tr")],
};

function cellOf(row, column) {
  return matrix.data.cells[matrix.metric.key][row][column];
}

function showMetric() {
  const { metrics, columns } = matrix.data;
  matrix.metric = metrics.find((one) => one.key === byId("metric").value);
  const best = columns.map((_, column) => {
    const values = matrix.rows.map((_, row) => cellOf(row, column)).filter(Boolean).map((cell) => Number(percent(cell[1])));
    return values.length > 1 ? Math[matrix.metric.higher ? "max" : "min"](...values) : NaN;
  });
  matrix.rows.forEach((line, row) => {
    [...line.cells].slice(1).forEach((td, column) => {
      const cell = cellOf(row, column);
      td.textContent = cell ? percent(cell[1]) : "-";
      td.classList.toggle("best", Boolean(cell) && Number(percent(cell[1])) === best[column]);
      if (!cell) return td.removeAttribute("style");
      td.style.setProperty("--v", cell[0]);
      const bounds = cell.length > 2 ? `[${percent(cell[2])}, ${percent(cell[3])}]` : "";
      td.title = `${columns[column].title}: ${matrix.metric.title} ${percent(cell[1], 2)} % ${bounds}`;
      if (bounds) td.append(element("small", {}, bounds));
    });
  });
  byId("legend-low").textContent = `${percent(matrix.metric.ends[0])} or worse`;
  byId("legend-high").textContent = `${percent(matrix.metric.ends[1])}, the best`;
  matrix.table.caption.textContent = `${matrix.metric.title} of each head on each set, in percent`;
}

/** Sort by a column, or by the name of the head; a second click reverses the order. */
function sortBy(key, reverse) {
  const better = key === "head" || !matrix.metric.higher ? 1 : -1;
  const sign = reverse ? -better : better;
  const value = (row) => (key === "head" ? row : cellOf(row, Number(key))?.[1]);
  const names = matrix.rows.map((line) => line.cells[0].title);
  const order = matrix.rows.map((_, row) => row).sort((a, b) => {
    if (key === "head") return sign * names[a].localeCompare(names[b], "en", { numeric: true });
    const [first, second] = [value(a), value(b)];
    if (first === undefined || second === undefined) return (first === undefined) - (second === undefined);
    return sign * (first - second) || a - b;
  });
  matrix.table.tBodies[0].append(...order.map((row) => matrix.rows[row]));
  for (const th of matrix.table.tHead.rows[0].cells) {
    if (th.dataset.sort === key) th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    else th.removeAttribute("aria-sort");
  }
  matrix.sorted = { key, reverse };
}

function showIntervals() {
  matrix.table.classList.toggle("bare", !byId("intervals")?.checked);
}

function filterRows() {
  const wanted = byId("filter").value.trim().toLowerCase();
  let shown = 0;
  for (const line of matrix.rows) {
    line.hidden = !line.cells[0].title.toLowerCase().includes(wanted);
    shown += !line.hidden;
  }
  byId("shown").textContent = wanted ? `${shown} of ${matrix.rows.length} heads` : "";
}

function filterColumns() {
  const wanted = byId("group").value;
  matrix.data.columns.forEach((column, index) => {
    const hidden = wanted !== "" && column.group !== wanted;
    for (const line of [matrix.table.tHead.rows[0], ...matrix.rows]) line.cells[index + 1].hidden = hidden;
  });
}

/** Mark the chosen head and set. */
function markChoice(row, column) {
  matrix.rows.forEach((line, index) => {
    line.classList.toggle("chosen", index === row);
    [...line.cells].slice(1).forEach((td, place) => td.classList.toggle("chosen", index === row && place === column));
  });
}

/** Make the cells of the table buttons; `choose(row, column)` is called with the choice, null for the same column. */
function startMatrix(choose) {
  for (const th of matrix.table.tHead.rows[0].cells) {
    const button = element("button", { type: "button" }, ...th.childNodes);
    button.addEventListener("click", () => sortBy(th.dataset.sort, matrix.sorted?.key === th.dataset.sort && !matrix.sorted.reverse));
    th.append(button);
  }
  matrix.rows.forEach((line, row) => {
    const name = line.cells[0];
    const button = element("button", { type: "button" }, ...name.childNodes);
    button.addEventListener("click", () => choose(row, null));
    name.append(button);
    [...line.cells].slice(1).forEach((td, column) => td.addEventListener("click", () => choose(row, column)));
  });
  byId("metric").addEventListener("change", () => {
    showMetric();
    if (matrix.sorted) sortBy(matrix.sorted.key, false);
  });
  byId("filter").addEventListener("input", filterRows);
  byId("intervals")?.addEventListener("change", showIntervals);
  byId("group")?.addEventListener("change", filterColumns);
  showMetric();
  showIntervals();
}
