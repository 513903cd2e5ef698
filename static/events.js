// Going through events by keyboard: j and k move, y keeps, n rejects, u leaves undecided, t writes a note, o opens.
"use strict";

(() => {
  const cards = () => [...document.querySelectorAll("[data-event]")];
  // An answer may replace the card that has the focus, or the whole page: the one that had it last is meant then.
  let last = cards().findIndex((card) => `#${card.id}` === location.hash);
  document.addEventListener("focusin", ({ target }) => (last = cards().indexOf(target.closest("[data-event]"))));
  const current = () => document.activeElement?.closest("[data-event]") || (document.activeElement === document.body ? cards()[last] : null);
  const focus = (card) => {
    card?.querySelector("[data-open]").focus({ preventScroll: true });
    card?.scrollIntoView({ block: "nearest" });
  };

  const move = (step) => {
    const all = cards();
    const here = all.indexOf(current());
    const next = here < 0 ? all[0] : all[here + step];
    if (next) focus(next);
    else if (step > 0) document.querySelector("[data-following]")?.focus();
  };

  // The next card has the focus before the answer replaces this one.
  const decide = (card, key) => {
    const button = card.querySelector(`[data-verdict="${key}"]`);
    const next = cards()[cards().indexOf(card) + 1];
    if (next) focus(next);
    button.click();
  };

  const actions = {
    j: () => move(1),
    k: () => move(-1),
    o: (card) => card?.querySelector("[data-open]").click(),
    t: (card) => card?.querySelector("[data-note]").focus(),
    y: (card) => card && decide(card, "y"),
    n: (card) => card && decide(card, "n"),
    u: (card) => card && decide(card, "u"),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, textarea, select")) {
      if (event.key === "Escape" && event.target.matches("[data-note]")) focus(event.target.closest("[data-event]"));
      return;
    }
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key](current());
  });
})();
