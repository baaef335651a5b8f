"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const read = (id) => { const found = document.getElementById(id); return found ? JSON.parse(found.textContent) : null; };
  const make = (name, attributes, text) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let at = 0;
    while (bytes >= 1024 && at < units.length - 1) { bytes /= 1024; at += 1; }
    return `${at ? bytes.toFixed(1) : bytes} ${units[at]}`;
  };

  // The theme: the system's, until somebody chooses; what was chosen is kept where the browser allows it.
  const button = document.getElementById("theme");
  const stored = () => { try { return localStorage.getItem("gradscope-theme"); } catch { return null; } };
  const isDark = () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  if (["dark", "light"].includes(stored())) document.documentElement.dataset.theme = stored();
  button.hidden = false;
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = chosen;
    try { localStorage.setItem("gradscope-theme", chosen); } catch { /* a file: page of some browsers keeps nothing */ }
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();

  // What a link leads to is opened.
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let one = target; one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
  addEventListener("beforeprint", () => { for (const one of document.querySelectorAll("details.explained")) one.open = true; });

  // Memory over the run.
  const memory = read("timeline-data");
  if (memory) {
    const figure = document.getElementById("timeline");
    const [svg, cursor, slider, output] = ["svg", ".cursor", "#cursor", "output"].map((name) => figure.querySelector(name));
    const count = memory.ops.length;
    let [from, to] = [0, count];
    const show = (at) => {
      at = Math.max(0, Math.min(count - 1, at));
      slider.value = at;
      const x = at + 0.5;
      cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.setAttribute("visibility", "visible");
      const shares = memory.series.map(([name, bytes]) => [bytes[at], name]).filter(([bytes]) => bytes).sort((a, b) => b[0] - a[0]);
      const lines = shares.slice(0, 3).map(([bytes, name]) => `${size(bytes)} of ${name}`);
      output.textContent = `call ${memory.ops[at].toLocaleString("en")}, ${memory.labels[memory.at[at]]}: ${size(memory.total[at])} in use\n${lines.join("\n")}`;
    };
    const zoom = (factor) => {
      const middle = Number(slider.value) + 0.5;
      const width = factor ? Math.max(8, Math.min(count, (to - from) * factor)) : count;
      from = Math.max(0, Math.min(count - width, middle - width / 2));
      to = from + width;
      svg.setAttribute("viewBox", `${from} 0 ${to - from} 1000`);
      slider.min = Math.ceil(from); slider.max = Math.floor(to - 0.001);
    };
    figure.querySelector(".controls").hidden = false;
    slider.addEventListener("input", () => show(Number(slider.value)));
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      show(Math.floor(from + (to - from) * (event.clientX - box.left) / box.width));
    });
    for (const one of figure.querySelectorAll("[data-zoom]")) {
      one.addEventListener("click", () => zoom({ in: 0.5, out: 2, all: 0 }[one.dataset.zoom]));
    }
    show(memory.total.indexOf(Math.max(...memory.total)));
  }

  // Graphs: drawn in folds, so many boxes at a time as one can look at.
  const [WIDTH, HEIGHT, GAP, DROP, ROW, AT_ONCE, AT_FIRST, HITS] = [216, 46, 16, 34, 6, 240, 24, 40];
  class Drawing {
    constructor(figure, data) {
      this.figure = figure;
      this.data = data;
      this.canvas = figure.querySelector(".canvas");
      this.inside = data.folds.map(() => ({ folds: [], nodes: [] }));
      data.folds.forEach(([, parent], at) => { if (parent >= 0) this.inside[parent].folds.push(at); });
      data.nodes.forEach((node, at) => this.inside[node[4]].nodes.push(at));
      this.counts = data.folds.map(() => [0, 0]);
      for (const node of data.nodes) {
        for (let fold = node[4]; fold >= 0; fold = data.folds[fold][1]) { this.counts[fold][0] += 1; this.counts[fold][1] += node[3]; }
      }
      this.hit = -1;
      this.foldAll();
      this.connect();
    }

    // Folds are opened from the outside inwards, as long as there is room.
    foldAll() {
      this.open = new Map([[0, 0]]);
      this.turn = 1;
      let waiting = [...this.inside[0].folds];
      let shown = waiting.length + this.inside[0].nodes.length;
      while (waiting.length) {
        const next = [];
        for (const fold of waiting) {
          const parts = this.inside[fold].folds.length + this.inside[fold].nodes.length;
          if (shown - 1 + parts > AT_FIRST) continue;
          shown += parts - 1;
          this.open.set(fold, 0);
          next.push(...this.inside[fold].folds);
        }
        waiting = next;
      }
    }

    // The box that stands for a node: its outermost fold that is closed, else the node itself.
    shown(node) {
      let box = `n${node}`;
      for (let fold = this.data.nodes[node][4]; fold >= 0; fold = this.data.folds[fold][1]) if (!this.open.has(fold)) box = `f${fold}`;
      return box;
    }

    path(fold) {
      const steps = fold > 0 ? [this.data.folds[fold][0]] : [];
      for (let around = this.data.folds[fold][1]; around > 0; around = this.data.folds[around][1]) {
        if (!this.data.folds[around][2]) steps.unshift(this.data.folds[around][0]);
      }
      return steps.join(".").replaceAll(".[", "[");
    }

    openFold(fold) {
      for (; fold >= 0; fold = this.data.folds[fold][1]) this.open.set(fold, this.turn);
      this.turn += 1;
    }

    closeFold(fold) {
      this.open.delete(fold);
      for (const inner of this.inside[fold].folds) this.closeFold(inner);
    }

    layout() {
      const boxes = new Map(), edges = new Map();
      const of = this.data.nodes.map((_, at) => this.shown(at));
      of.forEach((key) => { if (!boxes.has(key)) boxes.set(key, { key, below: [], above: [], rank: 0 }); });
      for (let at = 0; at < this.data.edges.length; at += 2) {
        const [from, to] = [of[this.data.edges[at]], of[this.data.edges[at + 1]]];
        if (from !== to && !edges.has(`${from} ${to}`)) { edges.set(`${from} ${to}`, [from, to]); boxes.get(from).below.push(to); }
      }
      // Folds may lead to each other: an edge back to a box that is being looked at counts for no rank.
      const state = new Map(), order = [];
      for (const start of boxes.keys()) {
        if (state.has(start)) continue;
        const stack = [[start, 0]];
        state.set(start, 1);
        while (stack.length) {
          const top = stack[stack.length - 1];
          const next = boxes.get(top[0]).below[top[1]];
          top[1] += 1;
          if (next === undefined) { state.set(top[0], 2); order.push(top[0]); stack.pop(); continue; }
          if (state.get(next) === 1) continue;
          boxes.get(next).above.push(top[0]);
          if (!state.has(next)) { state.set(next, 1); stack.push([next, 0]); }
        }
      }
      const ranks = [];
      for (const key of order.reverse()) {
        const box = boxes.get(key);
        box.rank = box.above.reduce((rank, one) => Math.max(rank, boxes.get(one).rank + 1), 0);
        (ranks[box.rank] = ranks[box.rank] || []).push(box);
      }
      let y = GAP, widest = 0;
      for (const rank of ranks) {
        for (const box of rank) box.want = box.above.length ? box.above.reduce((sum, one) => sum + boxes.get(one).x, 0) / box.above.length : 0;
        rank.sort((a, b) => a.want - b.want);
        for (let start = 0; start < rank.length; start += ROW) {
          const row = rank.slice(start, start + ROW);
          row.forEach((box, at) => { box.x = (at - (row.length - 1) / 2) * (WIDTH + GAP); box.y = y; });
          widest = Math.max(widest, row.length);
          y += HEIGHT + (start + ROW < rank.length ? GAP : DROP);
        }
      }
      return { boxes, edges: [...edges.values()], width: widest * (WIDTH + GAP) + GAP, height: y };
    }

    draw(focus) {
      while (true) {
        const keys = new Set(this.data.nodes.map((_, at) => this.shown(at)));
        const closable = [...this.open].filter(([fold, turn]) => fold && turn < this.turn - 1).sort((a, b) => a[1] - b[1]);
        if (keys.size <= AT_ONCE || !closable.length) break;
        this.closeFold(closable[0][0]);
      }
      const { boxes, edges, width, height } = this.layout();
      const svg = make("svg", { width, height, viewBox: `${-width / 2} 0 ${width} ${height}` });
      for (const [from, to] of edges) {
        const [a, b] = [boxes.get(from), boxes.get(to)];
        const [x1, y1, x2, y2] = [a.x, a.y + HEIGHT, b.x, b.y - 5];
        const bend = y2 > y1 ? (y2 - y1) / 2 : 60;
        svg.append(make("path", { class: "edge", d: `M${x1} ${y1} C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}` }));
        svg.append(make("path", { class: "arrow", d: `M${x2 - 4} ${y2 - 2} L${x2 + 4} ${y2 - 2} L${x2} ${y2 + 5} Z` }));
      }
      for (const box of boxes.values()) svg.append(this.box(box));
      this.canvas.replaceChildren(svg);
      const wanted = focus && svg.querySelector(`[data-key="${focus}"]`);
      if (wanted) this.scrollTo(wanted, boxes.get(focus), width);
      else this.canvas.scrollLeft = Math.max(0, (width - this.canvas.clientWidth) / 2);
    }

    scrollTo(element, box, width) {
      this.canvas.scrollTo(box.x + width / 2 - this.canvas.clientWidth / 2, box.y - this.canvas.clientHeight / 2);
      element.focus({ preventScroll: true });
    }

    box({ key, x, y }) {
      const at = Number(key.slice(1)), isFold = key[0] === "f";
      const lines = isFold ? this.foldLines(at) : this.nodeLines(at);
      const look = isFold ? "fold" : this.data.nodes[at][5] ? "leaf" : "node";
      const isHit = !isFold && at === this.hit;
      const group = make("g", { class: `box ${look}${isHit ? " hit" : ""}`, "data-key": key, transform: `translate(${x - WIDTH / 2} ${y})`, tabindex: 0, role: "button" });
      const cut = (text, start) => (text.length > 30 ? `${text.slice(0, start)}…${text.slice(start - 29)}` : text);
      const shown = [cut(lines[0], 8), cut(lines[1], 14)];
      const whole = shown.join() === lines.join() ? "" : ` (${lines.join(", ")})`;
      group.setAttribute("aria-label", `${shown.join(", ")}${isFold ? ", folded" : ""}${whole}`);
      group.append(make("title", {}, isFold ? `${this.path(at)}: open` : `${lines.join("\n")}\nin ${this.path(this.data.nodes[at][4])}: fold`));
      group.append(make("rect", { width: WIDTH, height: HEIGHT, rx: look === "leaf" ? 20 : 4 }));
      group.append(make("text", { x: 10, y: 19 }, shown[0]), make("text", { x: 10, y: 36, class: "dim" }, ` ${shown[1]}`));
      const act = () => this.toggle(key);
      group.addEventListener("click", act);
      group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } });
      return group;
    }

    // A fold opens; a node folds what is around it.
    toggle(key) {
      const at = Number(key.slice(1));
      if (key[0] === "f") {
        this.openFold(at);
        const first = this.data.nodes.findIndex((node) => this.isIn(node[4], at));
        this.draw(this.shown(first));
      } else if (this.data.nodes[at][4]) {
        const fold = this.data.nodes[at][4];
        this.closeFold(fold);
        this.turn += 1;
        this.draw(this.shown(at));
      }
    }

    isIn(fold, wanted) {
      for (; fold >= 0; fold = this.data.folds[fold][1]) if (fold === wanted) return true;
      return false;
    }

    foldLines(fold) {
      const [nodes, bytes] = this.counts[fold];
      return [this.path(fold), `${nodes.toLocaleString("en")} node${nodes === 1 ? "" : "s"}${bytes ? `, keeps ${size(bytes)}` : ""}`];
    }

    nodeLines(at) {
      const [name, tensor, line, bytes, , isLeaf] = this.data.nodes[at];
      const texts = this.data.texts;
      const first = isLeaf ? texts[tensor] || "a leaf without a name" : texts[name];
      const facts = [isLeaf ? "leaf" : texts[tensor], line ? `line ${line}` : "", bytes ? `keeps ${size(bytes)}` : ""];
      return [first, facts.filter(Boolean).join(", ")];
    }

    connect() {
      const [field, found, hits] = ["input", ".found", ".hits"].map((name) => this.figure.querySelector(name));
      this.figure.querySelector(".controls").hidden = false;
      this.figure.querySelector("[data-fold]").addEventListener("click", () => { this.hit = -1; this.foldAll(); this.draw(); });
      const search = () => {
        const words = field.value.trim().toLowerCase();
        hits.replaceChildren();
        found.textContent = "";
        if (!words) return;
        const texts = this.data.texts.map((text) => text.toLowerCase());
        const line = words.replace(/^line\s+/, "");
        const all = this.data.nodes.flatMap((node, at) =>
          (String(node[2]) === line || texts[node[0]].includes(words) || texts[node[1]].includes(words) ? [at] : []));
        found.textContent = `${all.length.toLocaleString("en")} found${all.length > HITS ? `, the first ${HITS} shown` : ""}`;
        for (const at of all.slice(0, HITS)) {
          const item = document.createElement("li"), choice = document.createElement("button");
          choice.type = "button";
          choice.textContent = this.nodeLines(at).filter(Boolean).join(", ");
          choice.addEventListener("click", () => { this.hit = at; this.openFold(this.data.nodes[at][4]); this.draw(`n${at}`); });
          item.append(choice);
          hits.append(item);
        }
      };
      field.addEventListener("input", search);
    }
  }
  const graphs = read("graph-data") || [];
  const waiting = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      waiting.unobserve(entry.target);
      new Drawing(entry.target, graphs[Number(entry.target.dataset.graph)]).draw();
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll(".graph")) waiting.observe(figure);
})();
