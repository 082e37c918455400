// What is being made: ask how far it is, show that, and show the page again once it is there.
(() => {
  "use strict";
  const EVERY = 1000;
  const AT_MOST = 600;
  let asked = 0;

  const look = async () => {
    const holder = document.querySelector("[data-poll]");
    if (!holder || asked++ > AT_MOST) return;
    const answer = await fetch(holder.dataset.poll, { headers: { "X-Requested-With": "fetch" } }).catch(() => null);
    if (answer && answer.status === 204) {
      if (!("quiet" in holder.dataset)) {
        location.reload();
        return;
      }
      holder.querySelector("[data-waits]").hidden = true;
      holder.querySelector("[data-there]").hidden = false;
      return;
    }
    if (answer && answer.status === 200 && !answer.redirected && !("quiet" in holder.dataset)) {
      const fresh = document.createElement("template");
      fresh.innerHTML = await answer.text();
      holder.replaceWith(fresh.content.getElementById("making"));
    }
    setTimeout(look, EVERY);
  };

  if (document.querySelector("[data-poll]")) setTimeout(look, EVERY);
})();

// Suggested steps: asked for one after the other once their row comes into view, as each asks a model.
(() => {
  "use strict";
  let last = Promise.resolve();

  const fill = async (place) => {
    const answer = await fetch(place.dataset.step, { headers: { "X-Requested-With": "fetch" } }).catch(() => null);
    if (!answer || answer.status !== 200 || answer.redirected) return;
    const fresh = document.createElement("template");
    fresh.innerHTML = await answer.text();
    if (place.isConnected) place.replaceWith(fresh.content.querySelector(".step"));
  };

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      seen.unobserve(entry.target);
      last = last.then(() => fill(entry.target));
    }
  });
  const watch = () => document.querySelectorAll("[data-step]:not([data-watched])").forEach((place) => {
    place.dataset.watched = "";
    seen.observe(place);
  });

  watch();
  new MutationObserver(watch).observe(document.body, { childList: true, subtree: true });
})();
