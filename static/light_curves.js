// Light curves with models and residuals, and two stars compared: panels over one axis of time or phase.
"use strict";

const lightCurvePlots = ({ points, legend, known, style, colourOf, shapeOf }) => {
  const shapes = ["circle", "square", "diamond", "triangle"];
  const digits = (value, n) => (known(value) ? value.toFixed(n) : "?");
  const nameOf = (curve) => [...new Set([curve.instrument, curve.filter])].filter(Boolean).join(" ");

  // A point at its time, or at its phase in each of two cycles.
  const placed = (facts, time, item) => {
    if (!(facts.period > 0)) return [{ ...item, x: time }];
    const cycles = (time - facts.epoch) / facts.period;
    const phase = cycles - Math.floor(cycles);
    return [{ ...item, x: phase }, { ...item, x: phase + 1 }];
  };

  // A range of time that is chosen in one panel is that of all.
  const link = (plots) => {
    const follow = (u, key) => {
      if (key !== "x") return;
      const { min, max } = u.scales.x;
      for (const other of plots) {
        const has = other.scales.x;
        if (other !== u && (has.min !== min || has.max !== max)) other.setScale("x", { min, max });
      }
    };
    for (const plot of plots) plot.hooks.setScale = [...(plot.hooks.setScale || []), follow];
  };

  // Panels below each other; the last one has the name of the axis.
  const stack = (facts, box, size, panels, hidden) => {
    const x = facts.period > 0 ? `Phase (period ${facts.period} d)` : facts.axis;
    const all = panels.flatMap((panel) => panel.items.map((item) => item.x));
    const extent = [all.reduce((a, b) => Math.min(a, b), Infinity), all.reduce((a, b) => Math.max(a, b), -Infinity)];
    const shares = panels.map((panel) => panel.share);
    const total = shares.reduce((a, b) => a + b, 0);
    const heights = ({ height }) => shares.map((share) => Math.round((height * share) / total));
    const plots = panels.map((panel, i) => {
      const place = document.createElement("div");
      place.className = "plot-panel";
      place.setAttribute("aria-label", [box.dataset.label, panel.label].filter(Boolean).join(": "));
      box.append(place);
      const line = panel.level === undefined ? [] : [[extent[0] - 1e6, panel.level], [extent[1] + 1e6, panel.level]];
      const { items, isMagnitude, events, models } = panel;
      return points(items, { x: i === panels.length - 1 ? x : undefined, y: panel.label, isMagnitude, hidden, events, models, extent, line })(place, { ...size, height: heights(size)[i] });
    });
    link(plots);
    return {
      plots,
      setSize: (to) => plots.forEach((plot, i) => plot.setSize({ ...to, height: heights(to)[i] })),
      destroy: () => plots.forEach((plot) => plot.destroy()),
    };
  };

  // Entries of the legend show and hide a group in all panels.
  const toggleOf = (found, hidden) => (group) => {
    if (!hidden.delete(group)) hidden.add(group);
    for (const plot of found.plots) {
      plot.setScale("x", { min: plot.scales.x.min, max: plot.scales.x.max });
      plot.redraw();
    }
    return !hidden.has(group);
  };

  // A colour for each filter; a shape for each filter, too, or for each instrument where there are several.
  const lightcurve = (facts, box, size) => {
    const instruments = [...new Set(facts.curves.map((curve) => curve.instrument))];
    const shape = (curve) => (instruments.length > 1 ? shapes[instruments.indexOf(curve.instrument) % shapes.length] : shapeOf(curve.filter));
    const itemsOf = (values, text) => facts.curves.flatMap((curve) => curve.time.flatMap((time, i) => {
      const value = values(curve)?.[i];
      if (!known(value)) return [];
      const item = { y: value, error: curve.mag_err[i], filter: curve.filter, open: Boolean(curve.flagged[i]), shape: shape(curve), group: nameOf(curve) };
      return placed(facts, time, { ...item, text: `${time.toFixed(4)}  ${text}${value.toFixed(3)} ± ${digits(curve.mag_err[i], 3)}  ${item.group}` });
    }));
    const hidden = new Set();
    const events = facts.period > 0 ? [] : facts.events;
    const models = () => (facts.models || []).filter((line) => !hidden.has(nameOf(line)));
    const items = itemsOf((curve) => curve.mag, "");
    const residuals = itemsOf((curve) => curve.residual, "residual ");
    const panels = [{ label: "Magnitude", items, isMagnitude: true, events, models, share: 5 }];
    if (residuals.length) panels.push({ label: "Residual [mag]", items: residuals, isMagnitude: true, level: 0, share: 2.4 });
    const found = stack(facts, box, { ...size, height: residuals.length ? size.height + 120 : size.height }, panels, hidden);
    const groups = new Map(items.map((item) => [item.group, item]));
    const extra = [];
    if (items.some((item) => item.open)) extra.push({ text: "flagged", mark: "open" });
    if (models().length) extra.push({ text: facts.period > 0 ? "harmonics" : "point lens", mark: "line", colour: style("--ink") });
    if (events.length) extra.push({ text: "event", mark: "band", colour: style("--faint") });
    const entries = [...groups].map(([group, item]) => ({ text: group, colour: colourOf(item.filter), shape: item.shape, group }));
    box.append(legend([...entries, ...extra], groups.size > 1 ? toggleOf(found, hidden) : undefined));
    const grown = (to) => ({ ...to, height: residuals.length ? to.height + 120 : to.height });
    return { ...found, setSize: (to) => found.setSize(grown(to)) };
  };

  // Two stars: the second one is hollow; below, what they differ by and what is left of that without its mean.
  const comparison = (facts, box, size) => {
    const hidden = new Set();
    const panels = facts.panels.map((panel) => ({
      ...panel,
      isMagnitude: panel.is_magnitude,
      items: panel.curves.flatMap((curve) => curve.time.flatMap((time, i) => (known(curve.values[i]) ? placed(facts, time, {
        y: curve.values[i], error: curve.errors[i], filter: curve.filter, open: curve.is_second, shape: shapeOf(curve.filter), group: nameOf(curve),
        text: `${time.toFixed(4)}  ${curve.values[i].toFixed(3)} ± ${digits(curve.errors[i], 3)}  ${nameOf(curve)}  ${curve.star}`,
      }) : []))),
    }));
    const found = stack(facts, box, size, panels, hidden);
    const groups = new Map(panels.flatMap((panel) => panel.items).map((item) => [item.group, item.filter]));
    const entries = [...groups].map(([group, filter]) => ({ text: group, colour: colourOf(filter), shape: shapeOf(filter), group }));
    box.append(legend([...entries, { text: facts.second, mark: "open" }], groups.size > 1 ? toggleOf(found, hidden) : undefined));
    return found;
  };

  return { lightcurve, comparison };
};
