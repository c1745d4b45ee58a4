// The viewer lives in a frame of its own, which knows the theme of the system only: tell it that of the page.
addEventListener("DOMContentLoaded", () => {
  const system = matchMedia("(prefers-color-scheme: dark)"), frames = document.querySelectorAll(".bike-static iframe, .bike-clip-still iframe");
  let shown = system.matches;
  const follow = () => {
    const theme = document.body.dataset.theme, dark = theme === "dark" || (theme !== "light" && system.matches);
    if (dark === shown) return;
    shown = dark;
    for (const frame of frames) frame.srcdoc = frame.srcdoc.replace(/<body[^>]*>/, `<body data-jp-theme-light="${!dark}">`);
  };
  follow();
  new MutationObserver(follow).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
  system.addEventListener("change", () => { if (!/light|dark/.test(document.body.dataset.theme)) shown = system.matches; });
});
