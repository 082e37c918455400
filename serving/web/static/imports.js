// How far a job is, asked again and again until it is over. Without this script the page loads itself anew.
(() => {
  "use strict";
  const EVERY = 500;
  const look = async () => {
    const place = document.querySelector("[data-progress]");
    if (!place) return;
    try {
      const answer = await fetch(place.dataset.progress, { headers: { "X-Requested-With": "fetch" } });
      if (answer.ok && !answer.redirected) {
        const holder = document.createElement("template");
        holder.innerHTML = await answer.text();
        if (answer.headers.get("X-Over") === "yes") { window.location.reload(); return; }
        place.replaceWith(holder.content.firstElementChild);
      }
    } catch {
      // no connection: asked again in a moment
    }
    setTimeout(look, EVERY);
  };
  setTimeout(look, EVERY);
})();
