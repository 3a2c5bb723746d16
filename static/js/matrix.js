"use strict";
// The matrix is one stop of the Tab key: arrows move in it, Space selects, Shift extends. Without
// this file its cells are links, and `select=1` in the address gives boxes to tick.
(() => {
  const form = document.getElementById("selection");
  if (!form) return;
  const table = () => document.getElementById("matrix");
  const hasBoxes = () => table()?.querySelector("input[name=pair]") != null;
  const selected = new Set();
  let anchor = null;
  let current = "";

  const rows = () => [...table().querySelectorAll("tbody tr[data-model]")];
  const regions = () =>
    [...table().querySelectorAll("thead th[data-region]")].map((head) => head.dataset.region);
  const cells = (row) => [...row.querySelectorAll(":scope > td:not(.sum)")];
  const linkOf = (cell) => cell?.querySelector("a[href]");
  const place = (link) => {
    const row = link.closest("tr");
    return { y: rows().indexOf(row), x: cells(row).indexOf(link.closest("td")) };
  };
  const pairOf = (link) => {
    const { y, x } = place(link);
    return `${rows()[y].dataset.model}@${regions()[x]}`;
  };
  const allLinks = () => [...table().querySelectorAll("tbody td a[href]:not(.dimmed)")];

  // After each swap: marks, roles and the one cell that Tab reaches.
  const draw = () => {
    const grid = table();
    if (!grid) return;
    grid.setAttribute("role", "grid");
    grid.setAttribute("aria-multiselectable", "true");
    let reached = null;
    for (const link of grid.querySelectorAll("tbody td a[href]")) {
      const isCurrent = link.getAttribute("href") === current;
      link.tabIndex = -1;
      link.closest("td").setAttribute("role", "gridcell");
      if (isCurrent) reached = link;
    }
    reached ??= grid.querySelector("tbody td a[href]");
    if (reached) reached.tabIndex = 0;
    if (!hasBoxes()) drawSelection();
  };
  const drawSelection = () => {
    const shown = new Set();
    let untested = 0;
    for (const link of table().querySelectorAll("tbody td a[href]")) {
      const pair = pairOf(link);
      const isOn = selected.has(pair);
      if (isOn) {
        shown.add(pair);
        untested += link.classList.contains("s-not_tested");
      }
      link.classList.toggle("selected", isOn);
      link.closest("td").setAttribute("aria-selected", String(isOn));
    }
    form.hidden = selected.size === 0;
    document.getElementById("selected-count").textContent =
      form.dataset.count.replace("COUNT", selected.size).replace("NEW", untested);
    document.getElementById("selected-pairs").replaceChildren(
      ...[...selected].map((pair) => {
        const input = document.createElement("input");
        input.type = "hidden";
        input.name = "pair";
        input.value = pair;
        return input;
      }),
    );
  };

  const toggle = (links, isOn) => {
    for (const link of links) {
      const pair = pairOf(link);
      if (isOn) selected.add(pair);
      else selected.delete(pair);
    }
    drawSelection();
  };
  const toggleAll = (links) => toggle(links, !links.every((link) => selected.has(pairOf(link))));

  const focusOn = (link) => {
    if (!link) return;
    current = link.getAttribute("href");
    for (const other of table().querySelectorAll("tbody td a[tabindex='0']")) other.tabIndex = -1;
    link.tabIndex = 0;
    link.focus();
  };
  // The next cell with a link from (y, x) in a direction; it skips what is not offered.
  const next = (y, x, dy, dx) => {
    const every = rows();
    for (let i = y + dy, j = x + dx; every[i]; i += dy, j += dx) {
      const inRow = cells(every[i]);
      if (j < 0 || j >= inRow.length) return null;
      const link = linkOf(inRow[j]);
      if (link) return link;
    }
    return null;
  };
  const ends = (row) => cells(row).map(linkOf).filter(Boolean);
  const page = (y, x, step) => {
    for (let i = Math.min(rows().length - 1, Math.max(0, y + step)); i !== y; i -= Math.sign(step)) {
      const link = linkOf(cells(rows()[i])[x]);
      if (link) return link;
    }
    return null;
  };
  const between = (from, to) => {
    const [a, b] = [place(from), place(to)];
    const [top, bottom] = [Math.min(a.y, b.y), Math.max(a.y, b.y)];
    const [left, right] = [Math.min(a.x, b.x), Math.max(a.x, b.x)];
    return rows().slice(top, bottom + 1)
      .flatMap((row) => cells(row).slice(left, right + 1)).map(linkOf).filter(Boolean);
  };

  const targets = {
    ArrowUp: (y, x) => next(y, x, -1, 0),
    ArrowDown: (y, x) => next(y, x, 1, 0),
    ArrowLeft: (y, x) => next(y, x, 0, -1),
    ArrowRight: (y, x) => next(y, x, 0, 1),
    Home: (y) => ends(rows()[y])[0],
    End: (y) => ends(rows()[y]).at(-1),
    PageUp: (y, x) => page(y, x, -10),
    PageDown: (y, x) => page(y, x, 10),
  };
  document.addEventListener("keydown", (event) => {
    const link = event.target.closest?.("#matrix tbody td a[href]");
    if (!link) return;
    const { y, x } = place(link);
    if ((event.ctrlKey || event.metaKey) && event.key === "a" && !hasBoxes()) {
      toggle(allLinks(), true);
    } else if (event.key === " " && !hasBoxes()) {
      toggleAll([link]);
      anchor = link;
    } else if (event.key === "Escape" && selected.size) {
      selected.clear();
      drawSelection();
    } else if (targets[event.key]) {
      const to = targets[event.key](y, x);
      if (event.shiftKey && to && !hasBoxes()) {
        anchor ??= link;
        toggle(between(anchor, to), true);
      } else if (!event.shiftKey) {
        anchor = null;
      }
      focusOn(to);
    } else {
      return;
    }
    event.preventDefault();
  });

  // Heads select all of a model or a region that is offered and matches.
  document.addEventListener("click", (event) => {
    if (hasBoxes() || !table() || event.target.closest("a, input, button")) return;
    const model = event.target.closest("#matrix tbody tr[data-model] > th");
    const region = event.target.closest("#matrix thead th[data-region]");
    if (model) toggleAll(ends(model.parentElement).filter((a) => !a.classList.contains("dimmed")));
    if (region) {
      const x = regions().indexOf(region.dataset.region);
      const column = rows().map((row) => linkOf(cells(row)[x])).filter(Boolean);
      toggleAll(column.filter((a) => !a.classList.contains("dimmed")));
    }
  });
  form.addEventListener("reset", () => {
    selected.clear();
    if (table() && !hasBoxes()) drawSelection();
  });
  document.addEventListener("focusin", (event) => {
    const link = event.target.closest?.("#matrix tbody td a[href]");
    if (link) current = link.getAttribute("href");
  });

  draw();
  document.addEventListener("htmx:afterSettle", draw);
})();

