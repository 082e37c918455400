// The menu closes by Esc and by a click elsewhere; letters go to pages, unless they are turned off or somebody types.
// Without this script the menu opens and closes all the same, and every page is reached by links.
(() => {
  "use strict";
  const help = document.getElementById("keys-help");
  const menus = () => document.querySelectorAll("details.menu[open]");

  // What is written into a form after it was emptied is another thing, though the words be the same.
  document.addEventListener("reset", (event) => {
    const once = event.target.elements.namedItem("once");
    if (once) once.value = [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
  });

  const showHelp = () => { if (!help.open) help.showModal(); };

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-keys-help]")) {
      event.preventDefault();
      showHelp();
    }
    for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of menus()) {
      const inside = menu.contains(document.activeElement);
      menu.open = false;
      if (inside) menu.querySelector("summary").focus();
    }
  });

  if (document.body.dataset.keys === "off") return;

  const PAUSE = 1500;
  let begun = 0;

  const isTyping = (place) => place.isContentEditable || Boolean(place.closest("input, textarea, select, dialog[open]"));

  const goTo = (key) => {
    const link = [...document.querySelectorAll("a[data-key]")].find((each) => each.dataset.key === key);
    if (link) window.location.assign(link.href);
    return Boolean(link);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || isTyping(event.target)) return;
    const second = event.timeStamp - begun < PAUSE && begun > 0;
    begun = 0;
    if (second && goTo(event.key)) event.preventDefault();
    else if (event.key === "g") begun = event.timeStamp;
    else if (event.key === "?") { event.preventDefault(); showHelp(); }
    else if (event.key === "/") { event.preventDefault(); document.getElementById("find").select(); document.getElementById("find").focus(); }
  });
})();
