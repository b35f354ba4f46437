const lens = report.lens;
let chosen = 0;

function lensColumns(width) {
  const columns = Math.max(1, Math.floor((width - 90) / 118));
  return Math.min(lens.top_k, columns);
}

// The target's own column stands a little apart.
const columnOf = (rank) => rank + 1.12;

// Row y of the grid is layer y; the model's output is on top.
function lensFigure(width) {
  const prompt = lens.prompts[chosen];
  const shown = lensColumns(width);
  const layers = [...Array(lens.n_layers).keys()];
  const room = Math.floor((width - 90) / (shown + 1) / 6.6);
  const isTight = room < 17;
  const percent = (probability) => (probability >= 0.0995 ? `${Math.round(100 * probability)} %` : `${(100 * probability).toFixed(1)} %`);
  const clip = (label, limit) => (label.length > limit ? `${label.slice(0, limit - 1)}…` : label);
  const cell = (label, probability) => (isTight ? clip(label, room) : `${clip(label, room - 7)}  ${percent(probability)}`);
  const isTarget = (layer, rank) => prompt.target_ids.includes(prompt.ids[layer][rank]);
  const ranks = [...Array(shown).keys()];
  const grid = heatmap({
    x: ranks.map(columnOf),
    z: layers.map((layer) => ranks.map((rank) => prompt.probs[layer][rank])),
    text: layers.map((layer) => ranks.map((rank) => cell(lens.tokens[prompt.ids[layer][rank]], prompt.probs[layer][rank]))),
    customdata: layers.map((layer) => ranks.map((rank) => [lens.tokens[prompt.ids[layer][rank]], `rank ${rank + 1}`])),
  });
  const target = heatmap({
    x: [0],
    z: layers.map((layer) => [prompt.target_prob[layer]]),
    text: layers.map((layer) => [`${isTight ? "" : `${percent(prompt.target_prob[layer])}  `}rank ${prompt.rank[layer].toLocaleString("en")}`]),
    customdata: layers.map((layer) => [[prompt.target, `rank ${prompt.rank[layer].toLocaleString("en")}`]]),
  });
  const frames = layers.flatMap((layer) => ranks.filter((rank) => isTarget(layer, rank)).map((rank) => frame(columnOf(rank), layer)));
  return { data: [target, grid], layout: lensLayout(shown, frames) };
}

function heatmap(values) {
  return {
    type: "heatmap",
    y: [...Array(lens.n_layers).keys()],
    zmin: 0,
    zmax: 1,
    colorscale: report.prob_scale,
    showscale: false,
    xgap: 2,
    ygap: 2,
    texttemplate: "%{text}",
    textfont: { size: 11 },
    hovertemplate: "layer %{y}, %{customdata[1]}<br><b>%{customdata[0]}</b><br>probability %{z:.4~g}<extra></extra>",
    ...values,
  };
}

function frame(x, y) {
  const edges = { x0: x - 0.49, x1: x + 0.49, y0: y - 0.47, y1: y + 0.47 };
  return { type: "rect", xref: "x", yref: "y", ...edges, line: { color: "var(--loss)", width: 2 } };
}

function lensLayout(shown, frames) {
  const base = JSON.parse(JSON.stringify(report.lens_layout));
  base.height = 60 + 23 * lens.n_layers;
  base.xaxis.range = [-0.5, columnOf(shown - 1) + 0.5];
  base.xaxis.tickvals = [0, ...[...Array(shown).keys()].map(columnOf)];
  base.xaxis.ticktext = ["target", "most probable", "second", "third", "fourth", "fifth"].slice(0, shown + 1);
  base.yaxis.range = [-0.5, lens.n_layers - 0.5];
  base.yaxis.dtick = lens.n_layers > 60 ? 5 : 1;
  base.shapes = frames;
  return base;
}

function describePrompt() {
  const prompt = lens.prompts[chosen];
  const begins = prompt.begins ? ", begins with the answer" : "";
  const verdict = { true: ", solved", false: begins || ", not solved", null: begins }[String(prompt.solved)];
  document.getElementById("lens-target").textContent = prompt.target;
  document.getElementById("lens-own").textContent = prompt.own + verdict;
  document.getElementById("lens-text").textContent = prompt.text;
}

function choosePrompt(index) {
  chosen = (index + lens.prompts.length) % lens.prompts.length;
  document.getElementById("prompt").value = String(chosen);
  describePrompt();
  fillTable("lens");
  return drawFigure("lens");
}

function startLens() {
  if (!lens || lens.prompts.length === 0) return;
  sources.set("lens", lensFigure);
  const select = document.getElementById("prompt");
  select.addEventListener("change", () => choosePrompt(Number(select.value)));
  document.getElementById("previous").addEventListener("click", () => choosePrompt(chosen - 1));
  document.getElementById("next").addEventListener("click", () => choosePrompt(chosen + 1));
  document.getElementById("plot-lens").setAttribute("aria-describedby", "lens-target");
  describePrompt();
}
