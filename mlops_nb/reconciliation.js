// The browser's half of mlops_nb.reconciliation_widget: tabs, one for each step of reconciling; outbox.js stands in front of this.
//
// The step Map is drawn here. Another step is a tab whose HTML the kernel makes, until it has a class of its own in STEPS.

const WAYS = {
  accept: ["a", "Enter"], reject: ["r", "x"], undo: ["u", "Backspace"], change: ["c"], turn: ["t"], down: ["ArrowDown", "j"], up: ["ArrowUp", "k"],
  next: ["ArrowRight", "]"], previous: ["ArrowLeft", "["], assist: ["?"],
};
const EXPLAINED = {
  accept: "this field, with these values", reject: "this column has no field", undo: "take the last thing back", change: "choose another field",
  turn: "choose another unit, zone or order", down: "the next column", up: "the column before", next: "the next department",
  previous: "the department before", assist: "these keys",
};
const SAID = { suggested: "suggested", accepted: "accepted", changed: "changed", rejected: "no field", tried: "not stored yet" };
const NONE = "";

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// -- the step Map: which field is each column? ---------------------------------------------------------------------------

class MapStep {
  constructor(board) {
    this.board = board;
    this.cards = new Map(); // of each department that was looked at
    this.department = board.about.departments[0];
    this.place = 0;
    this.root = element("div", "mlops-mapping");
    this.pills = element("div", "mlops-pills", "", { role: "tablist" });
    this.list = element("div", "mlops-columns");
    this.left = element("div", "mlops-left");
    this.root.append(this.pills, this.list, this.left);
  }

  open() { this.look(this.department); }

  get here() { return this.cards.get(this.department) ?? []; }

  get card() { return this.here[this.place]; }

  look(department) {
    this.department = department;
    this.place = Math.max(0, this.here.findIndex(card => card.status === "suggested"));
    if (!this.cards.has(department)) this.board.ask({ type: "cards", department });
    this.draw();
  }

  hear(message) {
    if (message.type === "cards") {
      for (const card of message.cards) this.take(card);
      if (message.department) {
        if (!this.cards.has(message.department)) this.cards.set(message.department, []);
        if (message.department === this.department) this.place = Math.max(0, this.here.findIndex(card => card.status === "suggested"));
      }
      this.draw();
    } else if (message.type === "tried") {
      const card = this.here.find(one => one.item === message.card.item);
      if (card && card.asked === message.asked) {
        Object.assign(card, message.card, { asked: null });
        this.drawCard(card);
      }
    }
  }

  take(card) {
    const there = this.cards.get(card.department) ?? [];
    const at = there.findIndex(one => one.item === card.item);
    if (at < 0) there.push(card);
    else if (there[at].status !== "tried") there[at] = card; // what somebody is trying is not taken away
    this.cards.set(card.department, there);
  }

  // what a person does
  attempt(card, field, steps = null) { // what would the values be? nothing is stored
    card.asked = uuid();
    this.place = this.here.indexOf(card);
    Object.assign(card, { field: field || null, status: "tried" });
    this.board.ask({ type: "try", item: card.item, field: field || null, steps, asked: card.asked });
    this.drawCard(card);
  }

  accept(card = this.card) {
    if (!card) return;
    if (card.asked) return this.board.say("Its values are on their way; one moment.");
    if (!card.field) return this.reject(card);
    const given = this.here.find(one => one !== card && one.field === card.field && one.status !== "suggested" && one.status !== "tried");
    if (given) return this.board.say(`${given.column} is ${card.field} already. Change or reject that one first.`, true);
    const kept = card.field === card.suggested && same(card.steps, card.offered);
    this.decide(card, kept ? "accept" : "change", { field: card.field, steps: card.steps });
  }

  reject(card = this.card) { if (card) this.decide(card, "reject", { field: null, steps: [] }); }

