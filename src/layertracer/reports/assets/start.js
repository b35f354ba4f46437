function showTheme() {
  const isDark = document.documentElement.dataset.theme === "dark";
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(isDark));
  button.textContent = isDark ? "Light" : "Dark";
  button.setAttribute("aria-label", isDark ? "Dark theme on; switch to light" : "Dark theme off; switch to dark");
}

function switchTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("layertracer-theme", theme);
  } catch {
    // Storage is refused for some local files: the choice lasts until the page is closed.
  }
  showTheme();
  drawAll();
}

async function copyText(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // No access to the clipboard: select the text, so that one key press copies it.
    window.getSelection().selectAllChildren(source);
    button.textContent = "Selected";
  }
}

function preparePrint() {
  for (const details of document.querySelectorAll("details.print-open")) details.open = true;
  drawAll(true);
}

function followWidth() {
  let last = window.innerWidth;
  let pending = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === last || isPrinting()) return;
    last = window.innerWidth;
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(() => drawAll());
  });
}

// A row of the map leads to that prompt's grid.
function linkMap() {
  const map = document.getElementById("plot-map");
  if (!map || !map.on || !lens) return;
  map.on("plotly_click", ({ points }) => {
    const prompt = report.figures.map.prompts[points[0].y];
    if (prompt >= lens.prompts.length) return;
    choosePrompt(prompt);
    document.getElementById("lens").scrollIntoView();
  });
}

async function start() {
  showTheme();
  document.getElementById("theme").addEventListener("click", switchTheme);
  for (const button of document.querySelectorAll("[data-copy]")) button.addEventListener("click", () => copyText(button));
  for (const button of document.querySelectorAll("[data-save]")) {
    button.addEventListener("click", () => saveFigure(button.dataset.figure, button.dataset.save));
  }
  startTables();
  startLens();
  startCells();
  await drawAll();
  linkMap();
  followWidth();
  window.addEventListener("beforeprint", preparePrint);
  window.addEventListener("afterprint", () => drawAll(false));
  window.matchMedia("print").addEventListener("change", (query) => (query.matches ? preparePrint() : drawAll(false)));
  document.documentElement.dataset.ready = "true";
}

start();
