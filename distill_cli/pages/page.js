"use strict";
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll(".chart")];
  const views = new Map();

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

  dark.addEventListener("change", draw);
  draw();
})();