  decide(card, decision, value) {
    const event = this.board.post(card.item, "label", { value: { decision, ...value } });
    if (!event) return;
    this.board.history.push({ event: event.id, item: card.item });
    Object.assign(card, { status: { accept: "accepted", change: "changed", reject: "rejected" }[decision], person: this.board.model.get("person"), asked: null });
    if (decision === "reject") Object.assign(card, { field: null, samples: card.samples.map(one => ({ ...one, made: "", reason: "" })), choices: [], rejected: 0 });
    this.board.say("");
    this.place = this.here.indexOf(card);
    const waits = this.here.findIndex((one, place) => place > this.place && one.status === "suggested");
    const first = this.here.findIndex(one => one.status === "suggested");
    this.place = waits >= 0 ? waits : first >= 0 ? first : Math.min(this.place + 1, this.here.length - 1);
    this.draw();
  }

  undo() {
    const last = this.board.history.pop();
    if (!last) return this.board.say("There is nothing to take back.");
    this.board.post(last.item, "undo", { about: last.event });
    for (const [department, cards] of this.cards) {
      const at = cards.findIndex(card => card.item === last.item);
      if (at >= 0) {
        Object.assign(cards[at], { status: "suggested", person: "" }); // the kernel sends what is in force now
        this.department = department;
        this.place = at;
      }
    }
    this.draw();
  }

  change() { this.focus("select.mlops-field"); }

  turn() { this.focus(".mlops-choices select"); }

  focus(what) { this.list.children[this.place]?.querySelector(what)?.focus(); }

  down() { this.go(1); }

  up() { this.go(-1); }

  go(by) {
    this.place = Math.min(this.here.length - 1, Math.max(0, this.place + by));
    this.mark();
  }

  next() { this.leap(1); }

  previous() { this.leap(-1); }

  leap(by) {
    const all = this.board.about.departments, at = all.indexOf(this.department);
    this.look(all[(at + by + all.length) % all.length]);
  }

  // what one sees
  draw() {
    this.drawPills();
    this.list.replaceChildren(...this.here.map(card => this.makeCard(card)));
    if (!this.here.length) this.list.append(element("div", "mlops-empty", this.cards.has(this.department) ? "This department has no column." : "The columns are on their way."));
    this.mark();
  }

  drawCard(card) {
    const at = this.here.indexOf(card);
    if (at < 0) return;
    const held = this.list.children[at]?.contains(document.activeElement) ? document.activeElement.dataset.name : "";
    this.list.children[at]?.replaceWith(this.makeCard(card));
    if (held) this.list.children[at].querySelector(`[data-name="${held}"]`)?.focus();
    this.mark(false);
    this.drawPills();
  }

  drawPills() {
    const told = this.board.model.get("progress")?.departments ?? [];
    this.pills.replaceChildren(...this.board.about.departments.map(name => {
      const cards = this.cards.get(name), known = told.find(one => one.name === name);
      const decided = cards ? cards.filter(card => !["suggested", "tried"].includes(card.status)).length : known?.decided ?? 0;
      const total = cards ? cards.length : known?.total ?? 0;
      const pill = element("button", "mlops-pill", "", { type: "button", tabIndex: -1, role: "tab" });
      pill.append(element("span", "", name), element("small", "", decided === total && total ? "✓" : `${decided} / ${total}`));
      pill.ariaSelected = name === this.department;
      pill.onclick = () => { this.look(name); this.board.hold(); };
      return pill;
    }));
    const { nobody = [], gone = [] } = this.board.model.get("progress") ?? {};
    this.left.replaceChildren(
      ...(nobody.length ? [element("div", "", `Nobody gives: ${nobody.join(", ")}`)] : []),
      ...(gone.length ? [element("div", "mlops-gone", `Decided, and not there any more: ${gone.join(", ")}`)] : []));
  }

  mark(scroll = true) {
    [...this.list.children].forEach((one, at) => one.classList.toggle("mlops-current", at === this.place && Boolean(this.card)));
    this.board.root.dataset.item = this.card?.item ?? "";
    const one = this.list.children[this.place];
    if (!scroll || !one) return;
    scrollWithin(this.list, one);
  }

