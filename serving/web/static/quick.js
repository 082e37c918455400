// What is found while somebody types into the search: a combobox with a list, moved in by arrows, opened by Enter.
// Without this script Enter sends the form, and the page of all hits comes.
(() => {
  "use strict";
  const field = document.getElementById("find");
  const list = document.getElementById("found");
  const told = document.getElementById("found-count");
  if (!field || !list) return;

  const PAUSE = 180;
  let waiting = 0;
  let asked = null;
  let composing = false;

  field.setAttribute("role", "combobox");
  field.setAttribute("aria-autocomplete", "list");
  field.setAttribute("aria-controls", "found");
  field.setAttribute("aria-expanded", "false");

  const options = () => [...list.querySelectorAll('[role="option"]')];
  const chosen = () => list.querySelector('[aria-selected="true"]');

  const choose = (option) => {
    chosen()?.setAttribute("aria-selected", "false");
    option?.setAttribute("aria-selected", "true");
    if (option) field.setAttribute("aria-activedescendant", option.id);
    else field.removeAttribute("aria-activedescendant");
    option?.scrollIntoView({ block: "nearest" });
  };

  const close = () => {
    asked?.abort();
    clearTimeout(waiting);
    list.hidden = true;
    list.replaceChildren();
    told.textContent = "";
    field.setAttribute("aria-expanded", "false");
    choose(null);
  };

  const show = (html) => {
    list.innerHTML = html;
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    choose(null);
    const count = options().length - 1;
    told.textContent = count === 1 ? told.dataset.one : told.dataset.many.replace("{count}", count);
  };

  const ask = async () => {
    const text = field.value.trim();
    if (!text) { close(); return; }
    asked?.abort();
    asked = new AbortController();
    try {
      const address = `${field.dataset.quick}?q=${encodeURIComponent(text)}`;
      const answer = await fetch(address, { headers: { "X-Requested-With": "fetch" }, signal: asked.signal });
      if (!answer.ok || answer.redirected) return;
      const html = await answer.text();
      if (field.value.trim() === text && document.activeElement === field) show(html);
    } catch {
      // asked anew meanwhile, or no connection: Enter still searches
    }
  };

  const askSoon = () => { clearTimeout(waiting); waiting = setTimeout(ask, PAUSE); };

  field.addEventListener("compositionstart", () => { composing = true; });
  field.addEventListener("compositionend", () => { composing = false; askSoon(); });
  field.addEventListener("input", () => { if (!composing) askSoon(); });
  field.addEventListener("blur", () => { setTimeout(close, 150); });

  field.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const all = options();
    if (event.key === "Escape" && !list.hidden) { event.preventDefault(); close(); return; }
    if (event.key === "Enter" && chosen()) {
      event.preventDefault();
      window.location.assign(chosen().dataset.href);
      return;
    }
    if (!["ArrowDown", "ArrowUp"].includes(event.key) || !all.length) return;
    event.preventDefault();
    const step = event.key === "ArrowDown" ? 1 : -1;
    const at = all.indexOf(chosen());
    choose(all[at < 0 ? (step > 0 ? 0 : all.length - 1) : (at + step + all.length) % all.length]);
  });

  list.addEventListener("mousedown", (event) => {
    const option = event.target.closest('[role="option"]');
    if (!option) return;
    event.preventDefault();
    window.location.assign(option.dataset.href);
  });
})();
