// Parts of a page that are asked for once it is there; without this script a link leads to each.
(() => {
  "use strict";
  const load = async (holder) => {
    const answer = await fetch(holder.dataset.later, { headers: { "X-Requested-With": "fetch" } });
    if (!answer.ok || answer.redirected) return;
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = part.getElementById(holder.id);
    if (found) holder.replaceWith(found);
  };
  for (const holder of document.querySelectorAll("[id][data-later]")) load(holder).catch(() => {});
})();
