// Plots of a night and of an observation, drawn by uPlot from the facts that the page carries.
"use strict";

(() => {
  const palette = { g: "#3fa34d", Sg: "#3fa34d", r: "#d1495b", Sr: "#d1495b", i: "#a0673a", Si: "#a0673a", z: "#7d5ba6", Sz: "#7d5ba6", lp600: "#2f7fc4", c: "#8a94a0" };
  const other = ["#c77d1e", "#2a9d8f", "#b0578d", "#6c7a2f"];
  const colours = new Map(Object.entries(palette));
  const colourOf = (name) => {
    const filter = /^[griz]p$/.test(name) ? name[0] : name;
    if (!colours.has(filter)) colours.set(filter, other[(colours.size - Object.keys(palette).length) % other.length]);
    return colours.get(filter);
  };

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const seconds = (text) => Date.parse(/Z|[+-]\d\d:\d\d$/.test(text) ? text : `${text}Z`) / 1000;
  const utc = (time) => new Date(time * 1000).toISOString().slice(11, 19);
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  const axis = (label, more = {}) => ({
    label,
    stroke: style("--ink"),
    grid: { stroke: style("--rule"), width: 1 },
    ticks: { stroke: style("--rule"), width: 1 },
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
    labelSize: 18,
    ...more,
  });
  const minutes = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360].map((n) => 60 * n);
  const timeAxis = (more) => axis("UTC", { incrs: minutes, space: 60, values: (_, times) => times.map((time) => utc(time).slice(0, 5)), ...more });

  // Points with error bars, a colour for each filter; a point can be followed to its observation.
  const scatter = (items, scale) => (u) => {
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    for (const item of items) {
      const x = u.valToPos(item.x, "x", true);
      const y = u.valToPos(item.y, scale, true);
      ctx.strokeStyle = ctx.fillStyle = colourOf(item.filter);
      if (known(item.error)) {
        ctx.beginPath();
        ctx.moveTo(x, u.valToPos(item.y - item.error, scale, true));
        ctx.lineTo(x, u.valToPos(item.y + item.error, scale, true));
        ctx.stroke();
      }
      ctx.beginPath();
      const radius = 3.5 * devicePixelRatio;
      if (item.shape === "square") ctx.rect(x - radius, y - radius, 2 * radius, 2 * radius);
      else ctx.arc(x, y, radius, 0, 2 * Math.PI);
      if (item.open) ctx.stroke();
      else ctx.fill();
    }
    ctx.restore();
  };

  const nearest = (u, items) => {
    const { left, top } = u.cursor;
    if (left === undefined || left < 0) return undefined;
    let best;
    let least = 14 ** 2;
    for (const item of items) {
      const dx = u.valToPos(item.x, "x") - left;
      const dy = u.valToPos(item.y, item.scale || "y") - top;
      if (dx * dx + dy * dy < least) [best, least] = [item, dx * dx + dy * dy];
    }
    return best;
  };

  const hover = (items, follow) => {
    const label = document.createElement("div");
    label.className = "plot-label";
    label.hidden = true;
    return {
      hooks: {
        init: (u) => {
          u.over.append(label);
          u.over.addEventListener("click", () => {
            const item = nearest(u, items);
            if (item && item.id && follow) follow(item);
          });
        },
        setCursor: (u) => {
          const item = nearest(u, items);
          label.hidden = !item;
          u.over.style.cursor = item && item.id ? "pointer" : "crosshair";
          if (!item) return;
          label.textContent = item.text;
          const x = u.valToPos(item.x, "x");
          label.style.left = `${Math.min(x + 10, Math.max(0, u.over.clientWidth - label.offsetWidth - 4))}px`;
          label.style.top = `${Math.max(0, u.valToPos(item.y, item.scale || "y") - 30)}px`;
        },
      },
    };
  };

  const legendOf = (box, filters, extra = []) => {
    const legend = document.createElement("p");
    legend.className = "plot-legend";
    for (const [text, colour, shape] of [...filters.map((filter) => [filter || "no filter", colourOf(filter)]), ...extra]) {
      const entry = document.createElement("span");
      const mark = document.createElement("i");
      mark.style.background = colour;
      if (shape === "circle") mark.style.borderRadius = "50%";
      entry.append(mark, text);
      legend.append(entry);
    }
    box.append(legend);
  };

  const range = (values, pad = 0.06, floor = undefined) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = (high - low || Math.abs(high) || 1) * pad;
    return [floor !== undefined ? Math.min(floor, low) : low - margin, high + margin];
  };

  const goTo = (item) => {
    const card = document.getElementById(`card-${item.id}`);
    if (!card) {
      location.href = `${document.body.dataset.root || ""}/observation/${encodeURIComponent(item.id)}`;
      return;
    }
    card.scrollIntoView({ block: "center", behavior: "smooth" });
    card.querySelector("a").focus({ preventScroll: true });
  };

  // A line behind the points, such as a trend.
  const under = (line) => (u) => {
    const { ctx } = u;
    ctx.save();
    ctx.strokeStyle = style("--faint");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    line.forEach(([x, y], i) => ctx[i ? "lineTo" : "moveTo"](u.valToPos(x, "x", true), u.valToPos(y, "y", true)));
    ctx.stroke();
    ctx.restore();
  };

  const reach = (item) => (known(item.error) && item.error < 0.5 ? [item.y - item.error, item.y + item.error] : [item.y]);
  const points = (items, { x, y, xTime = false, floor, line = [], isMagnitude = false }) => (box, size) => {
    const series = [{}, { stroke: "transparent", points: { show: false }, paths: () => null }];
    const sorted = [...items].sort((a, b) => a.x - b.x);
    return new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: { x: { time: false, range: () => range(sorted.map((item) => item.x)) }, y: { range: () => range(sorted.flatMap(reach), 0.08, floor), dir: isMagnitude ? -1 : 1 } },
        axes: [xTime ? timeAxis() : axis(x, { values: (_, ticks) => ticks.map((tick) => String(Number(tick.toPrecision(9)))) }), axis(y, { size: 62 })],
        series,
        plugins: [{ hooks: { draw: [under(line), scatter(sorted, "y")] } }, hover(sorted, goTo)],
      },
      [sorted.map((item) => item.x), sorted.map((item) => item.y)],
      box,
    );
  };

  const seeingItems = (facts) =>
    facts.seeing.filter((frame) => frame.time && known(frame.fwhm_arcsec)).map((frame) => ({
      x: seconds(frame.time), y: frame.fwhm_arcsec, error: frame.fwhm_error_arcsec, filter: frame.filter,
      text: `${utc(seconds(frame.time))}  ${frame.fwhm_arcsec.toFixed(2)}″  ${frame.filter}`,
    }));
  const strehlItems = (facts, against) =>
    facts.strehl.filter((star) => known(star.ratio_percent) && (against === "time" || known(star.seeing_arcsec))).map((star) => ({
      x: against === "time" ? seconds(star.time) : star.seeing_arcsec, y: star.ratio_percent, filter: star.filter, id: star.id, open: star.flag !== "OK",
      text: `${star.name}  ${star.ratio_percent.toFixed(1)} %  ${star.filter}${star.flag === "OK" ? "" : `  ${star.flag}`}`,
    }));
  const filtersOf = (items) => [...new Set(items.map((item) => item.filter))];

  const night = (facts, box, size) => {
    const seeing = seeingItems(facts).map((item) => ({ ...item, scale: "seeing", shape: "square", filter: "seeing" }));
    const strehl = strehlItems(facts, "time").map((item) => ({ ...item, scale: "y" }));
    colours.set("seeing", style("--faint"));
    const all = [...seeing, ...strehl].sort((a, b) => a.x - b.x);
    const blank = { stroke: "transparent", points: { show: false }, paths: () => null };
    const plot = new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: {
          x: { time: false, range: () => range(all.map((item) => item.x), 0.03) },
          y: { range: () => range(strehl.length ? strehl.map((item) => item.y) : [0, 1], 0.1, 0) },
          seeing: { range: () => range(seeing.length ? seeing.map((item) => item.y) : [0, 1], 0.3) },
        },
        axes: [
          timeAxis({ label: undefined, size: 30 }),
          axis("Strehl [%]", { size: 44, show: strehl.length > 0 }),
          axis("Seeing [″]", { scale: "seeing", side: 1, size: 50, grid: { show: false }, show: seeing.length > 0 }),
        ],
        series: [{}, { ...blank, scale: "y" }, { ...blank, scale: "seeing" }],
        plugins: [{ hooks: { draw: [scatter(seeing, "seeing"), scatter(strehl, "y")] } }, hover(all, goTo)],
      },
      [all.map((item) => item.x), all.map((item) => (item.scale === "y" ? item.y : null)), all.map((item) => (item.scale === "seeing" ? item.y : null))],
      box,
    );
    legendOf(box, filtersOf(strehl), seeing.length ? [["seeing", style("--faint")]] : []);
    return plot;
  };

  const contrast = (facts, box, size) => {
    const curves = facts.contrast_curves;
    const grid = [...new Set([...curves.flatMap((curve) => curve.separation_arcsec), ...facts.contrast_median.map(([x]) => x)])].sort((a, b) => a - b);
    const column = (xs, ys) => {
      const at = new Map(xs.map((x, i) => [x, ys[i]]));
      return grid.map((x) => (at.has(x) ? at.get(x) : undefined));
    };
    const line = (curve) => ({ stroke: colourOf(curve.filter), width: 1.3, label: curve.name, spanGaps: true, points: { show: false } });
    const series = [{}, ...curves.map(line)];
    const data = [grid, ...curves.map((curve) => column(curve.separation_arcsec, curve.contrast_mag))];
    if (facts.contrast_median.length) {
      series.push({ stroke: style("--ink"), width: 3, label: "median", spanGaps: true, points: { show: false } });
      data.push(column(facts.contrast_median.map(([x]) => x), facts.contrast_median.map(([, y]) => y)));
    }
    const items = curves.flatMap((curve) => curve.separation_arcsec.map((x, i) => ({ x, y: curve.contrast_mag[i], id: curve.id, text: `${curve.name}  ${x.toFixed(2)}″  ${curve.contrast_mag[i].toFixed(2)} mag` })));
    const values = items.map((item) => item.y).filter(known);
    const plot = new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: { x: { time: false }, y: { range: () => range(values, 0.06), dir: -1 } },
        axes: [axis("Separation [″]"), axis("Contrast [mag]", { size: 56 })],
        series,
        plugins: [hover(items, goTo)],
      },
      data,
      box,
    );
    legendOf(box, [...new Set(curves.map((curve) => curve.filter))]);
    return plot;
  };

  // Light curves of a star, a colour for each filter; with a period two cycles of it.
  const [julianOffset, psfFit] = [2450000, 32];
  const lightcurve = (facts, box, size) => {
    const period = facts.period > 0 ? facts.period : 0;
    const items = facts.curves.flatMap((curve) => curve.rows.filter((row) => known(row.mag)).flatMap((row) => {
      const time = row.time_bjd_tdb - julianOffset;
      const item = {
        y: row.mag, error: row.mag_err, filter: curve.filter, open: (row.flags & ~psfFit) !== 0,
        text: `${time.toFixed(4)}  ${row.mag.toFixed(3)} ± ${known(row.mag_err) ? row.mag_err.toFixed(3) : "?"}  ${curve.filter} ${curve.instrument}`,
      };
      if (!period) return [{ ...item, x: time }];
      const phase = (((time / period) % 1) + 1) % 1;
      return [{ ...item, x: phase }, { ...item, x: phase + 1 }];
    }));
    const x = period ? `Phase (period ${period} d)` : `BJD(TDB) − ${julianOffset} [d]`;
    const plot = points(items, { x, y: "Magnitude", isMagnitude: true })(box, size);
    legendOf(box, filtersOf(items));
    return plot;
  };

  const makers = {
    night,
    contrast,
    lightcurve,
    seeing: (facts, box, size) => {
      const items = seeingItems(facts);
      const line = (facts.seeing_trend || []).map(([time, value]) => [seconds(time), value]);
      const plot = points(items, { y: "Seeing, FWHM [″]", xTime: true, line })(box, size);
      legendOf(box, filtersOf(items));
      return plot;
    },
    "strehl-time": (facts, box, size) => {
      const items = strehlItems(facts, "time");
      const plot = points(items, { y: "Strehl ratio [%]", xTime: true, floor: 0 })(box, size);
      legendOf(box, filtersOf(items));
      return plot;
    },
    "strehl-seeing": (facts, box, size) => {
      const items = strehlItems(facts, "seeing");
      const plot = points(items, { x: "Seeing, FWHM [″]", y: "Strehl ratio [%]", floor: 0 })(box, size);
      legendOf(box, filtersOf(items));
      return plot;
    },
  };

  const drawn = [];
  const sizeOf = (box) => {
    const padding = parseFloat(getComputedStyle(box).paddingLeft) + parseFloat(getComputedStyle(box).paddingRight);
    return { width: Math.max(200, box.clientWidth - padding), height: { night: 130, lightcurve: 380 }[box.dataset.plot] || 260 };
  };
  const draw = () => {
    for (const box of document.querySelectorAll("[data-plot]")) {
      const facts = JSON.parse((box.querySelector("script") || document.getElementById("night-facts")).textContent);
      for (const child of [...box.children]) if (child.tagName !== "SCRIPT") child.remove();
      drawn.push([box, makers[box.dataset.plot](facts, box, sizeOf(box))]);
    }
  };
  draw();
  addEventListener("resize", () => drawn.forEach(([box, plot]) => plot.setSize(sizeOf(box))));
  const again = () => {
    drawn.splice(0).forEach(([, plot]) => plot.destroy());
    draw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("redraw", again);
})();
