// The browser's half of mlops_nb.labeling_widget: it shows cards and turns keys into events; outbox.js, which stands in front
// of this, knows which of them are stored. The next card never waits for that.

const AHEAD = 12; // cards that are asked for before they are needed
const BEHIND = 50; // cards that are kept to go back to

const describe = value => [value].flat().map(one => one?.label ?? one).join(", ");

// -- what one answers with ---------------------------------------------------------------------------------------------

class ClassAnswer { // one label: a key is the whole answer
  constructor(board, item) { this.board = board; this.item = item; this.value = item.suggestion?.value ?? null; }
  draw() {}
  press(label) { this.board.answer("label", label); }
  submit() { if (this.value) this.board.answer("label", this.value); }
  marks(label) { return this.value === label; }
  key() { return false; }
}

class ClassesAnswer { // several labels: keys switch them, Enter is the answer
  constructor(board, item) { this.board = board; this.value = new Set(item.value ?? item.suggestion?.value ?? []); }
  draw() {}
  press(label) {
    this.value.has(label) ? this.value.delete(label) : this.value.add(label);
    this.board.drawLabels();
  }
  submit() {
    if (this.value.size) this.board.answer("label", this.board.task.labels.filter(label => this.value.has(label)));
    else this.board.say("Choose a label, or say that none applies.");
  }
  marks(label) { return this.value.has(label); }
  key() { return false; }
}

class SpansAnswer { // parts of a text; places count in UTF-16 here and in code points outside
  constructor(board, item) {
    this.board = board;
    this.text = item.text;
    this.spans = (item.value ?? item.suggestion?.value ?? []).map(span => ({ ...span, start: this.inward(span.start), end: this.inward(span.end) }));
    this.words = [...this.text.matchAll(/[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu)].map(found => [found.index, found.index + found[0].length]);
    [this.start, this.end] = this.words[0] ?? [0, this.text.length];
  }
  inward(place) { return [...this.text].slice(0, place).join("").length; }
  outward(place) { return [...this.text.slice(0, place)].length; }
  draw(into) {
    this.into ??= into;
    const edges = new Set([0, this.text.length, this.start, this.end]);
    this.spans.forEach(span => { edges.add(span.start); edges.add(span.end); });
    const places = [...edges].sort((a, b) => a - b);
    this.into.replaceChildren(...places.slice(1).map((end, number) => {
      const start = places[number], made = element("span", "", this.text.slice(start, end));
      made.dataset.start = start;
      const over = this.spans.filter(span => span.start <= start && end <= span.end);
      if (over.length) {
        made.className = "mlops-span";
        made.style.setProperty("--hue", this.board.hue(over.at(-1).label));
        if (over.some(span => span.end === end)) made.dataset.label = over.filter(span => span.end === end).map(span => span.label).join(", ");
      }
      if (this.start <= start && end <= this.end) made.classList.add("mlops-cursor");
      return made;
    }));
    this.into.onmouseup = () => this.take();
  }
  take() { // what the mouse has selected
    const selection = this.into.getRootNode().getSelection?.() ?? document.getSelection();
    if (!selection || selection.isCollapsed || !this.into.contains(selection.anchorNode)) return;
    const place = (node, offset) => Number((node.parentElement ?? node).dataset?.start ?? 0) + offset;
    const ends = [place(selection.anchorNode, selection.anchorOffset), place(selection.focusNode, selection.focusOffset)].sort((a, b) => a - b);
    [this.start, this.end] = ends;
    this.board.touched = true;
    selection.removeAllRanges();
    this.draw();
  }
  press(label) {
    if (this.start >= this.end) return;
    const same = span => span.start === this.start && span.end === this.end;
    const there = this.spans.find(span => same(span) && span.label === label);
    this.spans = this.spans.filter(span => !same(span));
    if (!there) this.spans.push({ start: this.start, end: this.end, label });
    this.draw();
    this.board.drawLabels();
  }
  submit() {
    if (!this.spans.length) return this.board.say("Mark something, or say that there is nothing.");
    this.board.answer("label", this.spans.map(span => ({ start: this.outward(span.start), end: this.outward(span.end), label: span.label })));
  }
  marks(label) { return this.spans.some(span => span.label === label); }
  key(event) {
    const at = this.words.findIndex(([, end]) => end >= this.end), last = this.words.length - 1;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const next = this.words[Math.min(last, Math.max(0, at + (event.key === "ArrowRight" ? 1 : -1)))] ?? [0, 0];
      if (!event.shiftKey) [this.start, this.end] = next;
      else if (event.key === "ArrowRight" || next[1] > this.start) this.end = next[1];
    } else if (event.key === "]") this.end = Math.min(this.text.length, this.end + 1);
    else if (event.key === "[") this.end = Math.max(this.start + 1, this.end - 1);
    else if (event.key === "Delete") this.spans = this.spans.filter(span => span.end <= this.start || span.start >= this.end);
    else return false;
    this.draw();
    return true;
  }
}

