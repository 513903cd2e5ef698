// Compass and scale bar over the image of the FITS viewer, from the WCS of the file.
"use strict";

(() => {
  const marks = document.querySelector("[data-sky-marks]");
  const ARROW = 34;
  const BAR = { most: 150, left: 20, bottom: 24 };

  // Matrix from pixels to degrees (east, north), as the header writes it: CD, or CDELT with PC or CROTA2.
  const matrixOf = (header) => {
    const number = (name, otherwise) => (Number.isFinite(Number(header[name])) && header[name] !== "" ? Number(header[name]) : otherwise);
    const cells = ["1_1", "1_2", "2_1", "2_2"];
    let found;
    if (cells.some((cell) => header[`CD${cell}`] !== undefined)) found = cells.map((cell) => number(`CD${cell}`, 0));
    else {
      const [x, y, turn] = [number("CDELT1", NaN), number("CDELT2", NaN), (number("CROTA2", 0) * Math.PI) / 180];
      const turned = [Math.cos(turn), (-Math.sin(turn) * y) / x, (Math.sin(turn) * x) / y, Math.cos(turn)];
      const pc = cells.some((cell) => header[`PC${cell}`] !== undefined) ? cells.map((cell, index) => number(`PC${cell}`, index % 3 ? 0 : 1)) : turned;
      found = [x * pc[0], x * pc[1], y * pc[2], y * pc[3]];
    }
    return /^(DEC|GLAT)/.test(header.CTYPE1 || "") ? [found[2], found[3], found[0], found[1]] : found;
  };

  const round = (value) => {
    const power = 10 ** Math.floor(Math.log10(value));
    return [5, 2, 1].find((step) => step * power <= value) * power;
  };

  const named = (arcsec) => {
    const [value, unit] = arcsec >= 3600 ? [arcsec / 3600, "°"] : arcsec >= 60 ? [arcsec / 60, "′"] : [arcsec, "″"];
    return `${Number(value.toPrecision(3))}${unit}`;
  };

  const add = (name, attributes, text = "") => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
    part.textContent = text;
    marks.append(part);
  };

  const arrow = (letter, from, direction) => {
    const end = { x: from.x + ARROW * direction.x, y: from.y + ARROW * direction.y };
    const side = (sign) => `${end.x - 7 * direction.x + sign * 4 * direction.y} ${end.y - 7 * direction.y - sign * 4 * direction.x}`;
    add("path", { "data-arrow": letter, d: `M${from.x} ${from.y}L${end.x} ${end.y}M${side(1)}L${end.x} ${end.y}L${side(-1)}` });
    add("text", { x: end.x + 11 * direction.x, y: end.y + 11 * direction.y + 4 }, letter);
  };

  const draw = (image) => {
    marks.replaceChildren();
    const header = (image.raw && image.raw.header) || {};
    const [a, b, c, d] = /^(RA|DEC|GLON|GLAT)/.test(header.CTYPE1 || "") ? matrixOf(header) : [];
    const det = a * d - b * c;
    marks.toggleAttribute("hidden", !Number.isFinite(det) || det === 0);
    if (!Number.isFinite(det) || det === 0) return;
    const { width, height } = marks.getBoundingClientRect();
    marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const middle = { x: image.raw.width / 2, y: image.raw.height / 2 };
    const shown = (x, y) => image.imageToDisplayPos({ x: middle.x + x, y: middle.y + y });
    // Where a step of a degree east or north leads, on the screen, whose y points down.
    const towards = (x, y) => {
      const [start, end] = [shown(0, 0), shown(x, y)];
      const length = Math.hypot(end.x - start.x, end.y - start.y);
      return { x: (end.x - start.x) / length, y: (end.y - start.y) / length, scale: length / Math.hypot(x, y) };
    };
    const north = towards(-b / det, a / det);
    const east = towards(d / det, -c / det);
    const centre = { x: width - 70, y: 70 };
    arrow("N", centre, north);
    arrow("E", centre, east);
    const arcsec = (3600 * Math.sqrt(Math.abs(det))) / north.scale;
    const length = round(BAR.most * arcsec);
    const pixels = length / arcsec;
    add("path", { "data-bar": length, d: `M${BAR.left} ${height - BAR.bottom}v-5v5h${pixels}v-5` });
    add("text", { x: BAR.left + pixels / 2, y: height - BAR.bottom + 16 }, named(length));
    marks.setAttribute("aria-label", `Compass and scale bar of ${named(length)}`);
  };

  if (typeof $ !== "undefined") $(document).on("JS9:onimagedisplay", (_, { im }) => draw(im));
})();
