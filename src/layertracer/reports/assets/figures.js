const report = JSON.parse(document.getElementById("report-data").textContent);
const PLAIN_TEXT = new Set(["text", "ticktext", "customdata", "name"]);
const NARROW = 560;
const PRINT_WIDTH = 690;
const CONFIG = { displayModeBar: false, displaylogo: false, showTips: false, doubleClick: "reset" };

// Plotly reads a subset of HTML in its texts. Whatever is data becomes plain text here, in one place.
function escapeForPlotly(value) {
  if (Array.isArray(value)) return value.map(escapeForPlotly);
  if (typeof value !== "string") return value;
  return value.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function readPalette() {
  const style = getComputedStyle(document.documentElement);
  return (value) => value.replace(/^var\((--[a-z0-9-]+)\)$/, (_, name) => style.getPropertyValue(name).trim());
}

// A copy of a figure with data escaped and colours of the present theme filled in.
function prepare(value, resolve, key = "") {
  if (PLAIN_TEXT.has(key) && (typeof value === "string" || Array.isArray(value))) return escapeForPlotly(value);
  if (typeof value === "string") return value.startsWith("var(") ? resolve(value) : value;
  if (Array.isArray(value)) return value.map((item) => prepare(item, resolve));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, prepare(item, resolve, name)]));
}

// As many layer numbers as fit without touching.
function layerTicks({ n, embedding }, width) {
  const room = width / (n + 1);
  const needed = 10 + 7 * String(n - 1).length;
  const step = [1, 2, 5, 10, 20, 50, 100].find((candidate) => candidate * room >= needed) || 200;
  const tickvals = [];
  for (let layer = 0; layer < n; layer += step) tickvals.push(layer);
  const ticktext = tickvals.map(String);
  if (embedding) {
    tickvals.unshift(-1);
    ticktext.unshift(room >= 26 ? "emb" : "e");
  }
  return { tickmode: "array", tickvals, ticktext, tickangle: 0 };
}

function fitMargins(layout, width) {
  const margin = { ...layout.margin };
  if (width < NARROW) {
    margin.l = Math.min(margin.l, 52);
    margin.r = Math.min(margin.r, 8);
  }
  return margin;
}

function parseColor(text) {
  const hex = text.match(/^#(..)(..)(..)$/);
  return hex ? hex.slice(1).map((pair) => parseInt(pair, 16)) : text.match(/[\d.]+/g).slice(0, 3).map(Number);
}

function colorAt(scale, share) {
  const above = Math.max(1, scale.findIndex(([position]) => position >= share));
  const [[low, from], [high, to]] = [scale[above - 1], scale[above]];
  const weight = (share - low) / (high - low);
  const target = parseColor(to);
  return parseColor(from).map((part, index) => part + weight * (target[index] - part));
}

function luminance(color) {
  const [red, green, blue] = color.map((part) => (part / 255 <= 0.04045 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

// The texts of a heat map as a trace of their own, each in black or white, whichever can be read.
function cellTexts(trace) {
  const cells = trace.text.flatMap((row, y) => row.map((text, x) => ({ text, x: trace.x[x], y: trace.y[y], z: trace.z[y][x] })));
  const shown = cells.filter(({ text }) => text !== "");
  const share = ({ z }) => Math.min(1, Math.max(0, ((z ?? 0) - trace.zmin) / (trace.zmax - trace.zmin)));
  delete trace.texttemplate;
  return {
    type: "scatter",
    mode: "text",
    x: shown.map(({ x }) => x),
    y: shown.map(({ y }) => y),
    text: shown.map(({ text }) => text),
    textfont: { ...trace.textfont, color: shown.map((cell) => (luminance(colorAt(trace.colorscale, share(cell))) > 0.2 ? "#16181c" : "#ffffff")) },
    hoverinfo: "skip",
    showlegend: false,
    xaxis: trace.xaxis ?? "x",
    yaxis: trace.yaxis ?? "y",
  };
}

// What depends on the width: margins, tick density, cell texts, titles that would not fit.
function fit(figure, width) {
  const { layout } = figure;
  layout.width = width;
  layout.margin = figure.keep_margin ? layout.margin : fitMargins(layout, width);
  const inner = width - layout.margin.l - layout.margin.r;
  if (figure.layers) {
    const { n } = figure.layers;
    Object.assign(layout.xaxis, layerTicks(figure.layers, inner));
    for (const trace of figure.data) if (trace.texttemplate && inner / (n + 1) < 26) delete trace.texttemplate;
  }
  if (width < NARROW) simplify(figure);
  return figure;
}

// A legend below the figure gets the height that it turned out to need: how its entries wrap is Plotly's matter.
function makeLegendRoom(element, height, bottom) {
  const legend = element.querySelector(".legend");
  const room = legend ? Math.ceil(legend.getBBox().height) + 8 : 0;
  return Plotly.relayout(element, { height: height + room, "margin.b": bottom + room });
}

// In a narrow window the legend goes below, and colour bars, which would run into titles, go.
function simplify(figure) {
  const { data, layout } = figure;
  for (const trace of data) if (trace.colorbar) trace.showscale = false;
  if (layout.showlegend && !figure.legend_below) {
    layout.legend = { ...layout.legend, x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom" };
    layout.margin.b += 34;
    layout.height += 34;
  }
  if (figure.narrow) mergeInto(layout, figure.narrow);
}

function mergeInto(target, changes) {
  for (const [name, value] of Object.entries(changes)) {
    const isNested = value !== null && typeof value === "object" && !Array.isArray(value);
    if (isNested && target[name]) mergeInto(target[name], value);
    else target[name] = value;
  }
}

// A map says its row's label once; Plotly wants it once per cell.
function labelRows(figure) {
  if (!figure.rows) return figure;
  const [map, ...others] = figure.data;
  const customdata = figure.rows.map((label) => map.x.map(() => label));
  return { ...figure, data: [{ ...map, customdata }, ...others] };
}

const isPrinting = () => window.matchMedia("print").matches;
const sources = new Map(Object.entries(report.figures || {}));

function drawFigure(id, forPrint = isPrinting()) {
  const element = document.getElementById(`plot-${id}`);
  if (!element || !sources.has(id)) return Promise.resolve();
  const width = forPrint ? PRINT_WIDTH : element.clientWidth;
  const source = sources.get(id);
  const drawn = typeof source === "function" ? source(width) : labelRows(source);
  const figure = fit(prepare(drawn, readPalette()), width);
  figure.data.push(...figure.data.filter((trace) => trace.texttemplate).map(cellTexts));
  const { height, margin } = figure.layout;
  const shown = Plotly.react(element, figure.data, figure.layout, CONFIG);
  return figure.legend_below ? shown.then(() => makeLegendRoom(element, height, margin.b)) : shown;
}

const drawAll = (forPrint) => Promise.all([...sources.keys()].map((id) => drawFigure(id, forPrint)));

function saveFigure(id, format) {
  const element = document.getElementById(`plot-${id}`);
  const { width, height } = element._fullLayout;
  const filename = `layertracer-${id}`;
  return Plotly.downloadImage(element, { format, width, height, scale: format === "png" ? 3 : 1, filename });
}
