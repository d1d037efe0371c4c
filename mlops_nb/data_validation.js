// The browser's half of mlops_nb.data_validation_widget: rules, the rows that break them, decisions; outbox.js stands in front of this.

const WAYS = {
  waive: ["w"], change: ["c"], quarantine: ["q"], fix: ["f"], aside: ["x"], undo: ["u", "Backspace"], down: ["ArrowDown", "j"], up: ["ArrowUp", "k"],
  next: ["ArrowRight", "]"], previous: ["ArrowLeft", "["], assist: ["?"],
};
const EXPLAINED = {
  waive: "let this failure pass until a day", change: "change the rule", quarantine: "put all rows aside that break the rule", fix: "mend the marked value",
  aside: "put this one row aside", undo: "take the last thing back", down: "the next rule", up: "the rule before", next: "the next failing row",
  previous: "the failing row before", assist: "these keys",
};
const BUTTONS = { waive: "waive", change: "change the rule", quarantine: "put rows aside", fix: "fix the value", aside: "put this row aside" };
const DONE = { waive: "waive", change: "change", quarantine: "put aside", fix: "fix", aside: "put aside" };
const OPEN = new Set(["failed", "warning"]);

const share = text => Number(text.replace(",", ".").replace("%", "")) / 100;
const percent = share => `${(100 * share).toLocaleString("en", { maximumSignificantDigits: 3 })} %`;

class ValidationBoard extends DecisionBoard {
  constructor(model, el) {
    super();
    this.model = model;
    this.about = model.get("about");
    this.cards = [];
    this.rows = new Map(); // the failing rows of each rule that was looked at
    this.history = [];
    this.place = 0;
    this.row = 0;
    this.cell = -1;
    this.form = null;
    this.notice = "";
    this.outbox = new Outbox(model, () => this.drawState(), { what: "validation", every: () => this.remind() });
    this.build(el);
    this.root.addEventListener("keydown", event => this.key(event));
    this.root.addEventListener("mousedown", event => { if (!event.target.closest("input, button, select, option, summary, a")) this.hold(); });
    this.heard = message => this.hear(message);
    model.on("msg:custom", this.heard);
    this.ask({ type: "open", leftover: this.outbox.leftover() });
  }

  close() {
    this.outbox.close();
    this.model.off("msg:custom", this.heard);
  }

  get card() { return this.cards[this.place]; }

  get shown() { return this.card && this.rows.get(this.card.check); }

  ask(message) {
    this.askedAt = performance.now();
    try { this.model.send({ ...message, session: this.outbox.session }); } catch { /* the kernel is gone; what is not stored says so */ }
  }

  remind() { // what is asked and not answered is asked again
    if (performance.now() - this.askedAt < SLOW) return;
    if (!this.cards.length) this.ask({ type: "verdicts" });
    else if (this.card?.failing && !this.shown) this.ask({ type: "rows", check: this.card.check });
  }

  hear(message) {
    const { type, ids = [], session, error } = message;
    if (session && session !== this.outbox.session) return; // it was said to another view of the same widget
    if (type === "opened") {
      this.history = message.history;
      if (message.notice) this.say(message.notice);
    } else if (type === "stored") this.outbox.settle(ids);
    else if (type === "refused") {
      this.history = this.history.filter(one => !ids.includes(one.event));
      this.outbox.settle(ids);
      this.say(error, true);
    } else if (type === "failed") {
      if (this.outbox.pending.size) this.outbox.fail(error); else this.say(error, true);
    } else if (type === "verdicts") this.take(message.cards);
    else if (type === "rows") {
      this.rows.set(message.check, message);
      if (this.card?.check === message.check) this.drawCurrent();
    }
  }

  take(cards) { // the order of the first look is kept, so that nothing moves under somebody's hands
    const order = new Map(this.cards.map((card, place) => [card.check, place]));
    const here = this.card?.check, mark = this.card?.mark;
    this.cards = cards.toSorted((one, other) => (order.get(one.check) ?? 1e9) - (order.get(other.check) ?? 1e9));
    this.place = Math.max(0, this.cards.findIndex(card => card.check === here));
    this.rows.clear();
    this.draw(this.card?.check !== here || this.card?.mark !== mark);
  }

  look(anew) {
    if (anew) Object.assign(this, { row: 0, cell: -1, form: null });
    if (this.card?.failing && !this.shown) this.ask({ type: "rows", check: this.card.check });
  }