class BoxesAnswer { // boxes on an image, in shares of its width and height
  constructor(board, item) {
    this.board = board;
    this.boxes = (item.value ?? item.suggestion?.value ?? []).map(box => ({ ...box }));
    this.current = this.boxes.length - 1;
  }
  draw(into) {
    this.into ??= into;
    this.into.querySelectorAll(".mlops-box").forEach(one => one.remove());
    this.boxes.forEach((box, number) => {
      const made = element("div", `mlops-box${number === this.current ? " mlops-current" : ""}`);
      for (const [side, from] of [["left", "x"], ["top", "y"], ["width", "width"], ["height", "height"]]) made.style[side] = `${100 * box[from]}%`;
      made.style.setProperty("--hue", this.board.hue(box.label));
      made.append(element("span", "", box.label ?? "?"));
      made.onmousedown = event => { event.stopPropagation(); this.current = number; this.draw(); };
      this.into.append(made);
    });
    this.into.onmousedown = event => this.drag(event);
  }
  drag(event) {
    event.preventDefault();
    this.board.root.focus();
    this.board.touched = true;
    const area = this.into.getBoundingClientRect();
    const share = moved => [(moved.clientX - area.left) / area.width, (moved.clientY - area.top) / area.height].map(one => Math.min(1, Math.max(0, one)));
    const [x0, y0] = share(event), box = { x: x0, y: y0, width: 0, height: 0, label: this.label ?? null };
    const move = moved => {
      const [x, y] = share(moved);
      Object.assign(box, { x: Math.min(x, x0), y: Math.min(y, y0), width: Math.abs(x - x0), height: Math.abs(y - y0) });
      if (!this.boxes.includes(box) && box.width > 0.005 && box.height > 0.005) this.current = this.boxes.push(box) - 1;
      this.draw();
    };
    const end = () => { removeEventListener("mousemove", move); removeEventListener("mouseup", end); this.board.drawLabels(); };
    addEventListener("mousemove", move);
    addEventListener("mouseup", end);
  }
  press(label) {
    this.label = label;
    const box = this.boxes[this.current];
    if (box && (box.label === null || box.label !== label)) box.label = label;
    else this.current = this.boxes.push({ x: 0.4, y: 0.4, width: 0.2, height: 0.2, label }) - 1;
    this.draw();
    this.board.drawLabels();
  }
  submit() {
    if (!this.boxes.length) return this.board.say("Draw a box, or say that there is nothing.");
    if (this.boxes.some(box => !box.label)) return this.board.say("One box has no label yet.");
    const round = share => Math.round(share * 1e6) / 1e6;
    this.board.answer("label", this.boxes.map(({ x, y, width, height, label }) => (
      { x: round(x), y: round(y), width: round(width), height: round(height), label })));
  }
  marks(label) { return this.boxes[this.current]?.label === label; }
  key(event) {
    const box = this.boxes[this.current], step = 0.01;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way && box) {
      const [x, y] = way.map(one => one * step);
      if (event.shiftKey) {
        box.width = Math.min(1 - box.x, Math.max(step, box.width + x));
        box.height = Math.min(1 - box.y, Math.max(step, box.height + y));
      } else {
        box.x = Math.min(1 - box.width, Math.max(0, box.x + x));
        box.y = Math.min(1 - box.height, Math.max(0, box.y + y));
      }
    } else if (event.key === "Delete" && box) {
      this.boxes.splice(this.current, 1);
      this.current = this.boxes.length - 1;
    } else if (event.key === "[" || event.key === "]") {
      this.current = (this.current + (event.key === "]" ? 1 : this.boxes.length - 1)) % Math.max(1, this.boxes.length);
    } else return false;
    this.draw();
    this.board.drawLabels();
    return true;
  }
}

