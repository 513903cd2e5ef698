// The FITS viewer: JS9 with the few tools that an astronomer reaches for.
"use strict";

(() => {
  const tools = document.querySelector("[data-fits]");
  const readout = document.querySelector("[data-readout]");
  const problem = document.querySelector("[data-fits-problem]");
  const one = (name) => tools.querySelector(`[data-js9="${name}"]`);

  const complain = (text) => {
    problem.textContent = `This image cannot be shown here: ${text}. It can be downloaded.`;
    problem.hidden = false;
  };

  const shown = () => JS9.GetImage({ display: "JS9" });
  const apply = () => {
    JS9.SetScale(one("scale").value, { display: "JS9" });
    JS9.SetColormap(one("colormap").value, { display: "JS9" });
  };

  const listen = () => {
    one("scale").addEventListener("change", apply);
    one("clip").addEventListener("change", () => JS9.SetScale(one("clip").value, { display: "JS9" }));
    one("colormap").addEventListener("change", apply);
    one("invert").addEventListener("click", () => {
      const inverted = one("invert").getAttribute("aria-pressed") !== "true";
      one("invert").setAttribute("aria-pressed", String(inverted));
      JS9.SetParam("invert", inverted, { display: "JS9" });
    });
    one("in").addEventListener("click", () => JS9.SetZoom("in", { display: "JS9" }));
    one("out").addEventListener("click", () => JS9.SetZoom("out", { display: "JS9" }));
    one("fit").addEventListener("click", () => {
      JS9.SetZoom("toFit", { display: "JS9" });
      JS9.SetPan({ display: "JS9" });
    });
    one("north").addEventListener("click", () => JS9.SetRotate("northisup", { display: "JS9" }));
  };

  const read = (event) => {
    const image = shown();
    if (!image) return;
    const { x, y } = image.displayToImagePos(JS9.eventToDisplayPos(event));
    const found = image.updateValpos({ x, y }, false);
    const sky = JS9.PixToWCS(x, y, { display: "JS9" });
    const parts = [`x ${x.toFixed(1)}  y ${y.toFixed(1)}`];
    const header = (image.raw && image.raw.header) || {};
    const unit = header.BUNIT ? ` ${header.BUNIT}` : "";
    if (found && Number.isFinite(Number(found.val))) parts.push(`value ${Number(found.val).toPrecision(5)}${unit}`);
    // JS9 writes the system that it was built with; the one of the file is what its header says.
    if (sky && sky.str) parts.push(`${sky.str.replace(/\b(ICRS|FK5|FK4)\b/, "").trim()} ${header.RADESYS || header.RADECSYS || "ICRS"}`);
    readout.textContent = parts.join("   ");
  };

  // JS9 keeps the keys to itself while the pointer is over the image; leaving is not its business.
  document.addEventListener(
    "keydown",
    (event) => {
      if (event.key === "Escape") document.querySelector('[data-keys="Escape"]').click();
    },
    true,
  );

  const start = () => {
    listen();
    document.querySelector(".fits-stage").addEventListener("mousemove", read, true);
    JS9.Load(
      new URL(tools.dataset.fits, location.href).href,
      {
        onload: () => {
          apply();
          JS9.SetZoom("toFit", { display: "JS9" });
          document.documentElement.dataset.fitsShown = String(shown().raw.width);
        },
        onerror: (reason) => complain(String(reason && reason.message ? reason.message : reason)),
      },
      { display: "JS9" },
    );
  };

  // JS9 is set up before the module that reads FITS files has come: both are needed, in whichever order they come.
  let hasStarted = false;
  const startIfReady = () => {
    if (hasStarted || !JS9.inited || !JS9.fits.ready) return;
    hasStarted = true;
    start();
  };

  if (typeof JS9 === "undefined") complain("the viewer could not be started");
  else {
    $(document).on("JS9:init JS9:ready astroem:ready", startIfReady);
    startIfReady();
  }
})();