// A card says of the cell under the pointer or the focus what it is, in words, and leads on. It
// lies above the page, so nothing moves; Escape closes it. Without this file cells are links.
(() => {
  const card = document.getElementById("cell-card");
  if (!card?.showPopover) return;
  card.hidden = false;
  const CELL = "#matrix tbody td a[href]";
  const SHOW_MS = 400;
  const HIDE_MS = 250;
  const MOVES = new Set([
    "Tab", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown",
  ]);
  let current = null;
  let timer;
  let isByKey = false; // a cell that gets the focus back from a dialog shows no card

  const part = (name) => card.querySelector(name);
  const links = () => [...card.querySelectorAll("a[href]")];
  const isOpen = () => card.matches(":popover-open");

  const fill = (cell) => {
    const row = cell.closest("tr");
    const columns = [...document.querySelectorAll("#matrix thead th[data-region]")];
    const at = [...row.querySelectorAll(":scope > td")].indexOf(cell.closest("td"));
    const { region } = columns[at].dataset;
    const { model } = row.dataset;
    const words = cell.getAttribute("aria-label").slice(region.length + 2);
    part("strong").textContent =
      `${row.querySelector(".name").textContent} · ${region} (${columns[at].title})`;
    part(".id").textContent = model;
    part(".words").textContent = words.charAt(0).toLocaleUpperCase(document.documentElement.lang) + words.slice(1);
    part(".emulated").hidden = !cell.classList.contains("emulated");
    part("[data-link=open]").href = cell.getAttribute("href");
    const start = part("[data-link=start]");
    if (start) start.href = `${start.dataset.start}?${new URLSearchParams({ pair: `${model}@${region}` })}`;
  };

  // Beneath the cell, or above it where there is no room, and never outside the window.
  const place = (cell) => {
    const box = cell.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = card;
    const { clientWidth, clientHeight } = document.documentElement;
    const isBelow = box.bottom + 4 + height <= clientHeight || box.top - 4 - height < 0;
    card.style.left = `${Math.max(8, Math.min(box.left, clientWidth - width - 8))}px`;
    card.style.top = `${isBelow ? box.bottom + 4 : box.top - 4 - height}px`;
  };

  const hide = () => {
    clearTimeout(timer);
    current?.removeAttribute("aria-details");
    current = null;
    if (isOpen()) card.hidePopover();
  };
  const show = (cell) => {
    clearTimeout(timer);
    if (document.querySelector("dialog[open]") || !cell.isConnected) return;
    if (current !== cell) current?.removeAttribute("aria-details");
    current = cell;
    cell.setAttribute("aria-details", card.id);
    fill(cell);
    if (!isOpen()) card.showPopover();
    place(cell);
  };
  const soon = (act, ms) => {
    clearTimeout(timer);
    timer = setTimeout(act, ms);
  };

  document.addEventListener("mousemove", (event) => {
    if (!event.movementX && !event.movementY) return; // the page moved, not the pointer
    const cell = event.target.closest?.(CELL);
    const isOnCard = card.contains(event.target);
    if (cell && cell !== current) soon(() => show(cell), isOpen() ? HIDE_MS : SHOW_MS);
    else if (cell || isOnCard) clearTimeout(timer);
    else if (!current) clearTimeout(timer);
    else if (!card.contains(document.activeElement) && document.activeElement !== current) {
      soon(hide, HIDE_MS);
    }
  });
  document.addEventListener("focusin", (event) => {
    const cell = event.target.closest?.(CELL);
    if (cell && isByKey) show(cell);
    else if (!cell && !card.contains(event.target)) hide();
  });
  document.addEventListener("focusout", (event) => {
    if (!event.relatedTarget && current) soon(hide, HIDE_MS);
  });
  document.addEventListener("pointerdown", (event) => {
    isByKey = false;
    if (!card.contains(event.target)) hide();
  }, true);
  document.addEventListener("click", (event) => {
    if (!card.contains(event.target)) hide();
  }, true);
  window.addEventListener("scroll", () => { if (current) place(current); }, true);
  document.addEventListener("htmx:afterSettle", () => {
    if (current?.isConnected) show(current);
    else hide();
  });

  // Tab goes from the cell into its card and on from there; Escape leads back.
  document.addEventListener("keydown", (event) => {
    isByKey = MOVES.has(event.key);
    if (!isOpen()) return;
    const at = links().indexOf(document.activeElement);
    if (event.key === "Escape") {
      const cell = current;
      const wasInside = at >= 0;
      isByKey = false;
      hide();
      if (wasInside) cell.focus();
    } else if (event.key === "Tab" && !event.shiftKey && document.activeElement === current) {
      event.preventDefault();
      links()[0].focus();
    } else if (event.key === "Tab" && event.shiftKey && at === 0) {
      event.preventDefault();
      current.focus();
    } else if (event.key === "Tab" && !event.shiftKey && at === links().length - 1) {
      const cell = current;
      isByKey = false;
      hide();
      cell.focus(); // from where Tab goes on by itself
    }
  }, true);
})();
