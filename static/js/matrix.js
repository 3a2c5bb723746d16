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
