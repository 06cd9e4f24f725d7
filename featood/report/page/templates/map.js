// The map of the features, on a canvas.

function decoded(text) {
  return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawMap({ curve, at }) {
  const canvas = byId("map");
  if (!canvas) return;
  const byScore = document.querySelector("input[name=colour]:checked").value === "score";
  const points = new Uint16Array(decoded(DATA.map.planes[byId("plane").value]).buffer);
  const positions = decoded(curve.mapped);
  const width = canvas.clientWidth;
  const height = Math.min(width, 620);
  const density = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [width * density, height * density];
  const context = canvas.getContext("2d");
  context.scale(density, density);
  const side = height - 20;
  const stretch = Math.max(side, Math.min(width - 20, 1.6 * side));
  const shades = byScore ? shadesOf(curve.thresholds.length) : null;
  const owners = DATA.map.sets.flatMap(([set, n]) => Array(n).fill(set));
  const fills = DATA.sets.map((_, set) => cssColour(colour(set).slice(4, -1)));
  // rows of different sets alternate, so that no set hides the others
  const order = owners.map((_, row) => row).sort((a, b) => ((a * 7919) % owners.length) - ((b * 7919) % owners.length));
  for (const row of order) {
    const x = width / 2 + (points[2 * row] / 65535 - 0.5) * stretch;
    const y = height / 2 - (points[2 * row + 1] / 65535 - 0.5) * side;
    context.globalAlpha = 0.75;
    context.fillStyle = context.strokeStyle = shades ? shades[positions[row]] : fills[owners[row]];
    context.beginPath();
    if (positions[row] > at) {
      context.lineWidth = 1.4;
      context.moveTo(x - 2.5, y - 2.5);
      context.lineTo(x + 2.5, y + 2.5);
      context.moveTo(x - 2.5, y + 2.5);
      context.lineTo(x + 2.5, y - 2.5);
      context.stroke();
    } else {
      context.arc(x, y, 2.2, 0, 2 * Math.PI);
      context.fill();
    }
  }
  byId("map-keys").replaceChildren(
    ...(byScore
      ? [element("span", {}, "low score"), element("span", { class: "ramp scores" }), element("span", {}, "high score, by rank")]
      : setKeys(DATA.map.sets.map(([set]) => set), "key")),
  );
}

/** Colours of the positions among the thresholds, as in the legend. */
function shadesOf(n) {
  const ends = [cssColour("--warm"), cssColour("--s0")];
  return Array.from({ length: n + 1 }, (_, k) => `color-mix(in oklab, ${ends[1]} ${((100 * k) / n).toFixed(0)}%, ${ends[0]})`);
}

/** The entries of a legend: one for all rows that count as in-distribution, and one for each other set. */
function setKeys(sets, kind) {
  const key = (name, set, of) => element("span", { class: of, style: `--c:${colour(set)}` }, name);
  return [key(DATA.known, 0, "key"), ...sets.filter((set) => OUTLIERS.includes(set)).map((set) => key(DATA.sets[set].name, set, kind))];
}
