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

  // The filter box narrows the night page while one types, as the server does for the same address.
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
    // Cards that the server filtered out cannot come back by typing: fetch the page then.
    const complete = filter.value === "";
    filter.addEventListener("input", () => {
      if (complete) narrow();
      else if (!filter.value) filter.form.requestSubmit();
    });
    filter.addEventListener("change", () => (complete ? undefined : filter.form.requestSubmit()));
    filter.form.addEventListener("submit", (event) => {
      if (complete && document.activeElement === filter) {
        event.preventDefault();
        visibleCards()[0]?.focus();
      }
    });
  }

  for (const field of all("input[type=file][data-into]")) {
    field.addEventListener("change", async () => {
      const target = one(`[name="${field.dataset.into}"]`, field.form);
      target.value = (await field.files[0].text()).slice(0, 6000);
      field.value = "";
    });
  }

  for (const form of all("form[data-lean]")) {
    form.addEventListener("formdata", (event) => {
      const usual = form.querySelectorAll("[name=columns]");
      const untouched = [...usual].every((box) => box.checked === box.defaultChecked) && !location.search.includes("columns=");
      if (untouched) event.formData.delete("columns");
      for (const [name, value] of [...event.formData]) {
        if (value === "" || (name === "unit" && value === "arcsec")) event.formData.delete(name);
      }
    });
  }

  for (const button of all("[data-copy]")) {
    button.addEventListener("click", async () => {
      const rows = all(`#${button.dataset.copy} tbody tr:not([hidden])`);
      const text = rows.length
        ? rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()).join("\t")).join("\n")
        : document.getElementById(button.dataset.copy).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
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

  // The sky image is loaded when the section is opened; a message says when there is none.
  for (const section of all("details[data-sky]")) {
    section.addEventListener(
      "toggle",
      () => {
        const picture = Object.assign(new Image(400, 400), { alt: "Survey image around the target", src: section.dataset.sky });
        picture.addEventListener("error", () => picture.replaceWith("No picture now: the survey service cannot be reached."));
        section.append(picture);
      },
      { once: true },
    );
  }

  // Seeing frames one after the other.
  const project = (movie) => {
    const frames = all("li", movie);
    const [picture, caption, play] = ["[data-frame]", "[data-caption]", '[data-do="play"]'].map((name) => one(name, movie));
    let place = 0;
    let timer;
    const show = (step) => {
      place = (place + step + frames.length) % frames.length;
      picture.src = frames[place].dataset.src;
      caption.textContent = frames[place].textContent;
      new Image().src = frames[(place + 1) % frames.length].dataset.src;
    };
    const stop = () => {
      timer = clearInterval(timer);
      play.textContent = "Play";
      play.setAttribute("aria-pressed", "false");
    };
    movie.addEventListener("click", (event) => {
      const action = event.target.dataset.do;
      if (action === "play" && !timer) {
        timer = setInterval(() => show(1), 300);
        play.textContent = "Pause";
        play.setAttribute("aria-pressed", "true");
      } else if (action) {
        stop();
        if (action !== "play") show(action === "on" ? 1 : -1);
      }
    });
    show(0);
    movie.dataset.shown = "";
  };
  const startMovies = () => all("[data-movie]:not([data-shown])").forEach(project);
  startMovies();

  // A glass over the pictures: the full picture at its own scale under the pointer.
  if (one("[data-magnify]")) {
    const glass = Object.assign(document.createElement("div"), { className: "glass", hidden: true });
    document.body.append(glass);
    const power = 3;
    document.addEventListener("mousemove", (event) => {
      const picture = event.target.closest?.(".viewer .picture img");
      glass.hidden = !picture || !one("[data-magnify]").checked;
      if (glass.hidden) return;
      const box = picture.getBoundingClientRect();
      const scale = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
      const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
      const x = event.clientX - box.left - (box.width - width) / 2;
      const y = event.clientY - box.top - (box.height - height) / 2;
      const half = glass.offsetWidth / 2;
      glass.style.left = `${event.clientX - half}px`;
      glass.style.top = `${event.clientY - half}px`;
      glass.style.backgroundImage = `url("${picture.currentSrc}")`;
      glass.style.backgroundSize = `${width * power}px ${height * power}px`;
      glass.style.backgroundPosition = `${half - x * power}px ${half - y * power}px`;
    });
  }

  // The kind of picture and its stretch stay as chosen while one goes through observations.
  const choices = ["picture", "stretch"];
  const recall = () => {
    for (const name of choices) {
      const chosen = sessionStorage.getItem(name);
      const box = chosen && one(`.viewer input[name="${name}"][value="${CSS.escape(chosen)}"]`);
      if (box) box.checked = true;
    }
  };
  document.addEventListener("change", (event) => {
    if (choices.includes(event.target.name) && event.target.closest(".viewer")) sessionStorage.setItem(event.target.name, event.target.value);
  });
  recall();

  // A part that htmx fetches again keeps what was open in it, and the focus.
  const keepOpen = () => {
    const open = all("details[id]").filter((section) => section.open).map((section) => section.id);
    const closed = all("details[id]").filter((section) => !section.open).map((section) => section.id);
    const holder = document.activeElement?.closest("[id]");
    const places = "a, summary, button, input";
    const place = holder ? all(places, holder).indexOf(document.activeElement) : -1;
    return () => {
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      for (const id of closed) document.getElementById(id)?.removeAttribute("open");
      const lost = document.activeElement === document.body && holder && document.getElementById(holder.id);
      if (lost && place >= 0) all(places, lost)[place]?.focus();
    };
  };
  let restore = () => undefined;
  document.addEventListener("htmx:beforeSwap", () => (restore = keepOpen()));
  document.addEventListener("htmx:afterSwap", () => {
    restore();
    const here = one("main [data-daemon-now]");
    if (here) showDaemon(here.textContent);
  });

  document.addEventListener("input", (event) => event.target.form?.setAttribute("data-edited", ""));

  const down = ["not running", "stopped"];
  const showDaemon = (state) => {
    const word = one("[data-daemon]");
    word.textContent = state;
    word.className = `daemon daemon-${state.replaceAll(" ", "-")}`;
    word.title = `The daemon is ${state}`;
    one("[data-alarm]").hidden = !down.includes(state);
    one("[data-starting]").hidden = state !== "starting";
  };

  // Every page polls what the daemon does; one that shows running work also whether it is out of date, and replaces
  // what changed.
  const live = one("main[data-live]");
  const asked = live?.dataset.live || document.body.dataset.pulse;
  if (asked) {
    const quick = 4000;
    const slow = 30000;
    const endless = Date.now() + 12 * 3600 * 1000;
    let pulse = live?.dataset.pulse ?? "";
    let pause = quick;
    let timer;
    const settle = () => {
      if (filter?.value && one("[data-light-table]")) narrow();
      recall();
      startMovies();
      dispatchEvent(new Event("redraw"));
    };
    const exchange = (fresh) => {
      for (const part of all("[data-part]", fresh)) {
        const old = document.getElementById(part.id);
        if (!old || old.dataset.part === part.dataset.part) continue;
        if (one("form[data-edited]", old)) continue; // what somebody writes just now stays
        const focused = old.contains(document.activeElement);
        const open = all("details", old).map((section) => section.open);
        const boxes = new Map(all("input[type=checkbox]", old).map((box) => [box.name || "magnify", box.checked]));
        old.replaceWith(part);
        all("details", part).forEach((section, i) => (section.open = open[i] || false));
        all("input[type=checkbox]", part).forEach((box) => (box.checked = boxes.get(box.name || "magnify") ?? box.checked));
        htmx.process(part);
        if (focused) one("a, summary, button, input:checked", part)?.focus();
      }
    };
    const takeOver = async () => {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const names = (page) => all("[data-parts] [data-part]", page).map((part) => part.id).join(" ");
      if (names(fresh) !== names(document)) one("[data-parts]")?.replaceWith(one("[data-parts]", fresh) || "");
      exchange(fresh);
      settle();
    };
    const look = async () => {
      const answer = await fetch(asked, { headers: { Accept: "application/json" } });
      if (answer.redirected || answer.status === 401) {
        one("[data-logged-out]").hidden = false;
        one("[data-logged-out] a").search = `?next=${encodeURIComponent(location.pathname + location.search)}`;
        one("[data-alarm]").hidden = one("[data-starting]").hidden = true;
        one("[data-daemon]").textContent = "logged out";
        return false;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      const found = await answer.json();
      one("[data-no-answer]").hidden = true;
      one("[data-since]").textContent = found.started;
      showDaemon(found.daemon);
      pause = Math.min(slow, pause * 1.15);
      if (live && found.pulse !== pulse) {
        await takeOver();
        pause = quick;
      }
      pulse = found.pulse;
      // A daemon that falls silent is missed as soon as it counts as ended.
      const left = 1000 * (found.limit_s - found.silent_s) + 500;
      if (known(found.silent_s) && left > 0) pause = Math.min(pause, Math.max(left, 1000));
      return true;
    };
    const known = (value) => typeof value === "number";
    const poll = async () => {
      clearTimeout(timer);
      if (Date.now() > endless) return;
      let goesOn = true;
      if (!document.hidden) {
        try {
          goesOn = await look();
        } catch {
          one("[data-no-answer]").hidden = false;
          pause = slow / 3;
        }
      }
      clearTimeout(timer);
      if (goesOn) timer = setTimeout(poll, pause);
    };
    addEventListener("visibilitychange", () => {
      pause = quick;
      if (!document.hidden) poll();
    });
    poll();
  }

  const visibleCards = () => all(".card").filter((card) => card.offsetParent !== null);

  // Back from an observation, the focus is on its card again.
  if (live?.dataset.observation) sessionStorage.setItem("card", `card-${live.dataset.observation}`);
  else if (one("[data-light-table]") && document.referrer.includes("/observation/")) {
    const card = document.getElementById(sessionStorage.getItem("card") || "-");
    if (card) one("a", card)?.focus();
  }

  const neighbour = (cards, here, key) => {
    const place = cards.indexOf(here);
    if (place < 0) return key === "ArrowRight" ? cards[0] : undefined; // up and down scroll until a card has the focus
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

  const typing = (target) => target.matches("input:not([type=radio]):not([type=checkbox]):not([type=range]), textarea, select");

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
    // The browser closes an open menu, and gives the focus back to its button.
    if (event.key === "Escape" && document.querySelector(":popover-open")) return;
    if (typing(event.target)) {
      leaveField(event);
      return;
    }
    // Radio buttons and sliders take the arrows themselves.
    if (event.target.matches("input[type=radio], input[type=range]") && event.key.startsWith("Arrow")) return;
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
