"use strict";
// Data of the page, and functions that make elements. Names become text, never markup: nothing here parses HTML.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const percent = (share, digits = 1) => (100 * share).toFixed(digits);
const count = (n) => n.toLocaleString("en");

function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svgElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Position of a value between two ends, both mapped by `map`, in pixels. */
function scale([low, high], [from, to], map = (x) => x) {
  const [a, b] = [map(low), map(high)];
  return (value) => from + ((map(Math.min(Math.max(value, Math.min(low, high)), Math.max(low, high))) - a) / (b - a || 1)) * (to - from);
}

/** Quantile of the normal distribution, to 5e-4 (Abramowitz and Stegun, 26.2.23). */
function probit(p) {
  const tail = Math.min(p, 1 - p);
  const t = Math.sqrt(-2 * Math.log(Math.max(tail, 1e-12)));
  const x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  return p < 0.5 ? -x : x;
}

/** About `n` round numbers between two ends. */
function ticksBetween(low, high, n) {
  const raw = (high - low) / n;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high && ticks.length <= 2 * n; k++) ticks.push(k * step);
  return ticks;
}

function shortNumber(value) {
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(1) : String(Number(value.toPrecision(4)));
}

/**
 * Replace the content of an element by a chart with axes.
 * `x` and `y` have domain, ticks, title, and optionally label (tick to text) and map (such as probit).
 * Returns the svg, and functions x and y from values to pixels.
 */
function chart(host, x, y, height) {
  const width = Math.max(host.clientWidth, 240);
  const box = { left: 56, right: width - 8, top: 8, bottom: height - 38 };
  const toX = scale(x.domain, [box.left, box.right], x.map);
  const toY = scale(y.domain, [box.bottom, box.top], y.map);
  const svg = svgElement("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${y.title} by ${x.title}` });
  for (const tick of y.ticks) {
    svg.append(
      svgElement("line", { class: "grid", x1: box.left, x2: box.right, y1: toY(tick), y2: toY(tick) }),
      svgElement("text", { x: box.left - 6, y: toY(tick) + 4, "text-anchor": "end" }, (y.label || shortNumber)(tick)),
    );
  }
  // labels of 40 pixels must not touch
  const every = Math.ceil((40 * x.ticks.length) / (box.right - box.left));
  for (const tick of x.ticks.filter((_, place) => place % every === 0)) {
    const anchor = toX(tick) > box.right - 12 ? "end" : "middle";
    svg.append(svgElement("text", { x: toX(tick), y: box.bottom + 15, "text-anchor": anchor }, (x.label || shortNumber)(tick)));
  }
  svg.append(
    svgElement("line", { class: "axis", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }),
    svgElement("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, x.title),
    svgElement("text", { x: 11, y: (box.top + box.bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 11 ${(box.top + box.bottom) / 2})` }, y.title),
  );
  host.replaceChildren(svg);
  return { svg, x: toX, y: toY, box };
}

function path(points, plot, attributes) {
  const text = points.map(([x, y]) => `${plot.x(x).toFixed(1)} ${plot.y(y).toFixed(1)}`).join("L");
  plot.svg.append(svgElement("path", { d: `M${text}`, ...attributes }));
}