  makeCard(card) {
    const made = element("div", "mlops-column");
    made.dataset.item = card.item;
    made.dataset.status = card.status;
    if (card.asked) made.dataset.waiting = "true";
    const head = element("div", "mlops-row");
    head.append(element("code", "mlops-name", card.column), element("small", "mlops-kind", card.kind), element("span", "mlops-arrow", "→"), this.makeSelect(card));
    if (card.field && card.status === "suggested") head.append(this.makeBar(card));
    head.append(element("span", "mlops-status", card.status === "suggested" ? "" : SAID[card.status] + (card.person && card.status !== "tried" ? ` · ${card.person}` : "")));
    const buttons = element("div", "mlops-buttons");
    for (const [name, text] of [["accept", "accept"], ["reject", "no field"]]) {
      const press = () => { this[name](card); this.board.hold(); };
      buttons.append(makeButton(`mlops-${name}`, text, WAYS[name][0], press, { disabled: name === "accept" && !card.field }));
    }
    head.append(buttons);
    const why = element("div", "mlops-why", card.status === "suggested" ? card.reason : "");
    if (card.note && why.textContent) why.append(" · ");
    if (card.note) why.append(element("span", card.note.includes("CHECK") ? "mlops-check" : "mlops-note-said", card.note.replace("CHECK ", "Look at ")));
    made.append(head, ...(why.textContent ? [why] : []), this.makeValues(card));
    made.onmousedown = () => { this.place = this.here.indexOf(card); this.mark(false); };
    return made;
  }

  makeSelect(card) {
    const select = element("select", "mlops-field", "", { tabIndex: -1, title: "the field (c)" });
    select.dataset.name = "field";
    const likely = (card.candidates ?? []).filter(([, score]) => score > 0), named = new Set(likely.map(([field]) => field));
    const option = (field, text) => element("option", "", text, { value: field });
    const first = element("optgroup", "", "", { label: "likely" }), rest = element("optgroup", "", "", { label: "the others" });
    first.append(...likely.map(([field, score]) => option(field, `${field}  ${Math.round(100 * score)} %`)));
    rest.append(...this.board.about.fields.map(one => one.field).filter(field => !named.has(field)).map(field => option(field, field)));
    select.append(option(NONE, "no field"), ...(likely.length ? [first] : []), rest);
    select.value = card.field ?? NONE;
    const about = this.board.about.fields.find(one => one.field === card.field);
    if (about) select.title = `${about.description}${about.unit ? `, in ${about.unit}` : ""} (c)`;
    select.onchange = () => { this.attempt(card, select.value); this.board.hold(); };
    return select;
  }

  makeBar(card) {
    const bar = element("span", "mlops-sure", "", { title: `confidence ${card.confidence.toFixed(2)}` }), inner = element("i");
    inner.style.width = `${100 * card.confidence}%`;
    bar.dataset.sure = card.confidence >= 0.75 ? "high" : card.confidence >= 0.55 ? "middle" : "low";
    bar.append(inner);
    const made = element("span", "mlops-confidence");
    made.append(bar, element("small", "", `${Math.round(100 * card.confidence)} %`));
    return made;
  }

  makeValues(card) {
    const made = element("div", "mlops-values"), table = element("table");
    table.append(...card.samples.map(({ raw, made: after, reason }) => {
      const row = element("tr");
      row.append(element("td", "mlops-raw", raw), element("td", "mlops-arrow", card.field ? "→" : ""),
        element("td", reason ? "mlops-refused" : "mlops-made", !card.field ? "" : reason || after || "missing"));
      return row;
    }));
    if (!card.samples.length) table.append(element("tr", "", "no values"));
    const side = element("div", "mlops-choices");
    for (const choice of card.choices ?? []) side.append(this.makeChoice(card, choice));
    const unit = this.board.about.fields.find(one => one.field === card.field)?.unit;
    if (unit) side.append(element("small", "", `becomes ${unit}`));
    if (card.rejected) side.append(element("small", "mlops-refused", `${card.rejected.toLocaleString()} of ${card.looked_at.toLocaleString()} rejected`));
    if (card.missing) side.append(element("small", "", `${card.missing.toLocaleString()} of ${card.rows.toLocaleString()} missing`));
    made.append(table, side);
    return made;
  }

