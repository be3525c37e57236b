// A list of any length with a few rows in the document: those in view and some beside them.
"use strict";

const ROW = 64; // pixels; browser.css says the same
const BESIDE = 8; // rows kept above and below the view

class List {
  /** `draw(row, number)` fills an empty row; `choose(number)` is called when a person chooses one. */
  constructor(box, rows, draw, choose) {
    Object.assign(this, { box, rows, draw, choose, length: 0, chosen: -1, first: 0, last: 0 });
    box.addEventListener("scroll", () => this.show());
    box.addEventListener("keydown", (event) => this.key(event));
    rows.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) choose(Number(row.dataset.number), "click");
    });
    new ResizeObserver(() => this.show()).observe(box);
  }

  fill(length, chosen) {
    this.length = length;
    this.rows.style.height = `${length * ROW}px`;
    this.rows.replaceChildren();
    this.first = this.last = 0;
    this.box.scrollTop = 0;
    this.mark(chosen);
  }

  /** Marks a row (-1: none) and brings it into view. */
  mark(number) {
    this.chosen = number;
    if (number >= 0) {
      const top = number * ROW;
      const height = this.box.clientHeight || ROW;
      if (top < this.box.scrollTop) this.box.scrollTop = top;
      if (top + ROW > this.box.scrollTop + height) this.box.scrollTop = top + ROW - height;
    }
    this.rows.replaceChildren();
    this.first = this.last = 0;
    this.show();
    if (number >= 0) this.box.setAttribute("aria-activedescendant", `row-${number}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  show() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / ROW) - BESIDE);
    const last = Math.min(this.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + BESIDE);
    if (first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const rows = [];
    for (let number = first; number < last; number += 1) {
      const row = document.createElement("div");
      row.id = `row-${number}`;
      row.className = "row";
      row.setAttribute("role", "option");
      row.setAttribute("aria-selected", number === this.chosen);
      row.setAttribute("aria-setsize", this.length);
      row.setAttribute("aria-posinset", number + 1);
      row.dataset.number = number;
      row.style.top = `${number * ROW}px`;
      this.draw(row, number);
      rows.push(row);
    }
    this.rows.replaceChildren(...rows);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.box.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps && this.length) {
      event.preventDefault();
      this.choose(Math.min(this.length - 1, Math.max(0, this.chosen + steps[event.key])), "arrow");
    } else if ((event.key === "Enter" || event.key === " ") && this.chosen >= 0) {
      event.preventDefault();
      this.choose(this.chosen, "enter");
    }
  }
}
