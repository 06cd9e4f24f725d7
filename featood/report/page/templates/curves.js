// Figures of one head's scores: histogram, ROC, DET, precision and recall, risk and coverage.
const INLIERS = DATA.sets.flatMap((set, index) => (set.kind === "ood" ? [] : [index]));
const OUTLIERS = DATA.sets.flatMap((set, index) => (set.kind === "ood" ? [index] : []));
const colour = (set) => (INLIERS.includes(set) ? "var(--id)" : `var(--s${OUTLIERS.indexOf(set) % 6})`);
const dashes = (set) => ["none", "6 3", "2 3"][Math.floor(OUTLIERS.indexOf(set) / 6) % 3];
const SHARES = [0, 0.25, 0.5, 0.75, 1];
const asPercent = (share) => `${Number((100 * share).toPrecision(3))} %`;

/** Numbers of rows of ID and of a set that are accepted at a threshold; at -1, none are. */
function acceptedAt(curve, set, at) {
  const below = (index) => (at < 0 ? 0 : curve.below[index][at]);
  return { id: INLIERS.reduce((sum, index) => sum + below(index), 0), ood: below(set) };
}

/** Error rates at every threshold: flagged ID, accepted OOD, and precision of OOD among the flagged rows. */
function ratesOf(curve, set) {
  const last = curve.thresholds.length - 1;
  const all = acceptedAt(curve, set, last);
  return Array.from({ length: last + 2 }, (_, position) => {
    const accepted = acceptedAt(curve, set, position - 1);
    const [fp, tp] = [all.id - accepted.id, all.ood - accepted.ood];
    return { fpr: fp / all.id, fnr: accepted.ood / all.ood, precision: fp + tp ? tp / (fp + tp) : 1 };
  });
}

function drawHistogram(state) {
  const { curve, at, set } = state;
  const [low, high] = curve.edges;
  const shares = curve.bins.map((bins, index) => bins.map((n) => n / curve.below[index].at(-1)));
  const joined = curve.bins[0].map((_, bin) => INLIERS.reduce((sum, index) => sum + curve.bins[index][bin], 0) / acceptedAt(curve, set, curve.thresholds.length - 1).id);
  const top = Math.max(...joined, ...OUTLIERS.flatMap((index) => shares[index])) * 1.05;
  const plot = chart(
    byId("histogram"),
    { domain: [low, high], ticks: ticksBetween(low, high, 6), title: "score" },
    { domain: [0, top], ticks: ticksBetween(0, top, 4), title: "rows of the set", label: asPercent },
    300,
  );
  const width = (high - low) / joined.length;
  const outline = (values) => values.flatMap((value, bin) => [[low + bin * width, value], [low + (bin + 1) * width, value]]);
  path([[low, 0], ...outline(joined), [high, 0]], plot, { class: "area" });
  for (const index of OUTLIERS) {
    path(outline(shares[index]), plot, { class: index === set ? "curve chosen" : "curve", style: `stroke:${colour(index)}`, "stroke-dasharray": dashes(index) });
  }
  const cut = plot.x(curve.thresholds[at]);
  plot.svg.append(
    svgElement("line", { class: "cut", x1: cut, x2: cut, y1: plot.box.top, y2: plot.box.bottom }),
    svgElement("circle", { cx: cut, cy: plot.box.top + 2, r: 5, fill: "var(--ink)" }),
  );
  state.fromPixel = (x) => low + ((x - plot.box.left) / (plot.box.right - plot.box.left)) * (high - low);
}

/** Draw a curve for each set, the chosen one last, and a dot at the threshold on it. */
function drawCurves(host, x, y, state, pointOf, chance) {
  const plot = chart(byId(host), x, y, 250);
  if (chance) path(chance, plot, { class: "chance" });
  const order = OUTLIERS.filter((index) => index !== state.set).concat(state.set);
  for (const index of order) {
    const points = state.rates[index].map(pointOf);
    const chosen = index === state.set;
    path(points, plot, { class: chosen ? "curve chosen" : "curve", style: `stroke:${colour(index)}`, "stroke-dasharray": dashes(index) });
    if (chosen) dot(plot, points[state.at + 1], colour(index));
  }
}

function dot(plot, [x, y], fill) {
  plot.svg.append(svgElement("circle", { class: "dot", cx: plot.x(x), cy: plot.y(y), r: 5, style: `fill:${fill}` }));
}

function drawRates(state) {
  const unit = (title) => ({ domain: [0, 1], ticks: SHARES, title, label: asPercent });
  const deviate = (title) => ({ domain: [0.001, 0.999], ticks: [0.01, 0.1, 0.5, 0.9, 0.99], title, label: asPercent, map: probit });
  drawCurves("roc", unit("ID flagged"), unit("OOD flagged"), state, (one) => [one.fpr, 1 - one.fnr], [[0, 0], [1, 1]]);
  drawCurves("det", deviate("ID flagged"), deviate("OOD accepted"), state, (one) => [one.fpr, one.fnr], [[0.001, 0.999], [0.999, 0.001]]);
  drawCurves("pr", unit("OOD flagged (recall)"), unit("precision"), state, (one) => [1 - one.fnr, one.precision]);
}

function drawRisk({ curve, at }) {
  byId("risk-figure").hidden = !curve.correct;
  if (!curve.correct) return;
  const total = curve.labelled.at(-1);
  const points = curve.labelled.flatMap((n, k) => (n ? [[n / total, 1 - curve.correct[k] / n]] : []));
  const top = Math.max(...points.map(([, risk]) => risk), 0.001) * 1.1;
  const plot = chart(
    byId("risk"),
    { domain: [0, 1], ticks: SHARES, title: "ID accepted (coverage)", label: asPercent },
    { domain: [0, top], ticks: ticksBetween(0, top, 4), title: "errors (risk)", label: asPercent },
    250,
  );
  path(points, plot, { class: "curve chosen", style: "stroke:var(--accent)" });
  const n = curve.labelled[at];
  if (n) dot(plot, [n / total, 1 - curve.correct[at] / n], "var(--accent)");
}

function drawReliability() {
  const host = byId("reliability");
  if (!host || !DATA.reliability) return;
  const { confidence, accuracy, rows } = DATA.reliability;
  const total = rows.reduce((sum, n) => sum + n, 0);
  const unit = (title) => ({ domain: [0, 1], ticks: SHARES, title, label: asPercent });
  const plot = chart(host, unit("confidence"), unit("accuracy"), 300);
  confidence.forEach((x, bin) => {
    const height = plot.box.bottom - plot.y(rows[bin] / total);
    plot.svg.append(svgElement("rect", { class: "area", x: plot.x(x) - 5, width: 10, y: plot.box.bottom - height, height }));
  });
  path([[0, 0], [1, 1]], plot, { class: "chance" });
  path(confidence.map((x, bin) => [x, accuracy[bin]]), plot, { class: "curve chosen", style: "stroke:var(--accent)" });
  confidence.forEach((x, bin) => dot(plot, [x, accuracy[bin]], "var(--accent)"));
}
