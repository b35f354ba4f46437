// Runs before the page is drawn, so that a dark page never flashes white.
(() => {
  "use strict";
  let stored = null;
  try {
    stored = localStorage.getItem("layertracer-theme");
  } catch {
    // Storage is refused for some local files: the system's setting decides.
  }
  const isSystemDark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = stored || (isSystemDark ? "dark" : "light");
})();