  // what a person does
  go(by) {
    this.place = Math.min(this.cards.length - 1, Math.max(0, this.place + by));
    this.draw();
  }

  down() { this.go(1); }

  up() { this.go(-1); }

  turn(by) {
    const count = this.shown?.rows.length ?? 0;
    if (!count) return;
    this.row = (this.row + by + count) % count;
    this.cell = -1;
    this.form = null;
    this.drawCurrent();
  }

  next() { this.turn(1); }

  previous() { this.turn(-1); }

  waive() { this.open("waive"); }

  change() { this.open("change"); }

  quarantine() { this.open("quarantine"); }

  fix() { this.open("fix"); }

  aside() { this.open("aside"); }

  lacks(kind) { // why something cannot be decided here; nothing where it can
    const { card, shown } = this;
    if (!card) return "There is no rule.";
    if (kind === "waive") return card.status === "passed" ? "It holds: there is nothing to waive." : "";
    if (!this.about.rules) return "Without its rows a verdict can be waived, and nothing else.";
    if (kind === "change") return card.mark ? "" : "This is no rule that can be changed.";
    if (kind === "quarantine") return card.whole ? "It is about the whole table: no row is to blame." : card.severity === "quarantine" ? "Its rows are put aside already." : "";
    if (!this.about.table) return "Single rows of files cannot be decided.";
    if (!shown?.rows.length) return "There is no row that fails.";
    if (kind === "fix" && this.target < 1) return "Click on the value that is wrong.";
    return "";
  }

  get target() { return this.cell >= 0 ? this.cell : this.shown?.wrong ?? -1; }

  open(kind) {
    const lack = this.lacks(kind);
    if (lack) return this.say(lack);
    this.say("");
    this.form = kind;
    this.draft = {};
    this.drawCurrent();
    const field = this.root.querySelector(".mlops-form [data-first]") ?? this.root.querySelector(".mlops-form input");
    field?.focus({ preventScroll: true });
    field?.select?.();
  }

  submit() {
    const { card, shown, form } = this, told = name => this.root.querySelector(`.mlops-form [name=${name}]`)?.value ?? "";
    const reason = told("reason").trim();
    if (!reason) {
      this.say("Say why: somebody will ask.", true);
      return this.root.querySelector(".mlops-form [name=reason]").focus();
    }
    const key = shown?.keys[this.row];
    const value = { decision: form === "aside" ? "quarantine" : form };
    if (form === "waive" || form === "quarantine" || form === "change") value.rule = card.mark;
    if (form === "waive") {
      value.until = told("until");
      if (!value.until || value.until < today()) return this.say("Give a last day that is still to come.", true);
      const most = share(told("most"));
      if (!card.whole && !(most >= card.share)) return this.say(`It is ${percent(card.share)} of the rows now: give at least that.`, true);
      if (!card.whole) value.most = Math.min(1, most);
    }
    if (form === "change") {
      const limit = share(told("limit"));
      if (!card.whole && !(limit >= 0 && limit <= 1)) return this.say("The limit is a share of rows, 0 to 100 %.", true);
      if (!card.whole && percent(limit) !== percent(card.limit)) value.limit = limit;
      if (told("severity") !== card.severity) value.severity = told("severity");
      if (card.condition && told("condition").trim() !== card.condition) value.condition = told("condition").trim();
      if (Object.keys(value).length === 2) return this.say("That is what the rule says already.", true);
    }
    if (form === "fix" || form === "aside") Object.assign(value, { check: card.check, key });
    if (form === "fix") Object.assign(value, { column: shown.columns[this.target], was: shown.rows[this.row][this.target] ?? "", value: told("value") });
    if (this.outbox.full) return this.say("Wait: too many decisions are not stored yet.", true);
    const item = form === "fix" || form === "aside" ? `${card.check} · ${key}` : card.check;
    const event = { id: uuid(), item, action: "label", value, reason, session: this.outbox.session };
    this.history.push({ event: event.id, item });
    card.waiting = true;
    this.form = null;
    this.say("");
    this.outbox.post(event);
    this.draw();
    this.hold();
  }

  undo() {
    const last = this.history.pop();
    if (!last) return this.say("There is nothing to take back.");
    this.outbox.post({ id: uuid(), item: last.item, action: "undo", about: last.event, session: this.outbox.session });
    const at = this.cards.findIndex(card => last.item === card.check || last.item.startsWith(`${card.check} · `));
    if (at >= 0) {
      this.place = at;
      this.cards[at].waiting = true;
    }
    this.say(`Taken back: ${last.item}`);
    this.draw();
  }

