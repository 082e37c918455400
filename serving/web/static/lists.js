// A condition's form offers what makes sense for its field; chosen rows are counted. All of it works without.
(() => {
  "use strict";
  const form = document.querySelector("[data-condition]");
  if (form) {
    const [field, op, value] = ["f", "op", "v"].map((name) => form.elements[name]);
    const words = form.querySelector("datalist");
    const TYPES = { day: "date", instant: "date", number: "text", whole: "text", money: "text" };
    const fit = () => {
      const chosen = field.selectedOptions[0];
      const ops = chosen.dataset.ops.split(" ");
      for (const each of op.options) {
        each.hidden = !ops.includes(each.value);
        each.disabled = each.hidden;
      }
      if (op.selectedOptions[0]?.disabled) op.value = ops[0];
      words.replaceChildren(...(chosen.dataset.words ?? "").split("|").filter(Boolean).map((text) => new Option(text)));
      asks();
    };
    const asks = () => {
      const many = ["in", "not_in", "between"].includes(op.value);
      value.type = many ? "text" : TYPES[field.selectedOptions[0].dataset.kind] ?? "text";
      value.disabled = ["empty", "not_empty"].includes(op.value);
    };
    field.addEventListener("change", fit);
    op.addEventListener("change", asks);
    fit();
  }

  const many = document.querySelector("form[data-many]");
  if (!many) return;
  const boxes = [...many.querySelectorAll('input[name="id"]')];
  const all = many.querySelector("[data-all]");
  const count = many.querySelector("[data-count]");
  all.hidden = false;
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    count.hidden = !chosen;
    count.textContent = chosen;
    all.checked = chosen === boxes.length;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
  };
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; show(); });
  many.addEventListener("change", show);
  // Enter presses the first button of a form, whatever it does: here nothing in a box, its own button in a field.
  many.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing || !event.target.matches("input")) return;
    event.preventDefault();
    event.target.closest(".many-one")?.querySelector("button").click();
  });
  show();
})();
