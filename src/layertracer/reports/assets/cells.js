// Maps of single prompts of a causal trace: layers across, tokens from the first corrupted one on down.
const cells = report.cells;
let shownPrompt = 0;

function cellsFigure(width) {
  const prompt = cells.prompts[shownPrompt];
  const rows = [...prompt.positions.keys()];
  const layers = [...Array(cells.n_layers).keys()];
  const largest = Math.max(1e-9, ...prompt.effect.flat().map((value) => Math.abs(value ?? 0)));
  const rowHeight = rows.length <= 60 ? 22 : Math.max(4, Math.floor(1320 / rows.length));
  const isNarrow = width < NARROW;
  const label = (row) => (isNarrow ? prompt.tokens[row] : `${prompt.tokens[row]}  ${prompt.roles[row]}`);
  const base = JSON.parse(JSON.stringify(cells.layout));
  base.height = 60 + rowHeight * rows.length;
  base.margin.l = isNarrow ? 96 : 190;
  base.yaxis.tickvals = rowHeight >= 12 ? rows : [];
  base.yaxis.ticktext = rowHeight >= 12 ? rows.map(label) : [];
  const map = {
    type: "heatmap",
    x: layers,
    y: rows,
    z: prompt.effect,
    zmin: -largest,
    zmax: largest,
    colorscale: cells.scale,
    showscale: false,
    xgap: 1,
    ygap: rowHeight >= 12 ? 1 : 0,
    customdata: rows.map((row) => layers.map(() => `${prompt.tokens[row]} (token ${prompt.positions[row]}, ${prompt.roles[row]})`)),
    hovertemplate: "%{customdata}<br>layer %{x}: <b>%{z:.3~g}</b><extra></extra>",
  };
  return { data: [map], layout: base, layers: { n: cells.n_layers, embedding: false }, keep_margin: true };
}

function describeCells() {
  const prompt = cells.prompts[shownPrompt];
  document.getElementById("cells-subject").textContent = prompt.subject;
  document.getElementById("cells-probs").textContent = `${prompt.clean} clean, ${prompt.corrupted} corrupted`;
  document.getElementById("cells-text").textContent = prompt.text;
}

function chooseCells(index) {
  shownPrompt = (index + cells.prompts.length) % cells.prompts.length;
  document.getElementById("cells-prompt").value = String(shownPrompt);
  describeCells();
  fillTable("cells");
  return drawFigure("cells");
}

function startCells() {
  if (!cells || cells.prompts.length === 0) return;
  sources.set("cells", cellsFigure);
  const select = document.getElementById("cells-prompt");
  select.addEventListener("change", () => chooseCells(Number(select.value)));
  document.getElementById("cells-previous").addEventListener("click", () => chooseCells(shownPrompt - 1));
  document.getElementById("cells-next").addEventListener("click", () => chooseCells(shownPrompt + 1));
  describeCells();
}