  key(event) {
    const types = event.target.closest?.("input, select, textarea");
    if (event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    if (event.key === "Tab" || (event.key.startsWith("F") && event.key.length > 1)) { if (types) event.stopPropagation(); return; }
    event.stopPropagation();
    if (types) {
      if (event.key === "Escape") this.cancel();
      else if (event.key === "Enter") { event.preventDefault(); this.submit(); }
      return;
    }
    if (event.key === "Escape") { if (this.form) this.cancel(); return; }
    if (event.target.closest?.("button, summary") && (event.key === "Enter" || event.key === " ")) return;
    const way = event.ctrlKey ? "undo" : Object.keys(WAYS).find(one => WAYS[one].includes(event.key));
    event.preventDefault();
    if (way !== "assist") this.help.hidden = true;
    if (way) this[way]();
  }

  cancel() {
    this.form = null;
    this.drawCurrent();
    this.hold();
  }

  // what one sees
  build(el) {
    this.list = element("div", "mlops-rules");
    this.list.append(element("div", "mlops-empty", "The table is being judged."));
    this.frame(el, "mlops-validation", "mlops-tally", [this.list]);
    for (const [way, text] of [["undo", "undo"], ["assist", "help"]]) {
      this.commands.append(makeButton(`mlops-command mlops-${way}`, text, WAYS[way][0], () => { this[way](); this.hold(); }));
    }
  }

  draw(anew = true) {
    this.look(anew);
    this.keep(() => this.list.replaceChildren(...this.cards.map((card, at) => this.makeCard(card, at))));
    if (!this.cards.length) this.list.append(element("div", "mlops-empty", "There is no rule."));
    this.mark();
    this.drawState();
  }

  drawCurrent() {
    this.keep(() => this.list.children[this.place]?.replaceWith(this.makeCard(this.card, this.place)));
    this.mark();
    this.drawState();
  }

  keep(draw) { // what is drawn anew under somebody's hands keeps the cursor where it was
    const held = this.root.getRootNode().activeElement, inside = held && this.list.contains(held);
    const place = inside && held.type === "text" ? [held.selectionStart, held.selectionEnd] : null;
    draw();
    if (!inside) return;
    const again = held.name && this.root.querySelector(`.mlops-form [name=${held.name}]`);
    (again || this.root).focus({ preventScroll: true });
    if (again && place) again.setSelectionRange(...place);
  }

  mark() {
    this.root.dataset.item = this.card?.check ?? "";
    const one = this.list.children[this.place];
    if (!one) return;
    scrollWithin(this.list, one);
  }

  makeCard(card, at) {
    const made = element("div", "mlops-rule"), head = element("div", "mlops-rule-head");
    made.dataset.check = card.check;
    made.dataset.status = card.status;
    if (card.waiting) made.dataset.waiting = "true";
    const bar = element("span", "mlops-share", "", { title: `${percent(card.share)} of the rows, allowed ${percent(card.limit)}; the bar is the square root` });
    if (card.failing) bar.append(element("i", "", "", { style: `width:${Math.max(1, 100 * Math.sqrt(card.share))}%` }));
    if (card.limit) bar.append(element("b", "", "", { style: `left:${100 * Math.sqrt(card.limit)}%` }));
    head.append(element("span", "mlops-verdict", card.status), element("span", "mlops-rule-name", card.check), bar,
      element("span", "mlops-figures", card.whole ? "whole table" : card.failing ? `${card.failing.toLocaleString("en")} of ${card.rows.toLocaleString("en")}` : "none"));
    made.append(head);
    made.onmousedown = () => {
      if (at === this.place) return;
      this.place = at;
      this.draw();
    };
    if (at === this.place) {
      made.classList.add("mlops-current");
      made.append(this.makeBody(card));
    }
    return made;
  }

  makeBody(card) {
    const made = element("div", "mlops-rule-body");
    made.append(element("div", "mlops-detail", card.detail));
    if (card.rule) made.append(element("code", "mlops-sql", card.rule.length > 600 ? `${card.rule.slice(0, 600)} …` : card.rule));
    for (const said of card.decisions) made.append(element("div", "mlops-decision", said));
    if (card.failing) made.append(this.makeRows());
    const buttons = element("div", "mlops-labels");
    for (const [way, text] of Object.entries(BUTTONS)) {
      if (this.lacks(way) && !(way === "fix" && this.about.table && this.shown?.rows.length)) continue;
      buttons.append(makeButton(`mlops-do mlops-${way}`, text, WAYS[way][0], () => { this[way](); if (!this.form) this.hold(); }));
    }
    made.append(this.form ? this.makeForm(card) : buttons);
    return made;
  }

  makeRows() {
    if (!this.shown) return element("div", "mlops-empty", "The rows are on their way.");
    const { columns, rows, wrong } = this.shown, box = element("div", "mlops-failing"), table = element("table");
    const head = element("tr");
    head.append(...columns.map(name => element("th", "", name)));
    table.append(head, ...rows.map((line, at) => {
      const row = element("tr", at === this.row ? "mlops-chosen" : "");
      row.append(...line.map((value, place) => {
        const cell = element("td", place === wrong ? "mlops-wrong" : "", value ?? "missing");
        if (value === null) cell.classList.add("mlops-missing");
        if (at === this.row && place === this.target && this.about.table) cell.classList.add("mlops-target");
        cell.onmousedown = () => {
          Object.assign(this, { row: at, cell: place || -1, form: null });
          queueMicrotask(() => this.drawCurrent());
        };
        return cell;
      }));
      return row;
    }));
    box.append(table);
    if (this.card.failing > rows.length) box.append(element("div", "mlops-empty", `the first ${rows.length.toLocaleString("en")}`));
    const chosen = table.children[this.row + 1];
    requestAnimationFrame(() => { if (chosen) box.scrollTop = Math.max(0, chosen.offsetTop - box.clientHeight / 2); });
    return box;
  }

  makeForm(card) {
    const made = element("div", "mlops-form"), way = this.form;
    const field = (name, text, more, kind = "input") => {
      const label = element("label", `mlops-field-${name}`), one = element(kind, "", "", { name, ...more });
      one.oninput = () => { this.draft[name] = one.value; };
      label.append(element("span", "", text), one);
      made.append(label);
      return one;
    };
    if (way === "waive") field("until", "until", { type: "date", min: today(), value: today(30) });
    if (way === "waive" && !card.whole) field("most", "up to, % of rows", { type: "text", value: String(Math.min(100, +(120 * card.share).toPrecision(2))) });
    if (way === "fix") field("value", `${this.shown.columns[this.target]} of ${this.shown.keys[this.row]}`, { type: "text", value: this.shown.rows[this.row][this.target] ?? "", placeholder: "missing" }).dataset.first = "";
    if (way === "change") {
      if (!card.whole) field("limit", "allowed, % of rows", { type: "text", value: String(+(100 * card.limit).toPrecision(6)) }).dataset.first = "";
      const severity = field("severity", "severity", {}, "select");
      severity.append(...["fail", "warn", "quarantine"].filter(one => one !== "quarantine" || !card.whole).map(one => element("option", "", one, { value: one })));
      severity.value = card.severity;
      if (card.condition) field("condition", card.whole ? "value must" : "condition", { type: "text", value: card.condition, spellcheck: false });
    }
    const reason = field("reason", "because", { type: "text", placeholder: "who asked, what was found", autocomplete: "off" });
    if (way === "waive") reason.dataset.first = "";
    for (const [name, value] of Object.entries(this.draft)) made.querySelector(`[name=${name}]`).value = value;
    const buttons = element("div", "mlops-labels");
    for (const [name, text, key] of [["submit", DONE[way], "Enter"], ["cancel", "cancel", "Esc"]])
      buttons.append(makeButton(`mlops-${name}`, text, key, () => this[name](), { tabIndex: 0 }));
    made.append(buttons);
    return made;
  }

  drawState() {
    if (!this.root) return;
    const said = showPending(this, "decision");
    const counts = Object.groupBy(this.cards, card => card.status);
    const words = ["failed", "warning", "put aside", "waived", "passed"].filter(word => counts[word]);
    this.bar.replaceChildren(...words.map(word => {
      const part = element("span", "", `${counts[word].length} ${word}`);
      part.dataset.status = word;
      part.style.flexGrow = counts[word].length;
      return part;
    }));
    const gate = !this.cards.length ? "" : counts.failed ? ` · the gate refuses: ${counts.failed.length} failed` : " · the gate is open";
    this.state.textContent = `${said}${gate}`;
  }
}

function today(days = 0) { return new Date(Date.now() + days * 864e5).toISOString().slice(0, 10); }

export default {
  render({ model, el }) {
    const board = new ValidationBoard(model, el);
    return () => board.close();
  },
};