  makeChoice(card, { place, option, label, value, values }) {
    const made = element("label", "", `${label} `), select = element("select", "", "", { tabIndex: -1 });
    select.dataset.name = `${place} ${option}`;
    select.append(...values.map(one => element("option", "", one || "not said", { value: one })));
    select.value = value;
    select.onchange = () => {
      const steps = card.steps.map((step, at) => at === place ? { ...step, [option]: select.value } : step);
      if (!select.value) delete steps[place][option];
      this.attempt(card, card.field, steps);
      this.board.hold();
    };
    made.append(select);
    return made;
  }
}

// -- a step that the kernel draws ------------------------------------------------------------------------------------------

class DrawnStep {
  constructor(board, name) {
    this.board = board;
    this.name = name;
    this.root = element("div", "mlops-drawn", "This is on its way.");
    this.root.addEventListener("click", event => { const button = event.target.closest("button[data-post]"); if (button) this.decide(button); });
    this.root.addEventListener("change", event => { if (event.target.matches("select[data-post]")) this.decide(event.target, event.target.value); });
  }

  open() { this.board.ask({ type: "step", name: this.name }); }

  hear(message) {
    if (message.type !== "step" || message.name !== this.name) return;
    const top = this.root.scrollTop;
    this.root.innerHTML = message.html; // made or cleaned in Python
    this.root.scrollTop = top;
    this.board.drawCommands();
  }

  stored() { this.open(); } // what was decided changes what is shown

  decide(control, chosen) { // a control says what it decides: the list, the item, and a button its value
    const { what, item, value } = JSON.parse(control.dataset.post);
    const event = this.board.post(item, "label", { what, value: chosen ?? value });
    if (!event) return;
    this.board.history.push({ event: event.id, item, what });
    control.disabled = true;
    this.board.say("");
    this.board.hold();
  }

  undo() {
    const last = this.board.history.pop();
    if (!last) return this.board.say("There is nothing to take back.");
    this.board.post(last.item, "undo", { what: last.what, about: last.event });
  }
}

const STEPS = { map: MapStep };

// -- the board ---------------------------------------------------------------------------------------------------------

class ReconciliationBoard extends DecisionBoard {
  constructor(model, el) {
    super();
    this.model = model;
    this.about = model.get("about");
    this.history = [];
    this.notice = "";
    this.outbox = new Outbox(model, () => this.drawState(), { what: "mapping", every: () => this.remind() });
    this.steps = new Map(this.about.steps.map(({ name }) => [name, new (STEPS[name] ?? DrawnStep)(this, name)]));
    this.step = this.steps.values().next().value;
    this.build(el);
    this.root.addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("mousedown", event => { if (!event.target.closest("input, button, select, option, summary, a")) this.hold(); });
    this.heard = message => this.hear(message);
    model.on("msg:custom", this.heard);
    this.progressed = () => { this.step.drawPills?.(); this.drawState(); };
    model.on("change:progress", this.progressed);
    this.ask({ type: "open", leftover: this.outbox.leftover() });
    this.step.open();
  }

  close() {
    this.outbox.close();
    this.model.off("msg:custom", this.heard);
    this.model.off("change:progress", this.progressed);
  }

  ask(message) { // what is asked and not answered is asked again
    this.wanted = { ...message, session: this.outbox.session };
    this.wantedAt = performance.now();
    try { this.model.send(this.wanted); } catch { /* the kernel is gone; what is not stored says so */ }
  }

  remind() {
    if (this.step instanceof MapStep && !this.step.cards.has(this.step.department) && performance.now() - (this.wantedAt ?? 0) > SLOW)
      this.ask({ type: "cards", department: this.step.department });
  }

