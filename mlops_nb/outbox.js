// What the widgets of mlops_nb share in the browser: elements, ids, buttons, and the outbox of events that the kernel has to acknowledge.
//
// An event gets its id here and is sent until the kernel says that it is stored. Until then it stands in `pending`, and in the
// browser's storage, so that it outlives the kernel, the server and the tab. What one does next never waits for any of this.
// This file is put in front of a widget's own script, since a widget's script cannot import another.

const MOST_PENDING = 32; // answers that may be on their way; then one has to wait
const SLOW = 3000, LOST = 8000; // milliseconds without an answer after which one is told

const uuid = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map(byte => byte.toString(16).padStart(2, "0")).join("");
};

const element = (kind, className = "", text = "", more = {}) => {
  const made = Object.assign(document.createElement(kind), more);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
};

const shown = key => ({ Backspace: "⌫", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Enter: "⏎" })[key] ?? key;

const makeButton = (name, text, key, press, more = {}) => {
  const button = element("button", name, "", { type: "button", tabIndex: -1, onclick: press, ...more });
  button.append(element("span", "", text), element("kbd", "", shown(key)));
  return button;
};

const listKeys = rows => { // the help: keys, and what each does
  const table = element("table");
  table.append(...rows.map(([keys, explained]) => {
    const row = element("tr");
    row.append(element("td"), element("td", "", explained));
    row.firstChild.append(element("kbd", "", keys));
    return row;
  }));
  return [element("strong", "", "Keys"), table];
};

const scrollWithin = (list, one) => { // scrollIntoView would move the notebook as well
  const outer = list.getBoundingClientRect(), inner = one.getBoundingClientRect();
  if (inner.top < outer.top || inner.height > outer.height) list.scrollTop -= outer.top - inner.top + 4;
  else if (inner.bottom > outer.bottom) list.scrollTop += inner.bottom - outer.bottom + 4;
};

const showPending = (board, word) => { // the banner; gives what the line at the end says of events on their way
  const { pending, failure, waited } = board.outbox;
  const count = `${pending.size} ${word}${pending.size === 1 ? " is" : "s are"}`;
  const lost = pending.size && (failure || waited > LOST);
  const bad = lost ? `${count} not stored: ${failure || "the kernel does not answer"}. They are kept in this browser and sent again.` : board.notice;
  board.banner.hidden = !bad;
  board.banner.textContent = bad;
  board.banner.classList.toggle("mlops-red", Boolean(lost) || (Boolean(board.notice) && Boolean(board.bad)));
  board.root.dataset.pending = pending.size;
  board.state.classList.toggle("mlops-waiting", pending.size > 0);
  return pending.size ? `${pending.size} pending` : "all stored";
};

// -- what is on its way ------------------------------------------------------------------------------------------------

class Outbox {
  constructor(model, changed, { what, every = () => {}, more = () => ({}) }) {
    this.model = model;
    this.what = what;
    this.changed = changed;
    this.more = more; // what is told besides the events
    this.session = uuid();
    this.pending = new Map();
    this.failure = "";
    this.oldest = 0;
    this.timer = setInterval(() => { this.look(); every(); }, 1000);
  }

  get name() { return `mlops_nb ${this.what} ${this.model.get("storage")} `; }

  remember() {
    try {
      const mine = this.name + this.session;
      if (this.pending.size) localStorage.setItem(mine, JSON.stringify([...this.pending.values()]));
      else localStorage.removeItem(mine);
    } catch { /* a browser without storage: what is pending is lost with the tab, and shown until then */ }
  }

  leftover() { // what other sessions of this person on this queue could not store
    const found = [];
    try {
      for (const key of Object.keys(localStorage)) {
        if (key.startsWith(this.name) && !key.endsWith(this.session)) {
          found.push(...JSON.parse(localStorage.getItem(key)));
          this.inherited = [...(this.inherited ?? []), key];
        }
      }
    } catch { /* as above */ }
    return found;
  }

  post(event) {
    if (!this.pending.size) this.oldest = performance.now();
    this.pending.set(event.id, event);
    this.send([event]);
    this.remember();
    this.changed();
  }

  send(events) {
    try { this.model.send({ type: "events", events, ...this.more() }); } catch (error) { this.failure = String(error?.message ?? error); }
  }

  settle(ids) {
    ids.forEach(id => this.pending.delete(id));
    this.failure = "";
    this.oldest = performance.now();
    if (!this.pending.size && this.inherited) {
      this.inherited.forEach(key => localStorage.removeItem(key));
      this.inherited = null;
    }
    this.remember();
    this.changed();
  }

  fail(reason) { this.failure = reason; this.changed(); }

  get waited() { return this.pending.size ? performance.now() - this.oldest : 0; }

  get full() { return this.pending.size >= MOST_PENDING; }

  look() { // an answer that is late is asked for again: the kernel keeps each event once
    if (this.pending.size && (this.failure || this.waited > SLOW)) {
      this.send([...this.pending.values()]);
      this.changed();
    }
  }

  close() { clearInterval(this.timer); }
}

// -- a board on which one decides --------------------------------------------------------------------------------------

class DecisionBoard { // its frame; what is in it, and `drawState`, is for those who extend it
  hold() { this.root.focus({ preventScroll: true }); }

  assist() { this.help.hidden = !this.help.hidden; }

  say(text, bad = false) {
    this.notice = text;
    this.bad = bad;
    this.drawState();
  }

  frame(el, kind, bar, middle) { // head, banner, what is in the middle, commands, state, help
    this.root = element("div", `mlops-labeling ${kind}`, "", { tabIndex: 0 });
    this.root.dataset.lmSuppressShortcuts = "true"; // JupyterLab keeps its own keys to itself here
    const head = element("div", "mlops-head");
    this.bar = element("div", bar);
    head.append(element("strong", "", this.about.title), element("span", "mlops-who", `${this.model.get("person")} · ${this.about.name}`), this.bar);
    this.banner = element("div", "mlops-banner", "", { hidden: true, role: "alert" });
    this.commands = element("div", "mlops-commands");
    this.state = element("div", "mlops-state");
    this.help = element("div", "mlops-help", "", { hidden: true });
    this.help.append(...listKeys(Object.entries(WAYS).map(([way, keys]) => [keys.map(shown).join("  "), EXPLAINED[way]])));
    this.root.append(head, this.banner, ...middle, this.commands, this.state, this.help);
    el.append(this.root);
  }
}
