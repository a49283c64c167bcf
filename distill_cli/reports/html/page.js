"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll(".chart")];
  const views = new Map();
  let kept = null;

  // The page's colours, so that charts follow light and dark.
  const config = () => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue("--" + name).trim();
    const font = getComputedStyle(document.body).fontFamily;
    const text = { labelColor: colour("ink"), titleColor: colour("faint"), labelFont: font, titleFont: font, titleFontWeight: "normal" };
    return {
      background: "transparent",
      font,
      range: { category: [0, 1, 2, 3, 4, 5, 6, 7].map((n) => colour("m" + n)), heatmap: [colour("heat0"), colour("heat1")], ramp: [colour("heat0"), colour("heat1")], ordinal: [0, 1, 2, 3].map((n) => colour("t" + n)) },
      axis: { ...text, domainColor: colour("line"), gridColor: colour("line"), gridOpacity: 0.6, tickColor: colour("line"), labelFontSize: 11, titleFontSize: 12 },
      legend: { ...text, labelFontSize: 12, symbolStrokeWidth: 2, labelLimit: 220 },
      title: { color: colour("ink"), font },
      view: { stroke: null },
      mark: { color: colour("m0") },
      text: { color: colour("ink"), font },
      rule: { color: colour("faint") },
      style: {
        weak: { color: colour("ink") },
        strong: { color: colour("on-heat") },
        diagonal: { stroke: colour("faint") },
        interval: { color: colour("faint"), strokeWidth: 1.5 },
        cell: { stroke: colour("ground") },
      },
    };
  };

  const draw = async () => {
    delete document.documentElement.dataset.drawn;
    const shared = config();
    for (const place of places) {
      const chart = charts[Number(place.dataset.chart)];
      views.get(place)?.finalize();
      const result = await vegaEmbed(place, structuredClone(chart.spec), { actions: false, renderer: chart.renderer, config: shared, tooltip: { theme: dark.matches ? "dark" : "light" } });
      views.set(place, result);
      apply(place.closest("section"));
      if (kept !== null) { keep(result.view); }
    }
    document.documentElement.dataset.drawn = "yes";
  };

  // Buttons that set a parameter in all charts of their section.
  const apply = (section) => {
    for (const group of section?.querySelectorAll(".switch") ?? []) {
      const chosen = group.querySelector("input:checked");
      for (const place of section.querySelectorAll(".chart")) {
        const view = views.get(place)?.view;
        if (view && chosen) { view.signal(group.dataset.param, chosen.value).run(); }
      }
    }
  };
  document.addEventListener("change", (event) => { if (event.target.closest(".switch")) { apply(event.target.closest("section")); } });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) { return; }
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl+C";
    }
  });

  // The table of a sweep: a click on a heading sorts, best first; words and conditions filter, and the charts follow.
  const table = document.getElementById("rows");
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const sortBy = (heading) => {
    const column = heading.cellIndex;
    const descending = heading.getAttribute("aria-sort") ? heading.getAttribute("aria-sort") === "ascending" : heading.classList.contains("number");
    const compare = (a, b) => {
      const [one, other] = [value(a, column), value(b, column)];
      if (typeof one !== typeof other) { return typeof one === "number" ? -1 : 1; }  // empty cells last
      const order = typeof one === "number" ? one - other : one.localeCompare(other, undefined, { numeric: true });
      return descending ? -order : order;
    };
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    for (const other of table.tHead.rows[0].cells) { other.removeAttribute("aria-sort"); }
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };
  const condition = (word, keys) => {
    const [, key, sign, wanted] = /^([^<>=!~]+)(>=|<=|!=|>|<|=|~)(.+)$/.exec(word) ?? [];
    const column = keys.indexOf(key);
    if (column < 0) { return (row) => row.textContent.toLowerCase().includes(word.toLowerCase()); }
    return (row) => {
      const found = value(row, column);
      const number = typeof found === "number" ? Number(wanted) : NaN;
      switch (sign) {
        case ">=": return found >= number;
        case "<=": return found <= number;
        case ">": return found > number;
        case "<": return found < number;
        case "=": return typeof found === "number" ? found === number : found === wanted;
        case "!=": return typeof found === "number" ? found !== number : found !== wanted;
        default: return String(found).toLowerCase().includes(wanted.toLowerCase());
      }
    };
  };
  const filter = () => {
    const words = document.getElementById("filter").value.split(/[\s,]+/).filter(Boolean);
    const keys = [...table.tHead.rows[0].cells].map((heading) => heading.dataset.key);
    const conditions = words.map((word) => condition(word, keys));
    const rows = [...table.tBodies[0].rows];
    for (const row of rows) { row.hidden = !conditions.every((holds) => holds(row)); }
    const shown = rows.filter((row) => !row.hidden);
    document.getElementById("filtered").value = words.length ? `rows: ${shown.length} of ${rows.length}` : `rows: ${rows.length}`;
    kept = words.length ? shown.map((row) => Number(row.dataset.row)) : null;
    for (const { view } of views.values()) { keep(view); }
  };
  const keep = (view) => { if ("kept" in view.getState().signals) { view.signal("kept", kept).run(); } };
  if (table) {
    table.tHead.addEventListener("click", (event) => { const heading = event.target.closest("th[data-key]"); if (heading) { sortBy(heading); } });
    document.getElementById("filter").addEventListener("input", filter);
  }

  dark.addEventListener("change", draw);
  draw();
})();
