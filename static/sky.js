// The sky viewer: images of the archive where they lie, and what was found in them, drawn by Aladin Lite.

const stage = document.querySelector("[data-sky]");
const scene = JSON.parse(document.querySelector("#sky-scene").textContent);
const readout = document.querySelector("[data-sky-readout]");
const chosen = (name) => document.querySelector(`[data-sky-${name}]`).value;

const COLOURS = { outlines: "#d5dae0", stars: "#7fb2ea", catalogue: "#dda74a", companions: "#69c083" };
const STEP = 0.15; // of the view, for each press of an arrow key
const ZOOM = 1.4;
const CONTROLS = ["Zoom", "Layers", "Fullscreen", "Projection"].map((part) => `show${part}Control`);
const PARTS = ["StatusBar", "Reticle", "Frame", "Fov", "CooLocation"].map((part) => `show${part}`);
const BARE = Object.fromEntries([...CONTROLS, ...PARTS].map((part) => [part, false])); // the page has its own

const complain = (reason) => {
  const problem = document.querySelector("[data-sky-problem]");
  problem.textContent = `The sky cannot be drawn here: ${reason}. The FITS viewer shows images without it.`;
  problem.hidden = false;
};

const sexagesimal = (value, digits) => {
  const units = Math.round(value * 3600 * 10 ** digits); // rounded first: no 60.0 seconds
  const minutes = Math.floor(units / 10 ** digits / 60);
  const seconds = units / 10 ** digits - 60 * minutes;
  const two = (part) => String(part).padStart(2, "0");
  return `${two(Math.floor(minutes / 60))}:${two(minutes % 60)}:${seconds.toFixed(digits).padStart(digits + 3, "0")}`;
};

const read = (ra, dec) => {
  if (!Number.isFinite(ra) || !Number.isFinite(dec)) return;
  readout.textContent = `${sexagesimal((((ra % 360) + 360) % 360) / 15, 3)} ${dec < 0 ? "−" : "+"}${sexagesimal(Math.abs(dec), 2)} ICRS`;
};

const marksOf = (A) => {
  const catalogue = (kind, places, look) => {
    const found = A.catalog({ name: kind, color: COLOURS[kind], sourceSize: 16, ...look });
    found.addSources(places);
    return found;
  };
  const points = (places) => places.map(([ra, dec]) => A.source(ra, dec));
  const companions = scene.companions.map(({ ra, dec, label }) => A.source(ra, dec, { label }));
  const labelled = { displayLabel: true, labelColumn: "label", labelColor: COLOURS.companions, labelFont: "13px sans-serif" };
  return {
    outlines: A.graphicOverlay({ name: "outlines", color: COLOURS.outlines, lineWidth: 1 }),
    stars: catalogue("stars", points(scene.stars), { shape: "square" }),
    catalogue: catalogue("catalogue", points(scene.catalogue), { shape: "plus" }),
    companions: catalogue("companions", companions, { shape: "circle", sourceSize: 26, ...labelled }),
  };
};

const draw = (A) => {
  let image = null;
  const look = () => image.setColormap(chosen("colours"), { stretch: chosen("stretch") });
  const open = () => {
    const { address, label } = scene.images[chosen("image")];
    const shown = () => {
      look();
      document.documentElement.dataset.skyShown = chosen("image");
    };
    const failed = () => complain(`${label} cannot be read`);
    image = A.image(new URL(address, location.href).href, { name: label, imgFormat: "fits", successCallback: shown, errorCallback: failed });
    return image;
  };

  // Aladin Lite takes the width of the view; the height must hold the image, too.
  const field = () => scene.field_deg * Math.max(1, stage.clientWidth / stage.clientHeight);
  const background = scene.survey ? A.HiPS(scene.survey) : open();
  const begin = { target: scene.middle.join(" "), fov: field(), cooFrame: "ICRS", backgroundColor: "rgb(0, 0, 0)" };
  const aladin = A.aladin(stage, { ...BARE, ...begin, survey: background, hipsList: [], log: false });
  const show = () => (scene.survey ? aladin.setOverlayImageLayer(open(), "image") : aladin.setBaseImageLayer(open()));
  if (scene.survey) show();

  const marks = marksOf(A);
  for (const [kind, layer] of Object.entries(marks)) kind === "outlines" ? aladin.addOverlay(layer) : aladin.addCatalog(layer);
  for (const { corners } of scene.images) marks.outlines.add(A.polygon(corners));
  for (const box of document.querySelectorAll("[data-sky-marks]"))
    box.addEventListener("change", () => marks[box.dataset.skyMarks][box.checked ? "show" : "hide"]());

  document.querySelector("[data-sky-image]").addEventListener("change", show);
  for (const name of ["stretch", "colours"]) document.querySelector(`[data-sky-${name}]`).addEventListener("change", look);

  const go = (x, y) => {
    const { width, height } = stage.getBoundingClientRect();
    const [ra, dec] = aladin.pix2world(width * (0.5 + x * STEP), height * (0.5 + y * STEP));
    aladin.gotoRaDec(ra, dec);
    read(ra, dec);
  };
  const whole = () => {
    aladin.gotoRaDec(...scene.middle);
    aladin.setFoV(field());
  };
  const scaled = (factor) => () => aladin.setFoV(aladin.getFov()[0] * factor); // at once: its own zoom goes on when another key is pressed
  const zoom = { in: scaled(1 / ZOOM), out: scaled(ZOOM), whole };
  for (const button of document.querySelectorAll("[data-sky-do]")) button.addEventListener("click", zoom[button.dataset.skyDo]);
  const keys = { ArrowLeft: () => go(-1, 0), ArrowRight: () => go(1, 0), ArrowUp: () => go(0, -1), ArrowDown: () => go(0, 1), "+": zoom.in, "-": zoom.out, 0: whole };
  stage.addEventListener("keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  aladin.on("mouseMove", (at) => read(at.ra, at.dec));
  return aladin;
};

try {
  const { default: A } = await import(stage.dataset.sky);
  await A.init;
  stage.aladin = draw(A);
} catch (reason) {
  complain(String(reason.message || reason));
}
