// The browser's half of mlops_nb.profile_view: the page comes from the kernel, and a bar of it can be opened to see its rows.
//
// Tab goes from column to column, the arrows from bar to bar, Enter opens, Escape closes. The kernel is asked for rows by the
// column's place and the bar's name; an answer that is no longer waited for is dropped.

class ProfilePage {
  constructor(model, el) {
    this.model = model;
    this.asked = 0;
    this.place = document.createElement("div");
    this.place.className = "mlops-profile-view";
    this.place.dataset.lmSuppressShortcuts = "true"; // JupyterLab keeps its own keys to itself here
    this.place.addEventListener("keydown", event => this.key(event));
    this.place.addEventListener("click", event => this.click(event));
    this.place.addEventListener("focusin", event => this.move(event.target.closest?.("[data-b]")));
    this.hear = message => { if (message.type === "rows") this.show(message); };
    this.change = () => this.draw();
    model.on("msg:custom", this.hear);
    model.on("change:page", this.change);
    el.append(this.place);
    this.draw();
  }

  close() {
    this.model.off("msg:custom", this.hear);
    this.model.off("change:page", this.change);
  }

  draw() {
    this.place.innerHTML = this.model.get("page"); // made in Python, which writes every value as text
    this.page = this.place.firstElementChild;
    for (const column of this.page.querySelectorAll("[data-c]")) {
      const bars = [...column.querySelectorAll("[data-b]")];
      bars.forEach((bar, at) => {
        bar.setAttribute("role", "button");
        bar.setAttribute("tabindex", at ? "-1" : "0");
        const said = bar.querySelector("title")?.textContent ?? `${bar.previousElementSibling?.matches("dt") ? bar.previousElementSibling.textContent : ""} ${bar.textContent}`;
        bar.setAttribute("aria-label", `${column.querySelector(".name").textContent}, ${said.trim()}: show the rows`);
      });
      column.querySelector("svg")?.setAttribute("role", "group");
    }
    this.addFilter();
  }

  addFilter() {
    const columns = [...this.page.querySelectorAll("[data-c]")];
    if (columns.length < 8) return;
    const input = Object.assign(document.createElement("input"), { type: "search", placeholder: "find a column", ariaLabel: "find a column" });
    input.oninput = () => {
      const wanted = input.value.toLowerCase();
      for (const column of columns) column.hidden = !column.querySelector(".name").textContent.toLowerCase().includes(wanted);
    };
    this.page.querySelector("h3").append(input);
  }

  bars(bar) { return [...bar.closest("[data-c]").querySelectorAll("[data-b]")]; }

  move(bar) { // the one bar of a column that Tab comes back to
    if (!bar) return;
    for (const other of this.bars(bar)) other.setAttribute("tabindex", other === bar ? "0" : "-1");
  }

  key(event) {
    if (event.altKey || event.metaKey || event.ctrlKey || (event.key.startsWith("F") && event.key.length > 1)) return;
    event.stopPropagation();
    const bar = event.target.closest?.("[data-b]");
    if (event.key === "Escape" && this.panel) {
      event.preventDefault();
      this.shut();
    } else if (bar && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      this.ask(bar);
    } else if (bar && ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "Home", "End"].includes(event.key)) {
      event.preventDefault();
      const all = this.bars(bar), at = all.indexOf(bar), last = all.length - 1;
      const to = { Home: 0, End: last }[event.key] ?? (["ArrowRight", "ArrowDown"].includes(event.key) ? Math.min(at + 1, last) : Math.max(at - 1, 0));
      all[to].focus();
    }
  }

  click(event) {
    if (event.target.closest(".shut")) return this.shut();
    const bar = event.target.closest("[data-b]");
    if (bar) { bar.focus({ preventScroll: true }); this.ask(bar); }
  }

  ask(bar) {
    this.shut(false);
    this.asked += 1;
    this.bar = bar;
    bar.classList.add("chosen");
    this.panel = Object.assign(document.createElement("div"), { className: "rows", textContent: "The rows are on their way." });
    this.panel.setAttribute("role", "region");
    this.panel.setAttribute("aria-live", "polite");
    bar.closest("[data-c]").after(this.panel);
    this.model.send({ type: "rows", column: Number(bar.closest("[data-c]").dataset.c), bar: bar.dataset.b, asked: this.asked });
  }

  show(message) {
    if (message.asked !== this.asked || !this.panel) return;
    this.panel.innerHTML = message.html; // made in Python, as above
    this.panel.dataset.rows = message.rows;
  }

  shut(back = true) {
    this.panel?.remove();
    this.panel = null;
    this.asked += 1;
    this.bar?.classList.remove("chosen");
    if (back) this.bar?.focus({ preventScroll: true });
  }
}

export default {
  render({ model, el }) {
    const page = new ProfilePage(model, el);
    return () => page.close();
  },
};
