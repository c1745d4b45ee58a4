// Under each page that the search has found: the line that stands under its title. (Sphinx would fetch the page for it, which
// a browser forbids to a page that was opened from disk.)
addEventListener("DOMContentLoaded", () => {
  const results = document.getElementById("search-results");
  if (!results || !window.SUBTITLES) return;
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href).href;
  new MutationObserver(() => results.querySelectorAll("li > a:first-child").forEach(link => {
    if (link.dataset.told) return;
    link.dataset.told = "1";
    const page = decodeURIComponent(link.href.split("#")[0].slice(root.length).split("?")[0]).replace(/\.html$/, "");
    if (!SUBTITLES[page]) return;
    const line = document.createElement("p");
    line.className = "subtitle";
    line.textContent = SUBTITLES[page];
    link.parentNode.append(line);
  })).observe(results, { childList: true, subtree: true });
});
