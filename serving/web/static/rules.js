// The form of a rule: whoever chooses another kind sees its fields at once. Without this script a button shows them.
(() => {
  "use strict";
  for (const choice of document.querySelectorAll("select[data-shows]")) {
    const form = choice.form;
    const show = form.querySelector("button[value=show]");
    choice.addEventListener("change", () => {
      form.action = `${form.action.split("#")[0]}#${choice.id}`; // the page that follows begins there
      form.requestSubmit(show);
    });
  }
})();