const ANSWERS = { class: ClassAnswer, classes: ClassesAnswer, spans: SpansAnswer, boxes: BoxesAnswer };

// -- the board ---------------------------------------------------------------------------------------------------------

class Board {
  constructor(model, el) {
    this.model = model;
    const { note: write, help: assist, ...commands } = model.get("task").commands;
    this.task = { ...model.get("task"), commands: { ...commands, write, assist } };
    this.items = [];
    this.place = 0;
    this.history = [];
    this.notice = "";
    this.ended = false;
    this.asked = performance.now(); // nothing is asked for before what an earlier session has left is on its way
    this.outbox = new Outbox(model, () => this.drawState(), { what: "labels", every: () => this.ask(), more: () => ({ ahead: this.ahead() }) });
    this.build(el);
    this.listen();
    model.send({ type: "open", session: this.outbox.session, leftover: this.outbox.leftover() });
  }

  build(el) {
    this.root = element("div", "mlops-labeling", "", { tabIndex: 0 });
    this.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab keeps its own keys to itself here
    this.head = element("div", "mlops-head");
    this.banner = element("div", "mlops-banner", "", { hidden: true, role: "alert" });
    this.card = element("div", "mlops-card");
    this.labels = element("div", "mlops-labels");
    this.commands = element("div", "mlops-commands");
    this.note = element("input", "mlops-note", "", { hidden: true, placeholder: "A note on this item; Enter keeps it, Escape does not" });
    this.state = element("div", "mlops-state");
    this.more = element("div", "mlops-more");
    this.help = element("div", "mlops-help", "", { hidden: true });
    this.root.append(this.head, this.banner, this.card, this.labels, this.note, this.commands, this.state, this.more, this.help);
    el.append(this.root);
    this.drawHead();
    this.drawCommands();
    this.drawHelp();
    this.drawItem();
  }

  listen() {
    this.root.addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("focus", () => this.look());
    this.root.addEventListener("mousedown", event => { if (!event.target.closest("input, button, summary, a")) this.root.focus({ preventScroll: true }); });
    this.note.addEventListener("keydown", event => {
      event.stopPropagation();
      if (event.key === "Enter" || event.key === "Escape") {
        event.preventDefault();
        if (event.key === "Enter" && this.items[this.place]) {
          this.items[this.place].note = this.note.value;
          this.post("note", { value: this.note.value });
        }
        this.note.hidden = true;
        this.root.focus();
      }
    });
    this.heard = message => this.hear(message);
    this.model.on("msg:custom", this.heard);
    this.progressed = () => this.drawProgress();
    this.model.on("change:progress", this.progressed);
  }

  close() {
    this.outbox.close();
    this.model.off("msg:custom", this.heard);
    this.model.off("change:progress", this.progressed);
  }

  // what the kernel says
  hear(message) {
    const { type, ids = [], items = [], error, session } = message;
    if (session && session !== this.outbox.session) return; // it was said to another view of the same widget
    if (type === "items") {
      if (message.history) this.history = message.history;
      if (message.notice) this.say(message.notice);
      const known = new Set(this.items.map(item => item.id));
      const had = this.items.length;
      this.items.push(...items.filter(item => !known.has(item.id)));
      items.forEach(item => this.prepare(item));
      this.asked = 0;
      this.ended = message.ended;
      if (this.place >= had) this.drawItem();
      this.drawState();
    } else if (type === "card") {
      this.items.splice(this.place, 0, items[0]);
      this.drawItem();
    } else if (type === "stored") {
      this.outbox.settle(ids);
      this.drop(message.settled ?? [], this.place + 1);
    } else if (type === "looked") this.drop(message.settled, this.place);
    else if (type === "refused") {
      this.outbox.settle(ids);
      this.say(error, true);
    } else if (type === "failed") this.outbox.fail(error);
  }

