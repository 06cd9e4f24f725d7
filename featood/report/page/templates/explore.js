// The choice of a head, a set and a threshold, and the figures that follow it.
const HEADS = DATA.heads.flatMap((head, row) => (head ? [row] : []));
const state = { head: HEADS[0], set: OUTLIERS[0], at: 0, curve: null, rates: {} };

function chooseHead(head) {
  state.head = head;
  state.curve = DATA.heads[head];
  state.at = state.curve.start;
  state.rates = Object.fromEntries(OUTLIERS.map((set) => [set, ratesOf(state.curve, set)]));
  byId("head").value = head;
  byId("threshold").max = state.curve.thresholds.length - 1;
  for (const figure of document.querySelectorAll(".plane")) figure.hidden = Number(figure.dataset.head) !== head;
  draw();
}

function chooseSet(set) {
  state.set = set;
  byId("set").value = set;
  draw();
}

function moveTo(position) {
  state.at = Math.max(0, Math.min(state.curve.thresholds.length - 1, position));
  draw();
}

let waiting = false;
/** Draw everything before the next frame, once for several changes. */
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    byId("threshold").value = state.at;
    byId("threshold").setAttribute("aria-valuetext", `score ${shortNumber(state.curve.thresholds[state.at])}`);
    drawHistogram(state);
    drawRates(state);
    drawRisk(state);
    showDecisions(state);
    showRows(state);
    drawMap(state);
    const column = matrix.data.columns.findIndex((one) => !one.mean && one.title === DATA.sets[state.set].name);
    markChoice(state.head, column);
    const cell = matrix.data.cells.auroc?.[state.head][column];
    byId("auroc").textContent = cell ? `AUROC ${percent(cell[1], 2)} %` : "";
  });
}

/** Move the threshold to the largest one at or below the score under the pointer. */
function dragThreshold(event) {
  const svg = byId("histogram").firstElementChild;
  const frame = svg.getBoundingClientRect();
  const score = state.fromPixel(((event.clientX - frame.left) / frame.width) * svg.viewBox.baseVal.width);
  moveTo(state.curve.thresholds.findLastIndex((threshold) => threshold <= score));
}

function startExplore() {
  byId("head").append(...HEADS.map((head) => element("option", { value: head }, DATA.heads[head].name)));
  byId("set").append(...OUTLIERS.map((set) => element("option", { value: set }, DATA.sets[set].name)));
  byId("keys").append(...setKeys(OUTLIERS, "key line"));
  byId("head").addEventListener("change", (event) => chooseHead(Number(event.target.value)));
  byId("set").addEventListener("change", (event) => chooseSet(Number(event.target.value)));
  byId("threshold").addEventListener("input", (event) => moveTo(Number(event.target.value)));
  byId("reset").addEventListener("click", () => moveTo(state.curve.start));
  byId("plane")?.addEventListener("change", draw);
  for (const input of document.querySelectorAll("input[name=colour]")) input.addEventListener("change", draw);
  const plot = byId("histogram");
  plot.addEventListener("pointerdown", (event) => {
    plot.setPointerCapture(event.pointerId);
    dragThreshold(event);
  });
  plot.addEventListener("pointermove", (event) => plot.hasPointerCapture(event.pointerId) && dragThreshold(event));
  new ResizeObserver(draw).observe(plot);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  chooseHead(state.head);
}

document.documentElement.classList.add("js");
startMatrix((row, column) => {
  if (!HEADS.includes(row)) return;
  const set = column === null ? -1 : DATA.sets.findIndex((one) => one.kind === "ood" && one.name === matrix.data.columns[column].title);
  if (set >= 0) chooseSet(set);
  chooseHead(row);
  const { top } = byId("explore").getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) byId("explore").scrollIntoView();
});
if (HEADS.length) startExplore();
drawReliability();
if (byId("reliability")) new ResizeObserver(drawReliability).observe(byId("reliability"));
