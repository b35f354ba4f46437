// Tables behind the map and the lens are built when they are opened: their numbers are in the page already.
const builders = {
  map() {
    const { data, prompts, rows } = report.figures.map;
    const columns = ["Prompt", "Embedding", ...data[0].x.slice(1).map((layer) => `Layer ${layer}`)];
    return [columns, prompts.map((_, row) => [rows[row], ...data[0].z[row].map(showNumber)])];
  },
  lens() {
    const prompt = lens.prompts[chosen];
    const ranks = [...Array(lens.top_k).keys()];
    const columns = ["Layer", "Target probability", "Target rank", "Entropy, bits", ...ranks.map((rank) => `No. ${rank + 1}`)];
    const rows = prompt.ids.map((ids, layer) => [
      String(layer),
      showNumber(prompt.target_prob[layer]),
      prompt.rank[layer].toLocaleString("en"),
      showNumber(prompt.entropy[layer]),
      ...ids.map((id, rank) => `${lens.tokens[id]} ${showNumber(prompt.probs[layer][rank])}`),
    ]);
    return [columns, rows];
  },
  cells() {
    const prompt = cells.prompts[shownPrompt];
    const columns = ["Token", "Role", ...Array(cells.n_layers).keys()].map((name) => (typeof name === "number" ? `Layer ${name}` : name));
    return [columns, prompt.tokens.map((token, row) => [token, prompt.roles[row], ...prompt.effect[row].map(showNumber)])];
  },
};

const showNumber = (value) => (value === null ? "–" : String(value));

function makeRow(cells, tag) {
  const row = document.createElement("tr");
  cells.forEach((text, column) => {
    const cell = document.createElement(column === 0 || tag === "th" ? "th" : "td");
    if (cell.tagName === "TH") cell.scope = tag === "th" ? "col" : "row";
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}

function fillTable(name) {
  const details = document.querySelector(`details[data-table="${name}"]`);
  if (!details || !details.open) return;
  const [columns, rows] = builders[name]();
  const table = document.createElement("table");
  table.createTHead().append(makeRow(columns, "th"));
  table.createTBody().append(...rows.map((cells) => makeRow(cells, "td")));
  details.querySelector(".scroll").replaceChildren(table);
}

function sortValue(row, column) {
  const text = row.cells[column].textContent;
  const number = Number(text.replace(/[,\s]/g, "").replace("−", "-"));
  return Number.isNaN(number) ? text : number;
}

function compareValues(left, right) {
  if (typeof left === "number" && typeof right === "number") return left - right;
  if (typeof left !== typeof right) return typeof left === "number" ? -1 : 1;
  return left.localeCompare(right);
}

function sortBy(table, column) {
  const head = table.tHead.rows[0].cells[column];
  const direction = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((left, right) => sign * compareValues(sortValue(left, column), sortValue(right, column)));
  table.tBodies[0].append(...rows);
}

function startTables() {
  for (const name of Object.keys(builders)) {
    const details = document.querySelector(`details[data-table="${name}"]`);
    if (details) details.addEventListener("toggle", () => fillTable(name));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    table.querySelectorAll("thead button").forEach((button, column) => {
      button.addEventListener("click", () => sortBy(table, column));
    });
  }
}