  ahead() { return this.items.slice(this.place + 1).filter(item => !item.answered).map(item => item.id); }

  look() { // somebody comes back to this board: what has been answered elsewhere since?
    if (this.touched) return; // what somebody has begun is not taken away
    const item = this.items[this.place];
    try {
      this.model.send({ type: "look", ahead: [...(item && !item.answered ? [item.id] : []), ...this.ahead()], session: this.outbox.session });
    } catch { /* the kernel is gone; what is not stored says so */ }
  }

  drop(settled, from) { // what others have answered meanwhile; while somebody works, what is on the screen stays there
    if (!settled.length) return;
    this.items = this.items.filter((item, place) => place < from || item.answered || !settled.includes(item.id));
    if (from === this.place) this.drawItem();
    this.ask();
  }

  prepare(item) { // an image is decoded before its card is shown
    if (item.image && !item.picture) {
      item.picture = Object.assign(new Image(), { src: item.image, draggable: false, alt: "" });
      item.picture.decode?.().catch(() => {});
    }
  }

  // what a person does
  key(event) {
    if (event.target === this.note) return;
    const typing = event.target.closest?.("input, textarea, select");
    if (typing || event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    if (event.key === "Tab" || event.key === "Escape" || event.key.startsWith("F") && event.key.length > 1) return;
    event.stopPropagation();
    this.touched = true;
    if (event.target.closest?.("button, summary") && (event.key === "Enter" || event.key === " ")) return; // it is pressed by this
    const item = this.items[this.place];
    const label = this.task.labels.find(one => this.task.keys[one] === event.key);
    const command = event.ctrlKey ? "undo" : Object.keys(this.task.commands).find(one => this.task.commands[one].includes(event.key));
    event.preventDefault();
    if (!this.help.hidden && command !== "assist") this.help.hidden = true;
    if (label && item) this.entry.press(label);
    else if (item && !event.ctrlKey && this.entry.key(event)) return;
    else if (command) this[command]();
  }

  hue(label) { return Math.round(this.task.labels.indexOf(label) * 137.5 + 210) % 360; }

  post(action, more = {}) {
    const item = this.items[this.place];
    const event = {
      id: uuid(), item: item?.id ?? more.item, action, content: item?.content ?? null, task: this.task.hash, session: this.outbox.session,
      milliseconds: Math.round(performance.now() - this.since), suggestion: item?.suggestion ?? null, ...more,
    };
    this.outbox.post(event);
    return event;
  }

  answer(action, value = null) {
    const item = this.items[this.place];
    if (!item) return;
    if (this.outbox.full) return this.say("Wait: too many answers are not stored yet.", true);
    const event = this.post(action, { value, reason: item.note ?? "" });
    Object.assign(item, { action, value, answered: true });
    this.history.push({ event: event.id, item: item.id });
    this.notice = "";
    this.step();
  }

  step() {
    this.place += 1;
    while (this.items[this.place]?.answered && this.place < this.items.length - 1) this.place += 1;
    if (this.place > BEHIND) {
      this.items.splice(0, this.place - BEHIND);
      this.place = BEHIND;
    }
    this.drawItem();
    this.ask();
  }

  ask() {
    if (this.ended || this.items.length - this.place > AHEAD) return;
    if (this.asked && performance.now() - this.asked < SLOW) return;
    this.asked = performance.now();
    try {
      this.model.send({ type: "more", have: this.items.map(item => item.id), session: this.outbox.session });
    } catch { /* the kernel is gone; what is not stored says so */ }
  }

  none() { this.answer("none"); }
  skip() { this.answer("skip"); }
  submit() { if (this.items[this.place]) this.entry.submit(); }
  back() { if (this.place > 0) { this.place -= 1; this.drawItem(); } }
  forward() { if (this.place < this.items.length) { this.place += 1; this.drawItem(); this.ask(); } }

  undo() {
    const last = this.history.pop();
    if (!last) return this.say("There is nothing to take back.");
    this.outbox.post({ id: uuid(), item: last.item, action: "undo", about: last.event, session: this.outbox.session, task: this.task.hash });
    const at = this.items.findIndex(item => item.id === last.item);
    if (at >= 0) {
      this.items[at] = { ...this.items[at], answered: false, action: null, value: null };
      this.place = at;
      this.drawItem();
    } else this.model.send({ type: "card", item: last.item, session: this.outbox.session });
  }

  flag() {
    const item = this.items[this.place];
    if (!item) return;
    item.flagged = !item.flagged;
    this.post("flag", { value: item.flagged });
    this.drawState();
  }

  write() {
    const item = this.items[this.place];
    if (!item) return;
    this.note.hidden = false;
    this.note.value = item.note ?? "";
    this.note.focus();
  }

  say(text, bad = false) { this.notice = text; this.bad = bad; this.drawState(); }

  // what one sees
  drawHead() {
    this.head.append(element("strong", "", this.task.question || "Which label?"), element("span", "mlops-who", `${this.model.get("person")} · ${this.model.get("queue_name")}`));
    if (this.task.instructions_html) {
      const more = element("details", "mlops-instructions"), inside = element("div");
      inside.innerHTML = this.task.instructions_html; // cleaned in Python
      more.append(element("summary", "", "Instructions"), inside);
      this.head.append(more);
    }
    this.bar = element("div", "mlops-bar");
    this.bar.append(element("div"));
    this.head.append(this.bar);
  }

  drawCommands() {
    const names = { none: "none of these", skip: "skip", undo: "undo", flag: "flag", write: "note", back: "back", forward: "forward" };
    if (this.task.answer !== "class" || this.task.suggests) names.submit = this.task.answer === "class" ? "accept" : "submit";
    names.assist = "help";
    for (const [command, text] of Object.entries(names)) {
      const keys = this.task.commands[command] ?? [];
      const press = () => { this[command](); if (command !== "write") this.root.focus({ preventScroll: true }); };
      this.commands.append(makeButton(`mlops-command mlops-${command}`, text, keys[0] ?? "", press));
    }
  }

  drawHelp() {
    const rows = [...this.task.labels.map(label => [shown(this.task.keys[label]), label]),
      ...Object.entries(this.task.commands).map(([name, keys]) => [keys.map(shown).join("  "), this.task.explained[name]])];
    if (this.task.answer === "spans") rows.push(["← →", "another word"], ["⇧ ← →", "more words, or fewer"], ["[ ]", "one character less, or more"], ["Delete", "unmark"]);
    if (this.task.answer === "boxes") rows.push(["← ↑ → ↓", "move the box"], ["⇧ and these", "its size"], ["[ ]", "another box"], ["Delete", "remove it"]);
    this.help.append(...listKeys(rows));
  }

  assist() { this.help.hidden = !this.help.hidden; }

  drawItem() {
    const item = this.items[this.place];
    this.since = performance.now();
    this.touched = false;
    this.root.dataset.item = item?.id ?? "";
    this.note.hidden = true;
    if (!item) {
      this.card.replaceChildren(element("div", "mlops-empty", this.ended ? "Nothing is left to label here." : "The next items are on their way."));
      this.labels.hidden = true;
      if (!this.ended) this.ask();
    } else {
      this.labels.hidden = false;
      this.entry = new ANSWERS[this.task.answer](this, item);
      this.drawCard(item);
      this.drawLabels();
    }
    this.drawState();
  }

  drawCard(item) {
    const parts = [];
    if (item.image) {
      const stage = element("div", "mlops-stage");
      this.prepare(item);
      stage.append(item.picture);
      stage.classList.toggle("mlops-tiny", item.width < 100);
      parts.push(stage);
      if (this.task.answer === "boxes") this.entry.draw(stage);
    } else if (this.task.answer === "spans") {
      const text = element("div", "mlops-text");
      parts.push(text);
      this.entry.draw(text);
    }
    if (item.html) {
      const inside = element("div", "mlops-inside");
      inside.innerHTML = item.html; // escaped or cleaned in Python
      parts.push(inside);
    }
    this.card.replaceChildren(...parts);
    this.card.scrollTop = 0;
  }

  drawLabels() {
    const item = this.items[this.place];
    this.labels.replaceChildren(...this.task.labels.map(label => {
      const button = element("button", "mlops-label", "", { type: "button", tabIndex: -1 });
      button.style.setProperty("--hue", this.hue(label));
      button.append(element("kbd", "", shown(this.task.keys[label])), element("span", "", label));
      if (item?.suggestion?.score != null && this.task.answer === "class" && item.suggestion.value === label)
        button.append(element("small", "", `${Math.round(100 * item.suggestion.score)} %`));
      button.classList.toggle("mlops-suggested", Boolean(this.entry?.marks(label)));
      button.classList.toggle("mlops-given", Boolean(item?.answered && [item.value].flat().some(one => (one?.label ?? one) === label)));
      button.onclick = () => { this.entry.press(label); this.root.focus({ preventScroll: true }); };
      return button;
    }));
  }

  drawState() {
    const item = this.items[this.place];
    const said = [showPending(this, "answer"), item?.answered ? `answered: ${item.action === "label" ? describe(item.value) : item.action}` : "",
      item?.flagged ? "flagged" : "", item?.note ? `note: ${item.note}` : "", item?.standing && item.standing !== "current" ? `an earlier answer is ${item.standing}` : ""];
    this.state.textContent = said.filter(Boolean).join(" · ");
  }

  drawProgress() {
    const progress = this.model.get("progress") ?? {};
    if (!progress.total) return;
    this.bar.firstChild.style.width = `${100 * progress.done / progress.total}%`;
    const pieces = [`${progress.done.toLocaleString()} done`, `${progress.left.toLocaleString()} left`];
    if (progress.a_minute) pieces.push(`${Math.round(progress.a_minute)} a minute`, `about ${progress.remaining} to go`);
    const line = element("div", "mlops-numbers", pieces.join(" · "));
    const balance = element("div", "mlops-balance", "", { title: "answers by label" });
    for (const { label, answers, share } of progress.balance ?? []) {
      const part = element("span", "", "", { title: `${label}: ${answers}` });
      part.style.flexGrow = share;
      part.style.setProperty("--hue", this.hue(label));
      balance.append(part);
    }
    this.more.replaceChildren(line, balance);
    if (progress.people?.length > 1)
      this.more.append(element("div", "mlops-people", progress.people.map(one => `${one.annotator} ${one.answers}`).join(" · ")));
    if (progress.gold) this.more.append(element("div", "mlops-gold", progress.gold));
    if (progress.agreement?.length > 1)
      this.more.append(this.drawCurve(progress.agreement, (items, value) => `agreement beyond chance ${value.toFixed(2)}, over the last of ${items} items`));
    if (progress.curve?.length > 1)
      this.more.append(this.drawCurve(progress.curve, (labels, score) => `score ${score.toFixed(3)} with ${labels} labels, ${progress.judged ?? ""}`));
    if (progress.advice) this.more.append(element("div", "mlops-advice", progress.advice));
  }

  drawCurve(points, tell) { // small, with what its last point says
    const space = "http://www.w3.org/2000/svg", width = 240, height = 60;
    const last = points.at(-1), low = Math.min(...points.map(point => point[1]));
    const picture = document.createElementNS(space, "svg"), line = document.createElementNS(space, "polyline");
    picture.setAttribute("viewBox", `-2 -2 ${width + 4} ${height + 4}`);
    picture.setAttribute("class", "mlops-curve");
    line.setAttribute("points", points.map(([labels, score]) => (
      `${width * labels / last[0]},${height * (1 - (score - low) / Math.max(1e-9, 1 - low))}`)).join(" "));
    picture.append(line);
    const made = element("figure");
    made.append(picture, element("figcaption", "", tell(...last)));
    return made;
  }
}

export default {
  render({ model, el }) {
    const board = new Board(model, el);
    board.drawProgress();
    return () => board.close();
  },
};
