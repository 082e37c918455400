// What somebody typed is not lost when the network drops or the session ends: it is kept in this tab, by form
// and record (`data-draft`), and put back when the form is there again. Gone once the form was taken.
(() => {
  "use strict";
  const PREFIX = "draft:";
  const SENT = "draft-sent";

  const keyOf = (form) => PREFIX + form.dataset.draft;

  const fieldsOf = (form) => [...form.elements].filter((field) => field.name
    && !["hidden", "password", "file", "submit", "button"].includes(field.type));

  const valuesOf = (form) => fieldsOf(form)
    .filter((field) => !["radio", "checkbox"].includes(field.type) || field.checked)
    .map((field) => [field.name, field.value]);

  const isAsServed = (form) => fieldsOf(form).every((field) => {
    if (["radio", "checkbox"].includes(field.type)) return field.checked === field.defaultChecked;
    if (field.type === "select-one") {
      const served = [...field.options].findIndex((option) => option.defaultSelected);
      return field.selectedIndex === Math.max(served, 0);
    }
    return field.value === field.defaultValue;
  });

  const keep = (form) => {
    try {
      if (isAsServed(form)) sessionStorage.removeItem(keyOf(form));
      else sessionStorage.setItem(keyOf(form), JSON.stringify(valuesOf(form)));
    } catch {
      // a full or forbidden storage keeps nothing, and typing goes on
    }
  };

  const restore = (form) => {
    const kept = sessionStorage.getItem(keyOf(form));
    if (!kept || !isAsServed(form)) return;
    const values = new Map(JSON.parse(kept));
    for (const field of fieldsOf(form)) {
      if (["radio", "checkbox"].includes(field.type)) field.checked = values.get(field.name) === field.value;
      else if (values.has(field.name)) field.value = values.get(field.name);
    }
    const said = form.querySelector("[data-restored]");
    if (said) said.hidden = isAsServed(form);
  };

  const forget = (form) => {
    sessionStorage.removeItem(keyOf(form));
    const said = form.querySelector("[data-restored]");
    if (said) said.hidden = true;
  };

  const formOf = (event) => event.target.closest?.("form[data-draft]");

  // A form that was sent without a script of its own was taken if the next page is neither an error nor the login.
  const settle = () => {
    const sent = sessionStorage.getItem(SENT);
    sessionStorage.removeItem(SENT);
    const [page] = performance.getEntriesByType("navigation");
    const failed = (page?.responseStatus ?? 200) >= 400 || location.pathname.startsWith("/login");
    if (sent && !failed) sessionStorage.removeItem(sent);
  };

  document.addEventListener("input", (event) => { const form = formOf(event); if (form) keep(form); });
  document.addEventListener("change", (event) => { const form = formOf(event); if (form) keep(form); });
  // On the window: after every script that sends a form by itself has said so.
  window.addEventListener("submit", (event) => {
    const form = formOf(event);
    if (form && !event.defaultPrevented) sessionStorage.setItem(SENT, keyOf(form));
  });
  document.addEventListener("draft:taken", (event) => forget(event.target));
  document.addEventListener("draft:placed", (event) => restore(event.target));

  settle();
  document.querySelectorAll("form[data-draft]").forEach(restore);
})();
