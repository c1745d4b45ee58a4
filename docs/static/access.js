// For keyboards and screen readers: the captions of the menu are headings of a level; what scrolls can be reached.
addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.setAttribute("aria-level", "2");
  for (const box of document.querySelectorAll("pre, .table-wrapper, .formula, .cell_output")) if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
