// Following work on a model: ask every two seconds for as long as something is under way, then offer to reload.
// Without this script the same list is shown when the page is loaded again.
(() => {
  "use strict";
  const EVERY = 2000;

  const print = document.querySelector("[data-print]");
  if (print) {
    print.hidden = false;
    print.addEventListener("click", () => window.print());
  }

  const section = document.querySelector("[data-work]");
  if (!section) return;
  const said = section.querySelector("[data-work-said]");
  const reload = section.querySelector("[data-work-reload]");
  const list = () => document.getElementById("model-work");

  const look = async () => {
    const answer = await fetch(section.dataset.work, { headers: { "X-Requested-With": "fetch" } });
    if (!answer.ok || answer.redirected) return false;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    const fresh = holder.content.getElementById("model-work");
    // Somebody on the way to a button in the list is not thrown off it.
    if (fresh && !list().contains(document.activeElement)) list().replaceWith(fresh);
    return Boolean(fresh && fresh.dataset.running);
  };

  const follow = async () => {
    let running = true;
    try {
      running = await look();
    } catch {
      // without a connection the next look tells
    }
    if (running) {
      setTimeout(follow, EVERY);
    } else {
      said.textContent = said.dataset.done;
      reload.hidden = false;
    }
  };

  if (list().dataset.running) setTimeout(follow, EVERY);
})();
