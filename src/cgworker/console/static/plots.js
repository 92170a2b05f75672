"use strict";

// Draw the plots of the overview, from numbers that the console keeps. They come with the page's moving part.
(() => {
  const plots = document.getElementById("plots");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const HEIGHT = 170;
  const seconds = (value) => (value == null ? "–" : value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`);
  const SERIES = {
    closed: [["succeeded", "succeeded"], ["failed", "failed"], ["stopped", "stopped"]],
    queued: [["queued", "queued"]],
    pick: [["p50", "running"], ["p95", "suspended"]],
    held: [["held", "running"]],
  };
  const SUMMARY = {
    closed: (data) => {
      const total = (name) => data[name].reduce((sum, each) => sum + each, 0);
      return SERIES.closed.map(([name]) => `${total(name).toLocaleString("en")} ${name}`).join(", ");
    },
    queued: (data) => `now ${data.queued.at(-1)}, at most ${Math.max(...data.queued)}`,
    held: (data) => `now ${data.held.at(-1)}, at most ${Math.max(...data.held)}`,
    pick: (data) => {
      const last = data.p50.findLastIndex((each) => each != null);
      return last < 0 ? "no turn was picked up" : `last p50 ${seconds(data.p50[last])}, p95 ${seconds(data.p95[last])}`;
    },
  };
  let drawn = {};

  const make = (name, place, rows) => {
    const axis = { stroke: color("dim"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false } };
    return new uPlot(
      {
        width: place.clientWidth,
        height: HEIGHT,
        cursor: { drag: { x: false, y: false } },
        legend: { show: SERIES[name].length > 1, live: false },
        scales: { y: { range: (_, __, max) => [0, Math.max(max * 1.1, name === "pick" ? 0.1 : 1)] } },
        axes: [axis, { ...axis, size: 52 }],
        tzDate: (ts) => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
        fmtDate: (template) => uPlot.fmtDate(template.replace("{h}:{mm}{aa}", "{HH}:{mm}").replace("{h}{aa}", "{HH}:00").replace("{M}/{D}/{YY}", "{YYYY}-{MM}-{DD}")),
        series: [
          {},
          ...SERIES[name].map(([label, hue]) => ({
            label, stroke: color(hue), width: 2, fill: `${color(hue)}22`, points: { show: name === "pick", size: 4 },
          })),
        ],
      },
      rows,
      place,
    );
  };

  const draw = (data) => {
    const times = data.held.map((_, place) => data.begins_at + place * data.step);
    for (const place of plots.querySelectorAll(".plot")) {
      const name = place.dataset.plot;
      const scale = name === "closed" ? 1 / data.step : 1; // turns are shown by the second
      const rows = [times, ...SERIES[name].map(([each]) => data[each].map((value) => value && value * scale))];
      const text = SUMMARY[name](data);
      plots.querySelector(`[data-summary=${name}]`).textContent =
        text + (data.loaded < Number(plots.dataset.window) ? " (reading back …)" : "");
      place.setAttribute("aria-label", `${place.closest("figure").querySelector("figcaption").textContent}: ${text}`);
      if (drawn[name]) drawn[name].setData(rows);
      else drawn[name] = make(name, place, rows);
    }
  };

  const numbers = () => JSON.parse(document.getElementById("numbers").value);
  const show = () => draw(numbers());

  const again = () => {
    for (const plot of Object.values(drawn)) plot.destroy();
    drawn = {};
    show();
  };

  // Time goes on where nothing changes, and older numbers come while the console reads them.
  let loading;
  const load = () => {
    if (!document.hidden) htmx.trigger(document.getElementById("live"), "changed");
  };
  const loadLater = () => {
    const seconds = Number(plots.dataset.window);
    clearTimeout(loading);
    loading = setTimeout(load, numbers().loaded < seconds ? 2000 : Math.max(15000, seconds * 5));
  };

  show();
  loadLater();
  document.addEventListener("htmx:afterSettle", show);
  document.addEventListener("htmx:afterRequest", loadLater);
  document.addEventListener("visibilitychange", load);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  let resizing;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(again, 200);
  });
})();
