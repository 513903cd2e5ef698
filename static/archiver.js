// Keyboard, live filter, thumbnail size: comfort only. Every page works without this file.
"use strict";

(() => {
  const one = (selector, inside = document) => inside.querySelector(selector);
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];

  document.documentElement.classList.add("scripted");

  // A one-time link carries its token in the fragment, which is never sent; it goes into the form and out of sight.
  const tokenField = one("[data-from-fragment]");
  if (tokenField && location.hash.length > 1) {
    tokenField.value = decodeURIComponent(location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }

  for (const form of all("form[data-submit-on-change]")) {
    form.addEventListener("change", (event) => {
      const free = event.target.matches("[data-live-filter], [data-thumb-size]");
      if (!free && form.reportValidity()) form.requestSubmit();
    });
    // Empty parameters do not belong into an address worth sending to a colleague.
    form.addEventListener("formdata", (event) => {
      for (const [name, value] of [...event.formData]) {
        if (value === "" || (name === "sort" && value === "time")) event.formData.delete(name);
      }
    });
  }

  for (const field of all("[data-select-on-focus]")) field.addEventListener("focus", () => field.select());

  // Size of the thumbnails, remembered.
  const slider = one("[data-thumb-size]");
  if (slider) {
    const apply = () => document.documentElement.style.setProperty("--thumb", `${slider.value}px`);
    slider.value = localStorage.getItem("thumb-size") || slider.value;
    slider.addEventListener("input", () => {
      apply();
      localStorage.setItem("thumb-size", slider.value);
    });
    apply();
  }

  // The filter box narrows the light table while one types, as the server does for the same address.
  const filter = one("[data-live-filter]");
  const narrow = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const card of all(".card")) {
      const kept = words.every((word) => card.dataset.words.includes(word));
      card.parentElement.hidden = !kept;
      shown += kept;
    }
    for (const group of all("[data-group]")) {
      const left = all("li:not([hidden])", group).length;
      group.hidden = left === 0;
      one("[data-group-shown]", group).textContent = left;
    }
    one("[data-shown]").textContent = shown;
    one("[data-none]").hidden = shown > 0;
    const address = new URL(location.href);
    if (filter.value) address.searchParams.set("q", filter.value);
    else address.searchParams.delete("q");
    history.replaceState(null, "", address);
    for (const card of all(".card")) {
      const target = new URL(card.href);
      target.search = address.search;
      card.href = target.href;
    }
  };
  if (filter && one("[data-light-table]")) {
    // Cards that the server left out cannot come back by typing: ask the server then.
    const complete = filter.value === "";
    filter.addEventListener("input", () => (complete ? narrow() : undefined));
    filter.addEventListener("change", () => (complete ? undefined : filter.form.requestSubmit()));
    filter.form.addEventListener("submit", (event) => {
      if (complete && document.activeElement === filter) {
        event.preventDefault();
        visibleCards()[0]?.focus();
      }
    });
  }

  for (const field of all("[data-filter-rows]")) {
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of all(`#${field.dataset.filterRows} tbody tr`)) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
      }
    });
  }

  // What a closed section holds is fetched when it is opened first.
  for (const section of all("details[data-load]")) {
    section.addEventListener("toggle", () => htmx.trigger(one("[hx-get]", section), "opened"), { once: true });
  }

  const visibleCards = () => all(".card").filter((card) => card.offsetParent !== null);

  const neighbour = (cards, here, key) => {
    const place = cards.indexOf(here);
    if (place < 0) return cards[0];
    if (key === "ArrowLeft") return cards[place - 1];
    if (key === "ArrowRight") return cards[place + 1];
    const from = here.getBoundingClientRect();
    const down = key === "ArrowDown";
    const rows = cards
      .map((card) => ({ card, box: card.getBoundingClientRect() }))
      .filter(({ box }) => (down ? box.top > from.top + 1 : box.top < from.top - 1));
    if (!rows.length) return undefined;
    const top = rows.map(({ box }) => box.top).reduce(down ? (a, b) => Math.min(a, b) : (a, b) => Math.max(a, b));
    const row = rows.filter(({ box }) => Math.abs(box.top - top) < 2);
    row.sort((a, b) => Math.abs(a.box.left - from.left) - Math.abs(b.box.left - from.left));
    return row[0].card;
  };

  const typing = (target) => target.matches("input:not([type=radio]):not([type=checkbox]), textarea, select");

  const leaveField = (event) => {
    if (event.key !== "Escape") return;
    if (event.target === filter && filter.value) {
      filter.value = "";
      filter.dispatchEvent(new Event("input"));
    }
    event.target.blur();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target)) {
      leaveField(event);
      return;
    }
    const cards = visibleCards();
    if (cards.length && event.key.startsWith("Arrow")) {
      const next = neighbour(cards, document.activeElement, event.key);
      if (next) {
        event.preventDefault();
        next.focus();
        next.scrollIntoView({ block: "nearest" });
      }
      return;
    }
    const target = all("[data-keys]").find((element) => element.dataset.keys.split(" ").includes(event.key));
    if (target) {
      event.preventDefault();
      if (target.matches("a")) target.click();
      else target.focus();
    } else if (event.key === "Escape") {
      document.activeElement.blur();
    }
  });
})();