  post(item, action, more) {
    if (this.outbox.full) return this.say("Wait: too many decisions are not stored yet.", true);
    const event = { id: uuid(), item, action, session: this.outbox.session, ...more };
    this.outbox.post(event);
    return event;
  }

  hear(message) {
    const { type, ids = [], session, error } = message;
    if (session && session !== this.outbox.session) return; // it was said to another view of the same widget
    if (type === "opened") {
      this.history = message.history;
      if (message.notice) this.say(message.notice);
    } else if (type === "stored") {
      this.outbox.settle(ids);
      if (!this.outbox.pending.size) this.step.stored?.();
    }
    else if (type === "refused") {
      this.history = this.history.filter(one => !ids.includes(one.event));
      this.outbox.settle(ids);
      this.say(error, true);
      this.step.stored?.();
    } else if (type === "failed") {
      if (this.outbox.pending.size) this.outbox.fail(error); else this.say(error, true);
    } else this.step.hear(message);
  }

  key(event) {
    const chooses = event.target.closest?.("select");
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    if (event.key === "Tab" || (event.key.startsWith("F") && event.key.length > 1)) return;
    event.stopPropagation();
    if (chooses) {
      if (event.key === "Escape") this.hold();
      return;
    }
    if (event.key === "Escape" || (event.target.closest?.("button, summary") && (event.key === "Enter" || event.key === " "))) return;
    const way = event.ctrlKey ? "undo" : Object.keys(WAYS).find(one => WAYS[one].includes(event.key));
    event.preventDefault();
    if (way !== "assist") this.help.hidden = true;
    if (way === "assist") this.assist(); else if (way) this.step[way]?.();
  }

  build(el) {
    this.tabs = element("div", "mlops-tabs", "", { role: "tablist", hidden: this.steps.size < 2 });
    this.stage = element("div", "mlops-step");
    this.frame(el, "mlops-reconciliation", "mlops-bar", [this.tabs, this.stage]);
    this.bar.append(element("div"));
    for (const [way, text] of [["undo", "undo"], ["change", "another field"], ["turn", "another unit"], ["assist", "help"]]) {
      this.commands.append(makeButton(`mlops-command mlops-${way}`, text, WAYS[way][0], () => {
        if (way === "assist") this.assist(); else this.step[way]?.();
        if (way === "undo" || way === "assist") this.hold();
      }));
    }
    this.show(this.about.steps[0].name, false);
  }

  show(name, open = true) {
    this.step = this.steps.get(name);
    this.stage.replaceChildren(this.step.root);
    this.tabs.replaceChildren(...this.about.steps.map(one => {
      const tab = element("button", "mlops-tab", one.title, { type: "button", tabIndex: -1, role: "tab" });
      tab.ariaSelected = one.name === name;
      tab.onclick = () => { this.show(one.name); this.hold(); };
      return tab;
    }));
    this.drawCommands();
    if (open) this.step.open();
    this.drawState();
  }

  assist() { if (!(this.step instanceof DrawnStep)) super.assist(); } // its keys are the map's

  drawCommands() {
    const drawn = this.step instanceof DrawnStep; // here one can only take back
    for (const command of this.commands.children) command.hidden = drawn && !command.matches(".mlops-undo");
    this.commands.hidden = drawn && !this.step.root.querySelector("[data-post]") && !this.history.length;
  }

  drawState() {
    if (!this.root) return;
    const said = showPending(this, "decision");
    const told = this.model.get("progress")?.departments ?? [];
    const total = told.reduce((sum, one) => sum + one.total, 0), decided = told.reduce((sum, one) => sum + one.decided, 0);
    this.bar.firstChild.style.width = total ? `${100 * decided / total}%` : "0";
    this.state.textContent = `${said} · ${decided} of ${total} ${this.about.counted} decided`;
  }
}

export default {
  render({ model, el }) {
    const board = new ReconciliationBoard(model, el);
    return () => board.close();
  },
};
