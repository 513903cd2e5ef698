// Plots of a night and of an observation, drawn by uPlot from the facts that the page carries.
"use strict";

(() => {
  // A filter has a colour, a shape and a dash everywhere: no two of them are told apart by colour alone.
  const palette = { g: "#10a37f", r: "#bd2440", i: "#b97f1e", lp600: "#2f7fc4", c: "#8a94a0" };
  const shapeOf = { g: "diamond", r: "triangle", i: "square", z: "cross", lp600: "circle", c: "valley", seeing: "bar" };
  const dashOf = { g: [9, 4], r: [2, 3], i: [9, 3, 2, 3], z: [5, 3], c: [14, 4] };
  const other = ["#7d5ba6", "#2a9d8f", "#b0578d", "#6c7a2f"];
  const colours = new Map(Object.entries(palette));
  const band = (name) => (/^(z|ztf|sdss|S)?[griz]p?$/.test(name) ? name.replace(/p$/, "").at(-1) : name);
  const colourOf = (name) => {
    const filter = band(name);
    if (filter === "z") return style("--ink");
    if (filter === "seeing") return style("--faint");
    if (!colours.has(filter)) colours.set(filter, other[(colours.size - Object.keys(palette).length) % other.length]);
    return colours.get(filter);
  };

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const seconds = (text) => Date.parse(/Z|[+-]\d\d:\d\d$/.test(text) ? text : `${text}Z`) / 1000;
  const utc = (time) => new Date(time * 1000).toISOString().slice(11, 19);
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  const ticksOf = (_, ticks) => ticks.map((tick) => (tick === null ? "" : String(Number(tick.toPrecision(9))).replace("-", "−")));
  const axis = (label, more = {}) => ({
    label,
    values: ticksOf,
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

  const cornersOf = {
    square: [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    diamond: [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]],
    triangle: [[0, -1.2], [1.1, 0.9], [-1.1, 0.9]],
    valley: [[0, 1.2], [1.1, -0.9], [-1.1, -0.9]],
    bar: [[-1.3, -0.35], [1.3, -0.35], [1.3, 0.35], [-1.3, 0.35]],
    star: [...Array(10).keys()].map((i) => [(i % 2 ? 0.75 : 1.8) * Math.sin((Math.PI * i) / 5), (i % 2 ? 0.75 : -1.8) * Math.cos((Math.PI * i) / 5) * (i % 2 ? -1 : 1)]),
    cross: [[-0.35, -1.2], [0.35, -1.2], [0.35, -0.35], [1.2, -0.35], [1.2, 0.35], [0.35, 0.35], [0.35, 1.2], [-0.35, 1.2], [-0.35, 0.35], [-1.2, 0.35], [-1.2, -0.35], [-0.35, -0.35]],
  };
  const outline = (ctx, shape, x, y, radius) => {
    if (shape in cornersOf) {
      cornersOf[shape].forEach(([dx, dy], i) => ctx[i ? "lineTo" : "moveTo"](x + dx * radius, y + dy * radius));
      ctx.closePath();
    } else ctx.arc(x, y, radius, 0, 2 * Math.PI);
  };

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
      outline(ctx, item.shape || shapeOf[band(item.filter)], x, y, (items.length > 1500 ? 2.2 : 3.5) * devicePixelRatio);
      if (item.open) ctx.fillStyle = style("--sheet");
      ctx.fill();
      if (item.open) ctx.stroke();
    }
    ctx.restore();
  };

  const heightOf = (u, item) => item.pinned ?? u.valToPos(item.y, item.scale || "y");
  const nearest = (u, items) => {
    const { left, top } = u.cursor;
    if (left === undefined || left < 0) return undefined;
    let best;
    let least = 14 ** 2;
    for (const item of items) {
      const dx = u.valToPos(item.x, "x") - left;
      const dy = heightOf(u, item) - top;
      if (dx * dx + dy * dy < least) [best, least] = [item, dx * dx + dy * dy];
    }
    return best;
  };

  // By keyboard: arrows go from point to point, Enter opens what a point stands for.
  const walk = (u, items, show, follow) => {
    const box = u.root.parentElement;
    box.tabIndex = 0;
    box.setAttribute("role", "figure");
    let place = -1;
    const keys = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
    box.onkeydown = (event) => {
      const list = [...listOf(items)].sort((a, b) => a.x - b.x);
      if (event.target !== box || !list.length) return;
      if (event.key in keys) {
        place = Math.min(Math.max(place + keys[event.key], 0), list.length - 1);
        show(list[place]);
      } else if (event.key === "Enter" && list[place]?.id && follow) follow(list[place]);
      else return;
      event.preventDefault();
      event.stopPropagation();
    };
    box.onblur = () => show(undefined);
  };

  const listOf = (items) => (typeof items === "function" ? items() : items);
  const hover = (items, follow) => {
    const label = document.createElement("div");
    label.className = "plot-label";
    label.hidden = true;
    label.setAttribute("role", "status");
    const show = (u, item) => {
      label.hidden = !item;
      if (!item) return;
      label.textContent = item.text;
      const x = u.valToPos(item.x, "x");
      label.style.left = `${Math.min(Math.max(0, x + 10), Math.max(0, u.over.clientWidth - label.offsetWidth - 4))}px`;
      label.style.top = `${Math.max(0, heightOf(u, item) - 30)}px`;
    };
    return {
      hooks: {
        init: (u) => {
          u.over.append(label);
          walk(u, items, (item) => show(u, item), follow);
          u.over.addEventListener("click", () => {
            const item = nearest(u, listOf(items));
            if (item && item.id && follow) follow(item);
          });
        },
        setCursor: (u) => {
          const item = nearest(u, listOf(items));
          u.over.style.cursor = item && item.id ? "pointer" : "crosshair";
          show(u, item);
        },
      },
    };
  };

  // Entries of a legend; those of a group are buttons that show and hide it.
  const stripes = (dash, colour) => {
    let at = 0;
    return dash.map((length, i) => [i % 2 ? "transparent" : colour, at, (at += length)]).map(([paint, from, to]) => `${paint} ${from}px ${to}px`).join(", ");
  };
  const legend = (entries, toggle) => {
    const found = document.createElement("p");
    found.className = "plot-legend";
    for (const { text, colour, shape, mark, dash, group } of entries) {
      const entry = document.createElement(group && toggle ? "button" : "span");
      const sign = document.createElement("i");
      if (colour) sign.style.background = colour;
      if (mark) sign.className = mark;
      if (mark === "dash") sign.style.background = dash ? `repeating-linear-gradient(90deg, ${stripes(dash, colour)})` : colour;
      if (shape === "circle") sign.style.borderRadius = "50%";
      if (shape in cornersOf) {
        const at = (value) => `${(50 + (value * 50) / (shape === "star" ? 1.8 : 1.3)).toFixed(0)}%`;
        sign.style.clipPath = `polygon(${cornersOf[shape].map(([dx, dy]) => `${at(dx)} ${at(dy)}`).join(", ")})`;
      }
      entry.append(sign, text);
      if (group && toggle) {
        Object.assign(entry, { type: "button", className: "legend-entry", title: "Show or hide" });
        entry.setAttribute("aria-pressed", "true");
        entry.addEventListener("click", () => entry.setAttribute("aria-pressed", String(toggle(group))));
      }
      found.append(entry);
    }
    return found;
  };
  const legendOf = (box, filters, extra = []) => {
    const entries = filters.map((filter) => ({ text: filter || "no filter", colour: colourOf(filter), shape: shapeOf[band(filter)] || "circle" }));
    box.append(legend([...entries, ...extra]));
  };

  const range = (values, pad = 0.06, floor = undefined) => {
    const low = Math.min(floor ?? Infinity, ...values);
    const high = Math.max(...values);
    const margin = (high - low || Math.abs(high) || 1) * pad;
    return [low === floor ? low : low - margin, high + margin];
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
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.strokeStyle = style("--faint");
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    line.forEach(([x, y], i) => ctx[i ? "lineTo" : "moveTo"](u.valToPos(x, "x", true), u.valToPos(y, "y", true)));
    ctx.stroke();
    ctx.restore();
  };

  // A model over the points: a line for each filter.
  const over = (lines) => (u) => {
    const { ctx } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
    ctx.clip();
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const line of lines) {
      ctx.strokeStyle = style("--ink");
      ctx.beginPath();
      line.time.forEach((time, i) => ctx[i ? "lineTo" : "moveTo"](u.valToPos(time, "x", true), u.valToPos(line.mag[i], "y", true)));
      ctx.stroke();
    }
    ctx.restore();
  };

  const reach = (item) => (known(item.error) && item.error < 0.5 ? [item.y - item.error, item.y + item.error] : [item.y]);
  const points = (items, { x, y, xTime = false, floor, line = [], isMagnitude = false, hidden = new Set(), events = [], models = () => [], extent = [] }) => (box, size) => {
    const series = [{}, { stroke: "transparent", points: { show: false }, paths: () => null }];
    const sorted = [...items].sort((a, b) => a.x - b.x);
    const shown = () => sorted.filter((item) => !hidden.has(item.group));
    const [first, last] = [extent[0] ?? sorted[0]?.x, extent[1] ?? sorted.at(-1)?.x];
    // The whole range with a margin, unless the user zooms in.
    let view = [first, last];
    const across = (_, low, high) => (view = low > first || high < last ? [low, high] : range([first, last]));
    const within = () => {
      const inside = shown().filter((item) => item.x >= view[0] && item.x <= view[1]);
      return range((inside.length ? inside : sorted).flatMap(reach), 0.08, floor);
    };
    const draw = [bands(events), under(line), (u) => scatter(shown(), "y")(u), (u) => over(models())(u)];
    const marks = events.map((event) => ({ x: event.peak, pinned: peakMark, text: event.text }));
    return new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: { x: { time: false, range: across }, y: { range: within, dir: isMagnitude ? -1 : 1 } },
        axes: [xTime ? timeAxis() : axis(x), axis(y, { size: 62, ...(size.height < 200 ? { space: 22 } : {}) })],
        series,
        plugins: [{ hooks: { draw } }, hover(() => [...marks, ...shown()], goTo)],
      },
      [sorted.map((item) => item.x), sorted.map((item) => item.y)],
      box,
    );
  };

  const seeingItems = (facts) =>
    facts.seeing.filter((frame) => frame.time && known(frame.fwhm_arcsec)).map((frame) => ({
      x: seconds(frame.time), y: frame.fwhm_arcsec, error: frame.fwhm_error_arcsec, filter: frame.filter,
      text: `${utc(seconds(frame.time))}  seeing ${frame.text}  ${frame.filter}`,
    }));
  const strehlItems = (facts, against) =>
    facts.strehl.filter((star) => known(star.ratio_percent) && (against === "time" || known(star.seeing_arcsec))).map((star) => ({
      x: against === "time" ? seconds(star.time) : star.seeing_arcsec, y: star.ratio_percent, error: star.ratio_error_percent, filter: star.filter, id: star.id, open: star.flag !== "OK",
      text: `${star.name}  Strehl ${star.text}${against === "time" ? "" : `  seeing ${star.seeing_text}`}  ${star.filter}${star.flag === "OK" ? "" : `  ${star.flag}`}`,
    }));
  const filtersOf = (items) => [...new Set(items.map((item) => item.filter))];

  const night = (facts, box, size) => {
    const seeing = seeingItems(facts).map((item) => ({ ...item, scale: "seeing", filter: "seeing" }));
    const strehl = strehlItems(facts, "time").map((item) => ({ ...item, scale: "y" }));
    const all = [...seeing, ...strehl].sort((a, b) => a.x - b.x);
    const blank = { stroke: "transparent", points: { show: false }, paths: () => null };
    const plot = new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: {
          x: { time: false, range: () => facts.window || range(all.map((item) => item.x), 0.03) },
          y: { range: () => range(strehl.length ? strehl.map((item) => item.y) : [0, 1], 0.1, 0) },
          seeing: { range: () => range(seeing.length ? seeing.map((item) => item.y) : [0, 1], 0.3) },
        },
        axes: [
          timeAxis({ label: undefined, size: 30 }),
          axis("Strehl [%]", { size: facts.window ? 70 : 44, show: strehl.length > 0 || Boolean(facts.window) }),
          axis("Seeing [″]", { scale: "seeing", side: 1, size: 50, grid: { show: false }, show: seeing.length > 0 || Boolean(facts.window) }),
        ],
        series: [{}, { ...blank, scale: "y" }, { ...blank, scale: "seeing" }],
        plugins: [{ hooks: { draw: [scatter(seeing, "seeing"), scatter(strehl, "y")] } }, hover(all, goTo)],
      },
      [all.map((item) => item.x), all.map((item) => (item.scale === "y" ? item.y : null)), all.map((item) => (item.scale === "seeing" ? item.y : null))],
      box,
    );
    legendOf(box, filtersOf(strehl), seeing.length ? [{ text: "seeing", colour: style("--faint"), shape: "bar" }] : []);
    return plot;
  };

  // Curves of one filter by several pipelines: the first in the alphabet has the look of the filter.
  const secondLooks = [{ colour: "#cb7d51", dash: [7, 6] }, { colour: "#8c32fe", dash: [1, 4] }];
  const looksOf = (curves) => {
    const keyOf = (curve) => `${curve.filter}\n${curve.pipeline}`;
    const pipelines = [...new Set(curves.map((curve) => curve.pipeline))].sort();
    const found = new Map();
    let n = 0;
    for (const curve of [...curves].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))) {
      if (found.has(keyOf(curve))) continue;
      const filter = curve.filter || "no filter";
      const own = curve.pipeline === pipelines[0] ? { colour: colourOf(curve.filter), dash: dashOf[band(curve.filter)] } : secondLooks[n++ % secondLooks.length];
      found.set(keyOf(curve), { ...own, text: pipelines.length > 1 ? `${filter}, ${curve.pipeline.replaceAll("_", " ")}` : filter });
    }
    return { look: (curve) => found.get(keyOf(curve)), entries: [...found.values()] };
  };

  const contrast = (facts, box, size) => {
    const curves = facts.contrast_curves;
    const { look, entries } = looksOf(curves);
    const grid = [...new Set([...curves.flatMap((curve) => curve.separation_arcsec), ...facts.contrast_median.map(([x]) => x)])].sort((a, b) => a - b);
    const column = (xs, ys) => {
      const at = new Map(xs.map((x, i) => [x, ys[i]]));
      return grid.map((x) => (at.has(x) ? at.get(x) : undefined));
    };
    const line = (curve) => ({ stroke: look(curve).colour, dash: look(curve).dash, width: 1.5, label: curve.name, spanGaps: true, points: { show: false } });
    const series = [{}, ...curves.map(line)];
    const data = [grid, ...curves.map((curve) => column(curve.separation_arcsec, curve.contrast_mag))];
    if (facts.contrast_median.length) {
      series.push({ stroke: style("--ink"), width: 3, label: "median", spanGaps: true, points: { show: false } });
      data.push(column(facts.contrast_median.map(([x]) => x), facts.contrast_median.map(([, y]) => y)));
    }
    const items = curves.flatMap((curve) => curve.separation_arcsec.map((x, i) => ({ x, y: curve.contrast_mag[i], id: curve.id, text: `${curve.name}  ${x.toFixed(2)}″  ${curve.contrast_mag[i].toFixed(2)} mag` })));
    const companions = curves.flatMap((curve) => (curve.companions || []).filter((found) => known(found.separation_arcsec) && known(found.delta_mag)).map((found) => ({
      x: found.separation_arcsec, y: found.delta_mag, error: found.error, filter: curve.filter, shape: "star", id: curve.id, text: `${curve.name}  ${found.text}`,
    })));
    const reach = grid.length ? grid.at(-1) * 1.03 : 1;
    const inside = companions.filter((found) => found.x <= reach);
    const values = [...items, ...inside].map((item) => item.y).filter(known);
    const plot = new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: { x: { time: false, range: (_, low, high) => (low > grid[0] || high < grid.at(-1) ? [low, high] : [0, reach]) }, y: { range: () => range(values, 0.06), dir: -1 } },
        axes: [axis("Separation [″]"), axis("Contrast [mag]", { size: 56 })],
        series,
        plugins: [{ hooks: { draw: [scatter(inside, "y")] } }, hover([...items, ...inside], goTo)],
      },
      data,
      box,
    );
    const companion = inside.length ? [{ text: "companion", colour: style("--ink"), shape: "star" }] : [];
    box.append(legend([...entries.map((entry) => ({ ...entry, mark: "dash" })), ...companion]));
    return plot;
  };

  // What a search found: a band from its beginning to its end, and a mark in the colour of the filter at its peak.
  const peakMark = 7;
  const bands = (events) => (u) => {
    const { ctx } = u;
    const { left, top, width, height } = u.bbox;
    const one = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    ctx.fillStyle = style("--faint");
    ctx.globalAlpha = 0.2;
    ctx.beginPath();
    for (const event of events) {
      const [start, stop] = [event.start, event.stop].map((time) => u.valToPos(time, "x", true));
      ctx.rect(start - one, top, stop - start + 2 * one, height);
    }
    ctx.fill();
    ctx.globalAlpha = 1;
    for (const event of events) {
      const peak = u.valToPos(event.peak, "x", true);
      ctx.fillStyle = colourOf(event.filter);
      ctx.beginPath();
      [[-peakMark, 0], [peakMark, 0], [0, 1.5 * peakMark]].forEach(([dx, dy], i) => ctx[i ? "lineTo" : "moveTo"](peak + dx * one, top + dy * one));
      ctx.fill();
    }
    ctx.restore();
  };

  // The course of a night: darkness, a lane of exposures for each programme, gaps over all lanes.
  const rightSide = { scale: "none", side: 1, size: 50, grid: { show: false }, ticks: { show: false }, values: () => [], labelSize: 18 };
  const course = (facts, box, size) => {
    const lanes = facts.programs;
    const laneOf = (exposure) => lanes.length - 1 - lanes.indexOf(exposure.program);
    const items = facts.exposures.map((exposure) => ({ ...exposure, x: (exposure.start + exposure.stop) / 2, y: laneOf(exposure) }));
    const gaps = facts.gaps.map((gap) => ({ ...gap, x: (gap.start + gap.stop) / 2, y: lanes.length - 0.5 }));
    const paint = (u) => {
      const { ctx } = u;
      const { left, top, width, height } = u.bbox;
      const at = (time) => u.valToPos(time, "x", true);
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height);
      ctx.clip();
      for (const [span, alpha] of [[facts.night, 0.12], [facts.dark, 0.16]]) {
        if (!span) continue;
        ctx.globalAlpha = alpha;
        ctx.fillStyle = style("--faint");
        ctx.fillRect(at(span[0]), top, at(span[1]) - at(span[0]), height);
      }
      ctx.globalAlpha = 1;
      for (const gap of gaps) {
        ctx.fillStyle = ctx.strokeStyle = style("--failed");
        ctx.globalAlpha = 0.16;
        ctx.fillRect(at(gap.start), top, at(gap.stop) - at(gap.start), height);
        ctx.globalAlpha = 1;
        ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
        ctx.strokeRect(at(gap.start), top, at(gap.stop) - at(gap.start), height);
        ctx.setLineDash([]);
      }
      const tall = (height / (lanes.length + 1)) * 0.66;
      for (const item of items) {
        ctx.fillStyle = colourOf(item.filter);
        ctx.fillRect(at(item.start), u.valToPos(item.y, "y", true) - tall / 2, Math.max(at(item.stop) - at(item.start), 2 * devicePixelRatio), tall);
      }
      ctx.restore();
    };
    const plot = new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: { x: { time: false, range: (_, low, high) => (low > items[0].x || high < items.at(-1).x ? [low, high] : facts.window) }, y: { range: () => [-0.6, lanes.length - 0.2] } },
        axes: [timeAxis({ label: undefined, size: 30 }), axis("Programme", { size: 70, grid: { show: false }, splits: () => lanes.map((_, i) => i), values: (_, ticks) => ticks.map((tick) => lanes[lanes.length - 1 - tick]) }), axis(" ", rightSide)],
        series: [{}, { stroke: "transparent", points: { show: false }, paths: () => null }],
        plugins: [{ hooks: { draw: [paint] } }, hover([...items, ...gaps].sort((a, b) => a.x - b.x), goTo)],
      },
      [items.map((item) => item.x), items.map((item) => item.y)],
      box,
    );
    legendOf(box, filtersOf(items), gaps.length ? [{ text: "gap", mark: "gap" }] : []);
    return plot;
  };
  const lag = (facts, box, size) => {
    const items = facts.lags.map((item) => ({ ...item, x: item.time, y: item.minutes, filter: "seeing", shape: "circle" })).sort((a, b) => a.x - b.x);
    return new uPlot(
      {
        ...size,
        legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false } },
        scales: { x: { time: false, range: () => facts.window }, y: { range: () => range(items.length ? items.map((item) => item.y) : [0, 1], 0.1, 0) } },
        axes: [timeAxis({ label: undefined, size: 30 }), axis("Minutes", { size: 70 }), axis(" ", rightSide)],
        series: [{}, { stroke: "transparent", points: { show: false }, paths: () => null }],
        plugins: [{ hooks: { draw: [scatter(items, "y")] } }, hover(items, goTo)],
      },
      [items.map((item) => item.x), items.map((item) => item.y)],
      box,
    );
  };

  const makers = {
    course,
    lag,
    night,
    contrast,
    ...lightCurvePlots({ points, legend, known, style, colourOf, shapeOf: (filter) => shapeOf[band(filter)] || "circle" }),
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
    return { width: Math.max(200, box.clientWidth - padding), height: { night: innerWidth < 600 ? 104 : 130, lag: 120, lightcurve: 380, comparison: 640, course: 70 + 30 * Number(box.dataset.lanes || 3) }[box.dataset.plot] || 260 };
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
