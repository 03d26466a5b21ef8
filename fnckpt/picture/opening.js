// Opens modules in place, pans and zooms. The layout is Python's: an opened box pushes rows down
// and stretches the columns under it, so that nothing overlaps and all else keeps its place.
(() => {
  const HEIGHT = 30, BETWEEN = 30, GAP = 18, TITLE = 26, STUB = 14; // as in layout.py and svg.py

  for (const svg of document.querySelectorAll("svg.fnckpt:not([data-live])")) start(svg);

  function start(svg) {
    svg.dataset.live = "";
    const page = document.getElementById("details"); // a page of ours; a notebook has none
    const all = svg.firstElementChild, drawn = svg.viewBox.baseVal;
    const view = { x: 0, y: 0, k: 1 }, boxes = new Map();
    const top = read(all.firstElementChild, null);
    svg.style.width = "100%";
    svg.style.height = page ? "100%" : `${Math.min(drawn.height, 600)}px`;
    svg.removeAttribute("viewBox");
    svg.setAttribute("tabindex", "0");
    fit(true);

    function read(g, parent) {
      const [ways, ...rest] = g.children;
      const level = { g, parent, boxes: [], ways: [] };
      [level.width, level.height] = g.dataset.size.split(" ").map(Number);
      level.inner = { width: level.width, height: level.height };
      for (const box of rest) {
        const [row, x, w] = box.dataset.at.split(" ").map(Number);
        const inside = box.querySelector(":scope > .level");
        const made = { g: box, level, row, x, w, W: w, H: HEIGHT, open: false };
        made.rect = box.querySelector(":scope > rect");
        made.text = box.querySelector(":scope > text");
        made.inside = inside && read(inside, made);
        level.boxes.push(made);
        boxes.set(box, made);
      }
      for (const path of ways.children) {
        const [start, end, ...lanes] = path.dataset.way.split(" ").map(Number);
        const ports = (path.dataset.ports || "").split(" ").filter(Boolean);
        level.ways.push({ path, start: level.boxes[start], end: level.boxes[end], lanes,
                          ports: ports.map((pair) => pair.split(":").map(Number)) });
      }
      return level;
    }

    // Columns under opened boxes are stretched; where several lie over each other, by the most.
    function stretch(level) {
      const open = level.boxes.filter((box) => box.open).map((box) => ({
        from: box.x - (box.w + GAP) / 2, to: box.x + (box.w + GAP) / 2,
        by: (box.W + GAP) / (box.w + GAP) }));
      const ends = [...new Set(open.flatMap((each) => [each.from, each.to]))].sort((a, b) => a - b);
      const parts = ends.slice(1).map((to, i) => ({ from: ends[i], to, by: Math.max(1,
        ...open.filter((each) => each.from <= ends[i] && to <= each.to).map((each) => each.by)) }));
      const origin = ends.length ? Math.min(0, ends[0]) : 0;
      return (x) => x - origin + parts.reduce(
        (sum, part) => sum + (part.by - 1) * Math.max(0, Math.min(x, part.to) - part.from), 0);
    }

    function place(level) {
      const across = stretch(level), tall = [], tops = [];
      for (const box of level.boxes) tall[box.row] = Math.max(tall[box.row] || HEIGHT, box.H);
      for (const way of level.ways) tall[way.start.row + way.lanes.length] ||= HEIGHT;
      let y = BETWEEN / 2;
      for (let row = 0; row < tall.length; row++) {
        tall[row] ||= HEIGHT;
        tops[row] = y;
        y += tall[row] + BETWEEN;
      }
      for (const box of level.boxes) {
        box.X = across(box.x);
        box.Y = tops[box.row] + tall[box.row] / 2;
        box.g.setAttribute("transform", `translate(${box.X.toFixed(1)} ${box.Y.toFixed(1)})`);
      }
      for (const way of level.ways) draw(way, across, tops, tall);
      level.inner = { width: across(level.width), height: y - BETWEEN / 2 };
    }

    function draw(way, across, tops, tall) {
      const { start, end } = way, f = (n) => n.toFixed(1);
      const curve = (x, y, to, top) => {
        const half = (y + top) / 2;
        return `C${f(x)} ${f(half)} ${f(to)} ${f(half)} ${f(to)} ${f(top)}`;
      };
      const leave = (x) => {
        const edge = start.Y + start.H / 2, low = tops[start.row] + tall[start.row];
        return [`M${f(x)} ${f(edge)}` + (low > edge ? `V${f(low)}` : ""), low];
      };
      const arrive = (x, y, to) => {
        const edge = end.Y - end.H / 2, high = tops[end.row];
        return curve(x, y, to, high) + (edge > high ? `V${f(edge)}` : "");
      };
      const pairs = way.ports.length ? way.ports : [[-1, -1]];
      const from = [...new Set(pairs.map((pair) => port(start, pair[0])))];
      const to = [...new Set(pairs.map((pair) => port(end, pair[1])))];
      if (!way.lanes.length) {
        const ends = new Set(pairs.map((pair) => {
          const x = port(start, pair[0]), [d, y] = leave(x);
          return d + arrive(x, y, port(end, pair[1]));
        }));
        way.path.setAttribute("d", [...ends].join(""));
        return;
      }
      let row = start.row + 1, x = across(way.lanes[0]), d = "";
      for (const out of from) {
        const [begun, y] = leave(out);
        d += begun + curve(out, y, x, tops[row]);
      }
      d += `V${f(tops[row] + tall[row])}`;
      for (const lane of way.lanes.slice(1)) {
        const next = across(lane);
        d += curve(x, tops[row] + tall[row], next, tops[row + 1]);
        row += 1;
        x = next;
        d += `V${f(tops[row] + tall[row])}`;
      }
      to.forEach((into, i) => {
        const low = tops[row] + tall[row];
        d += (i ? `M${f(x)} ${f(low)}` : "") + arrive(x, low, into);
      });
      way.path.setAttribute("d", d);
    }

    // Where an edge meets a box: an opened one at the port inside it.
    function port(box, number) {
      if (!box.open || number < 0) return box.X;
      return box.X - box.inside.inner.width / 2 + box.inside.boxes[number].X;
    }

    function set(box, open) {
      if (!box.inside || box.open === open) return;
      box.open = open;
      box.g.setAttribute("aria-expanded", String(open));
      box.inside.g.style.display = open ? "inline" : "none";
      if (open) place(box.inside);
    }

    function sized(box) {
      const { width, height } = box.open ? box.inside.inner : {};
      box.W = box.open ? Math.max(width + GAP, box.w + GAP) : box.w;
      box.H = box.open ? height - BETWEEN + TITLE + 2 * STUB : HEIGHT;
      for (const [name, value] of Object.entries(
        { x: -box.W / 2, y: -box.H / 2, width: box.W, height: box.H }))
        box.rect.setAttribute(name, value.toFixed(1));
      box.text.setAttribute("y", box.open ? 16 - box.H / 2 : 4);
      box.text.setAttribute("x", box.open ? 10 - box.W / 2 : 0);
      box.text.setAttribute("text-anchor", box.open ? "start" : "middle");
      if (box.open) box.inside.g.setAttribute(
        "transform", `translate(${-width / 2} ${-box.H / 2 + TITLE + STUB - BETWEEN / 2})`);
    }

    // A module opens or closes where it is: its title stays under the pointer.
    function toggle(box, open = !box.open) {
      const before = box.text.getBoundingClientRect();
      set(box, open);
      for (let each = box; each; each = each.level.parent) {
        sized(each);
        place(each.level);
      }
      const after = box.text.getBoundingClientRect();
      move(before.left - after.left, before.top - after.top);
    }

    function every(level, open) {
      for (const box of level.boxes.filter((each) => each.inside)) {
        set(box, open);
        every(box.inside, open);
        sized(box);
      }
      place(level);
    }

    function move(x, y, k = view.k) {
      Object.assign(view, { x: view.x + x, y: view.y + y, k });
      all.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    }

    function zoom(by, x = svg.clientWidth / 2, y = svg.clientHeight / 2) {
      const k = Math.min(8, Math.max(0.02, view.k * by)), ratio = k / view.k;
      move((x - view.x) * (1 - ratio), (y - view.y) * (1 - ratio), k);
    }

    function fit(first = false) {
      const { width, height } = top.inner, wide = svg.clientWidth || width;
      const whole = Math.min(wide / width, (svg.clientHeight || height) / height);
      const k = first ? Math.max(0.35, Math.min(1, wide / width)) : Math.min(1, whole);
      move((wide - width * k) / 2 - view.x, 8 - view.y, k);
    }

    function boxAt(event) {
      const g = event.target.closest(".box");
      return g && boxes.get(g);
    }

    function near(box, way) {
      const found = box.level.ways.find((each) => each[way === "start" ? "end" : "start"] === box);
      return found && found[way];
    }

    function select(box) {
      svg.querySelectorAll(".on").forEach((each) => each.classList.remove("on"));
      box.g.classList.add("on");
      const joined = box.level.ways.filter((way) => way.start === box || way.end === box);
      joined.forEach((way) => way.path.classList.add("on"));
      if (page) details(box, joined);
    }

    // textContent throughout: what a file says is text.
    function details(box, joined) {
      const [name, ...lines] = box.g.querySelector(":scope > title").textContent.split("\n");
      const add = (tag, text) => page.appendChild(
        Object.assign(document.createElement(tag), { textContent: text }));
      page.replaceChildren();
      add("h2", name);
      for (const line of lines) add("div", line);
      for (const way of joined) {
        const other = way.start === box ? way.end : way.start;
        const label = `${way.start === box ? "to" : "from"} ${other.text.textContent}`;
        add("button", label).onclick = () => go(other);
      }
    }

    function go(box) {
      box.g.focus({ preventScroll: true });
      select(box);
      const at = box.rect.getBoundingClientRect(), frame = svg.getBoundingClientRect();
      if (at.top < frame.top || at.bottom > frame.bottom || at.left < frame.left ||
          at.right > frame.right)
        move(frame.left + frame.width / 2 - at.left - at.width / 2,
             frame.top + Math.min(frame.height / 2, 80) - at.top);
    }

    svg.addEventListener("wheel", (event) => {
      if (!page && !event.ctrlKey) return; // a notebook scrolls
      event.preventDefault();
      const frame = svg.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY / 400), event.clientX - frame.left, event.clientY - frame.top);
    }, { passive: false });

    let drag = null;
    svg.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY, far: false };
    });
    svg.addEventListener("pointermove", (event) => {
      if (!drag || !event.buttons) return;
      const x = event.clientX - drag.x, y = event.clientY - drag.y;
      if (!drag.far && Math.hypot(x, y) < 4) return;
      if (!drag.far) svg.setPointerCapture(event.pointerId);
      move(x, y);
      drag = { x: event.clientX, y: event.clientY, far: true };
    });
    svg.addEventListener("click", (event) => {
      const box = boxAt(event), moved = drag && drag.far;
      drag = null;
      if (!box || moved) return;
      select(box);
      toggle(box);
    });
    svg.addEventListener("focusin", (event) => boxAt(event) && select(boxAt(event)));

    const keys = {
      "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": () => fit(),
      o: () => { every(top, true); fit(true); }, c: () => { every(top, false); fit(true); },
      ArrowUp: (box) => box ? near(box, "start") && go(near(box, "start")) : move(0, 60),
      ArrowDown: (box) => box ? near(box, "end") && go(near(box, "end")) : move(0, -60),
      ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0),
      Enter: (box) => box && toggle(box), " ": (box) => box && toggle(box),
      Escape: (box) => {
        const outer = box && (box.open ? box : box.level.parent);
        if (outer) { toggle(outer, false); go(outer); }
      },
    };
    // On a page the keys work wherever the focus is, but a button keeps those that press it.
    (page ? document : svg).addEventListener("keydown", (event) => {
      const act = keys[event.key], inside = svg.contains(event.target);
      if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
      if (!inside && event.target !== document.body && event.key.length > 1) return;
      if (!inside && event.key === " ") return;
      event.preventDefault();
      act(boxAt(event));
    });
    for (const button of page ? document.querySelectorAll("button[data-key]") : [])
      button.onclick = () => keys[button.dataset.key](null);
  }
})();
