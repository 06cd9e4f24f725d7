// Single rows and classes that a head decides wrongly, and the decisions at the threshold.

function showDecisions({ curve, at, set, rates }) {
  const all = acceptedAt(curve, set, curve.thresholds.length - 1);
  const accepted = acceptedAt(curve, set, at);
  byId("score").textContent = shortNumber(curve.thresholds[at]);
  for (const [id, n] of [["tn", accepted.id], ["fp", all.id - accepted.id], ["fn", accepted.ood], ["tp", all.ood - accepted.ood]]) {
    byId(id).textContent = count(n);
  }
  byId("confusion-set").textContent = DATA.sets[set].name;
  const line = (label, share, chosen) =>
    element("li", chosen ? { class: "chosen" } : {}, element("span", {}, label), element("span", {}, `${percent(share, 2)} %`));
  byId("rates").replaceChildren(
    line("ID flagged", 1 - accepted.id / all.id, true),
    ...OUTLIERS.map((index) => line(`${DATA.sets[index].name} accepted`, rates[index][at + 1].fnr, index === set)),
  );
}

function showGallery(host, [numbers, scores, positions], inlier, at) {
  byId(host).replaceChildren(
    ...numbers.map((number, place) => {
      const [name, picture] = DATA.rows[number];
      const item = element("li", { title: name });
      if (picture) item.append(element("img", { src: `data:image/webp;base64,${picture}`, alt: "", loading: "lazy" }));
      const flagged = positions[place] > at;
      item.append(element("b", {}, shortNumber(scores[place])), name, flagged === inlier ? "" : " (decided correctly)");
      return item;
    }),
  );
}

function showClasses(host, worst, names) {
  if (!worst) return byId(host).replaceChildren(element("li", {}, element("span", {}, "no classes known")));
  const [numbers, rows, shares] = worst;
  byId(host).replaceChildren(
    ...numbers.map((number, place) =>
      element(
        "li",
        { title: names[number] },
        element("span", {}, names[number]),
        element("span", { class: "bar", style: `--w:${percent(shares[place])}%` }),
        element("span", {}, `${percent(shares[place])} % of ${count(rows[place])}`),
      ),
    ),
  );
}

function showRows({ set, curve, at }) {
  showGallery("alarms", curve.hardest[0], true, at);
  showGallery("misses", curve.hardest[set], false, at);
  showClasses("id-classes", curve.classes[0], DATA.classes[0]);
  showClasses("ood-classes", curve.classes[set], DATA.classes[set]);
  for (const span of document.querySelectorAll(".set-name")) span.textContent = DATA.sets[set].name;
}
