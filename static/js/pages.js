"use strict";
// Pages work without this file. It polls parts of pages while the tab is visible, opens cells in a
// dialog, submits filters, and acts on keys.
(() => {
  // Live: every element with data-poll is asked for again after so many seconds, a multiple of
  // three. An answer without content (204) says that nothing changed.
  const strip = document.getElementById("live");
  const stripText = strip.querySelector("span");
  const pause = strip.querySelector("button");
  const MAX_FAILURES = 3;
  let tick = 0;
  let paused = false;
  let failures = 0;
  let updatedAt = new Date();

  const polled = () => document.querySelectorAll("[data-poll]");
  const poll = () => { for (const element of polled()) htmx.trigger(element, "poll"); };

  // Readers who want a desktop notice when an open job ends have it polled in a hidden tab too.
  const html = document.documentElement;
  const isWatched = () =>
    html.dataset.notices === "on" && window.Notification?.permission === "granted" &&
    document.querySelector("#job[data-poll]") !== null;
  let wasWatched = false;
  document.addEventListener("htmx:beforeSwap", () => { wasWatched = isWatched(); });
  document.addEventListener("htmx:afterSettle", () => {
    if (!wasWatched || document.querySelector("#job[data-poll]")) return;
    wasWatched = false;
    const body = document.querySelector("#job .lead").textContent;
    if (document.visibilityState !== "visible") new Notification(document.title, { body });
  });
  document.addEventListener("change", (event) => {
    if (event.target.name === "job_notices" && event.target.checked) {
      window.Notification?.requestPermission();
    }
  });

  // The account page saves by itself; what is new of the looks is shown at once.
  document.addEventListener("htmx:afterSettle", () => {
    const looks = document.getElementById("new-looks")?.dataset;
    if (!looks) return;
    Object.assign(html.dataset, looks);
    for (const button of document.querySelectorAll("button[name=theme]")) {
      if (button.value === looks.theme) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  });

  const showStrip = () => {
    strip.hidden = polled().length === 0;
    const isLost = failures >= MAX_FAILURES;
    strip.classList.toggle("lost", isLost);
    const seconds = Math.max(0, Math.round((Date.now() - updatedAt) / 1000));
    let text = strip.dataset.updated.replace("SECONDS", seconds);
    if (isLost) text = strip.dataset.lost.replace("TIME", updatedAt.toLocaleTimeString());
    else if (paused) text = strip.dataset.paused;
    if (stripText.textContent !== text) stripText.textContent = text;
  };

  setInterval(() => {
    if (document.visibilityState !== "visible" && !isWatched()) return;
    showStrip();
    tick += 1;
    if (paused) return;
    for (const element of polled()) {
      if (tick % Number(element.dataset.poll) === 0) htmx.trigger(element, "poll");
    }
  }, 1000);
  showStrip();

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? pause.dataset.resume : pause.dataset.pause;
    if (!paused) poll();
    showStrip();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (!event.detail.elt.matches?.("[data-poll]")) return;
    if (event.detail.successful) {
      failures = 0;
      updatedAt = new Date();
    } else {
      failures += 1;
    }
    showStrip();
  });

  // Rows that a poll brings wait until the reader wants them, so that those in view do not move.
  const newRows = document.querySelector("button[data-rows]");
  if (newRows) {
    const rows = () => [...document.querySelectorAll(newRows.dataset.rows)];
    const known = new Set(rows().map((row) => row.id));
    const draw = () => {
      const added = rows().filter((row) => !known.has(row.id));
      for (const row of added) row.hidden = known.size > 0;
      newRows.hidden = added.length === 0 || known.size === 0;
      newRows.textContent = newRows.dataset.label.replace("NUMBER", added.length);
    };
    document.addEventListener("htmx:afterSettle", draw);
    newRows.addEventListener("click", () => {
      for (const row of rows()) {
        row.hidden = false;
        known.add(row.id);
      }
      draw();
      rows()[0]?.querySelector("a[href]")?.focus();
    });
  }

  // Milestones are read out politely, at most every ten seconds and only when they changed.
  const MILESTONE_MS = 10000;
  const milestones = document.getElementById("milestones");
  let announced = document.querySelector("[data-milestone]")?.dataset.milestone;
  let announcedAt = 0;
  document.addEventListener("htmx:afterSettle", () => {
    const text = document.querySelector("[data-milestone]")?.dataset.milestone;
    if (text === undefined || text === announced) return;
    if (Date.now() - announcedAt < MILESTONE_MS) return;
    announced = text;
    announcedAt = Date.now();
    milestones.textContent = text;
  });

  // Cells of the matrix that a poll changed are marked for a moment.
  const CHANGED_MS = 2000;
  const cellsOf = (part) => new Map(
    [...part.querySelectorAll("#matrix tbody td a[href]")].map((cell) => {
      const css = [...cell.classList].filter((name) => name !== "selected" && name !== "changed");
      return [cell.getAttribute("href"), `${css.join(" ")} ${cell.textContent}`];
    }),
  );
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    if (part.id !== "results" || !event.detail.shouldSwap) return;
    const before = cellsOf(part);
    document.addEventListener("htmx:afterSettle", () => {
      for (const [href, shown] of cellsOf(document)) {
        if (!before.has(href) || before.get(href) === shown) continue;
        const cell = document.querySelector(`#matrix tbody td a[href="${CSS.escape(href)}"]`);
        cell.classList.add("changed");
        setTimeout(() => cell.classList.remove("changed"), CHANGED_MS);
      }
    }, { once: true });
  });

  // A part that is swapped leaves what the reader has opened or closed as it is.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const details = [...event.detail.target.querySelectorAll("details[id]")];
    const states = details.map((element) => [element.id, element.open]);
    document.addEventListener("htmx:afterSwap", () => {
      for (const [id, isOpen] of states) document.getElementById(id)?.toggleAttribute("open", isOpen);
    }, { once: true });
  });

  // Keys. They never act while somebody types, nor together with Ctrl, Alt or Cmd.
  const keys = document.getElementById("keys");
  const ROWS = "main table tbody tr:not(.vendor), main .causes > li, main .jobs > li";
  const isTyping = (target) =>
    target.matches?.("input:not([type=checkbox], [type=radio]), textarea, select") ||
    target.isContentEditable;
  const moveTo = (step) => {
    const links = [...document.querySelectorAll(ROWS)]
      .map((row) => row.querySelector("a[href]"))
      .filter((link) => link?.offsetParent);
    const at = links.findIndex((link) => link.closest(ROWS).contains(document.activeElement));
    links[at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step]?.focus();
  };
  const act = {
    "?": () => keys?.showModal(),
    "/": () => document.querySelector("form[role=search] input[type=search]")?.focus(),
    r: poll,
    j: () => moveTo(1),
    k: () => moveTo(-1),
  };
  let prefix = "";
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || isTyping(event.target)) return;
    if (html.dataset.keys === "off" || document.querySelector("dialog[open]")) {
      return;
    }
    const key = prefix ? `${prefix} ${event.key}` : event.key;
    prefix = event.key === "g" && !prefix ? "g" : "";
    const link = document.querySelector(`a[data-key="${CSS.escape(key)}"]`);
    if (link) link.click();
    else if (act[key]) act[key]();
    else return;
    event.preventDefault();
  });

  // Go to: Ctrl+K or Cmd+K, also while somebody types. Arrows walk through what it finds.
  const goto = document.getElementById("goto");
  const openGoto = () => {
    if (document.querySelector("dialog[open]")) return;
    goto.showModal();
    const field = goto.querySelector("input");
    field.select();
    htmx.trigger(field, "opened");
  };
  if (goto) {
    document.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey) {
        event.preventDefault();
        openGoto();
      }
    });
    document.querySelector("a.search")?.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      openGoto();
    });
    goto.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const links = [...goto.querySelectorAll("a[href]")];
      if (event.key === "Enter" && event.target.matches("input")) {
        event.preventDefault();
        links[0]?.click();
      }
      if (!step) return;
      event.preventDefault();
      const at = links.indexOf(document.activeElement) + step;
      (at < 0 ? goto.querySelector("input") : links[at])?.focus();
    });
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });

  // A menu closes with Escape and with a click beside it.
  const menu = document.getElementById("account-menu");
  if (menu) {
    document.addEventListener("click", (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
  }

  // A field that narrows a list of boxes while one types; without scripts it is not shown.
  for (const field of document.querySelectorAll("[data-filter]")) {
    field.closest("label").hidden = false;
    const list = document.querySelector(field.dataset.filter);
    field.addEventListener("change", (event) => event.stopPropagation());
    field.addEventListener("input", (event) => {
      event.stopPropagation();
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const group of list.querySelectorAll("details")) {
        let shown = 0;
        for (const label of group.querySelectorAll("label:not(.all)")) {
          label.hidden = !words.every((word) => label.textContent.toLowerCase().includes(word));
          shown += !label.hidden;
        }
        group.hidden = !shown;
        if (words.length) group.open = shown > 0;
      }
    });
  }

  // Start: nothing can be started while the plan lacks what was typed or ticked.
  let typing;
  document.addEventListener("input", (event) => {
    const field = event.target;
    if (!field.closest("#choice")) return;
    for (const button of document.querySelectorAll("#plan form button")) button.disabled = true;
    if (!field.matches("input:not([type])")) return;
    clearTimeout(typing);
    typing = setTimeout(() => field.dispatchEvent(new Event("change", { bubbles: true })), 500);
  });

  // Buttons that copy a text; without scripts, or without access to the clipboard, they are not shown.
  const showCopy = (root) => {
    if (!navigator.clipboard) return;
    for (const button of root.querySelectorAll("button[data-copy]")) button.hidden = false;
  };
  showCopy(document);
  document.addEventListener("htmx:afterSettle", (event) => showCopy(event.detail.target));
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    const label = button.textContent;
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = label; }, 2000);
  });

  // Empty filters are left out of the URL.
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form.filters")) return;
    for (const field of event.target.elements) if (field.value === "") field.disabled = true;
  });
  window.addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form.filters :disabled")) field.disabled = false;
  });

  const dialog = document.getElementById("detail");
  if (!dialog) return;
  const body = document.getElementById("detail-body");
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== body) return;
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  // When the fragment cannot be loaded, open its page, which says why.
  for (const failure of ["htmx:responseError", "htmx:sendError"]) {
    document.addEventListener(failure, (event) => {
      if (event.detail.target === body) window.location = event.detail.pathInfo.requestPath;
    });
  }
})();
