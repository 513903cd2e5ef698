// Close-ups of several epochs, laid over each other and blinked. Without this file they stand side by side.
"use strict";

(() => {
  const room = document.querySelector("[data-blink]");
  const figures = room ? [...room.querySelectorAll("figure")] : [];
  if (figures.length < 1) return;
  const place = room.querySelector("[data-place]");
  const play = room.querySelector('[data-do="play"]');
  const pause = room.querySelector("[data-pause]");
  let shown = 0;
  let timer;

  const show = (step) => {
    shown = (shown + step + figures.length) % figures.length;
    figures.forEach((figure, i) => figure.toggleAttribute("data-shown", i === shown));
    // A running blink is not read out.
    if (place && !timer) place.textContent = `${shown + 1} of ${figures.length}`;
  };
  const stop = () => {
    timer = clearInterval(timer);
    if (!play) return;
    play.textContent = "Blink";
    play.setAttribute("aria-pressed", "false");
  };
  const start = () => {
    timer = setInterval(() => show(1), Number(pause.value));
    play.textContent = "Stop";
    play.setAttribute("aria-pressed", "true");
    place.textContent = "";
  };
  const act = (what) => {
    if (what === "play" && !timer) {
      start();
      return;
    }
    stop();
    show({ on: 1, back: -1, play: 0 }[what]);
  };

  room.classList.add("is-blinking");
  show(0);
  if (figures.length < 2) return;
  room.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-do]");
    if (button) act(button.dataset.do);
    else if (event.target.closest(".blink-stage img") && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      act(event.shiftKey ? "back" : "on");
    }
  });
  pause.addEventListener("change", () => {
    if (!timer) return;
    stop();
    start();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) return;
    const onButton = event.target.matches("button, summary");
    if (event.key === " " && !onButton) act("play");
    else if (event.key === "b") act("on");
    else if (event.key === "B") act("back");
    else return;
    event.preventDefault();
  });
})();
