"use strict";
// Pages work without this file. It polls fragments while the tab is visible, opens cells in a
// dialog and submits filters.
(() => {
  const REFRESH_MS = 9000; // the matrix is large: at most this often
  let tick = 0;
  let stale = false;
  let refreshed = 0;

  // data-poll holds seconds, a multiple of three.
  setInterval(() => {
    if (document.visibilityState !== "visible") return;
    tick += 3;
    for (const element of document.querySelectorAll("[data-poll]")) {
      if (tick % Number(element.dataset.poll) === 0) htmx.trigger(element, "poll");
    }
    if (!stale || Date.now() - refreshed < REFRESH_MS) return;
    stale = false;
    refreshed = Date.now();
    const results = document.getElementById("results");
    if (results) htmx.trigger(results, "refresh");
  }, 3000);
  document.addEventListener("results-changed", () => { stale = true; });

  // A refreshed matrix keeps its scroll position and its focus.
  let place = null;
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.target.id !== "results") return;
    const box = event.detail.target.querySelector(".scroll");
    const active = document.activeElement;
    const focused = event.detail.target.contains(active) ? active : null;
    place = {
      left: box?.scrollLeft ?? 0,
      top: box?.scrollTop ?? 0,
      href: focused?.getAttribute("href"),
    };
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (!place) return;
    const results = document.getElementById("results");
    results?.querySelector(".scroll")?.scrollTo(place.left, place.top);
    if (place.href) {
      const link = results?.querySelector(`a[href="${CSS.escape(place.href)}"]`);
      link?.focus({ preventScroll: true });
    }
    place = null;
  });

  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submit]")) event.target.form.requestSubmit();
  });

  // A field that narrows a list of boxes while one types; without scripts it is not shown.
  for (const field of document.querySelectorAll("[data-filter]")) {
    field.closest("label").hidden = false;
    const list = document.querySelector(field.dataset.filter);
    field.addEventListener("change", (event) => event.stopPropagation());
    field.addEventListener("input", () => {
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

  // Show the label of a cell, written for screen readers, as its tooltip too.
  document.addEventListener("mouseover", (event) => {
    const cell = event.target.closest("table.matrix td a");
    if (cell && !cell.title) cell.title = cell.getAttribute("aria-label");
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

  // Keep the list of finished jobs open or closed when the fragment around it is refreshed.
  let open = false;
  document.addEventListener("htmx:beforeSwap", () => {
    open = document.getElementById("finished-jobs")?.open ?? false;
  });
  document.addEventListener("htmx:afterSettle", () => {
    const list = document.getElementById("finished-jobs");
    if (list) list.open = open;
  });
})();
