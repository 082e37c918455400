// Moving deals by dragging, or by the menu of a card, without leaving the page. A card moves at once and goes
// back if the move is refused. Without this script the menu's form is sent as any form is.
(() => {
  "use strict";
  const board = document.querySelector("[data-board]");
  if (!board) return;

  const EVERY = 200;
  const AT_MOST = 10000;
  const ASKED = { headers: { "X-Requested-With": "fetch" } };
  const status = document.querySelector("[data-board-status]");
  const refused = document.querySelector("[data-board-refused]");
  const dialog = document.querySelector("[data-board-ask]");
  const query = board.dataset.query ? `?${board.dataset.query}` : "";
  let undo = null; // what puts the card back whose move is being asked about

  const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });
  const say = (text) => { status.textContent = text; };
  const cardOf = (deal) => document.getElementById(`card-${deal}`);
  const listOf = (stage) => document.querySelector(`#lane-${CSS.escape(stage)} .cards`);

  const parse = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.content;
  };

  const refuse = (text) => {
    refused.textContent = text;
    refused.hidden = !text;
  };

  const takeBack = () => {
    undo?.();
    undo = null;
  };

  // Put a card at the top of another column at once; what undoes it is kept.
  const moveNow = (card, stage) => {
    const [home, next] = [card.parentElement, card.nextElementSibling];
    const list = listOf(stage);
    card.classList.add("is-waiting");
    if (list) list.prepend(card);
    else card.hidden = true;
    undo = () => {
      home.insertBefore(card, next);
      card.hidden = false;
      card.classList.remove("is-waiting");
      const select = card.querySelector("select[name=stage]");
      if (select) select.value = home.closest("[data-stage]").dataset.stage;
    };
  };

  const show = (html, deal) => {
    const parts = parse(html);
    parts.querySelectorAll(".lane-head").forEach((fresh) => {
      document.getElementById(fresh.id)?.replaceWith(fresh);
    });
    const fresh = parts.getElementById(`card-${deal}`);
    const old = cardOf(deal);
    if (fresh && old) {
      const hadFocus = old.contains(document.activeElement);
      old.replaceWith(fresh);
      if (hadFocus) fresh.querySelector("summary")?.focus();
    } else if (!fresh) {
      old?.remove();
    }
    return fresh;
  };

  const awaitScore = async (deal, seen) => {
    const address = cardOf(deal).dataset.fresh;
    const more = query ? `${query}&` : "?";
    for (let waited = 0; waited < AT_MOST; waited += EVERY) {
      const answer = await fetch(`${address}${more}seen=${encodeURIComponent(seen)}`, ASKED);
      if (answer.status === 200 && !answer.redirected) {
        show(await answer.text(), deal)?.classList.add("fresh");
        return;
      }
      if (answer.status !== 204 || answer.headers.has("X-Score-Stays")) return;
      await pause(EVERY);
    }
  };

  const ask = (html) => {
    dialog.replaceChildren(...parse(html).childNodes);
    if (!dialog.open) dialog.showModal();
    dialog.querySelector("input:not([type=hidden]), select, button")?.focus();
  };

  const send = async (form, deal) => {
    const data = new FormData(form);
    const { seen } = cardOf(deal).dataset;
    const answer = await fetch(form.action + query, { method: "POST", body: data, ...ASKED });
    const text = await answer.text();
    if (answer.status === 200 && !answer.redirected) {
      if (dialog.open) dialog.close();
      undo = null;
      const fresh = show(text, deal);
      say(fresh ? status.dataset.moved : status.dataset.closed);
      if (fresh) await awaitScore(deal, seen);
    } else if ([412, 422].includes(answer.status) && !answer.headers.has("X-Refused")) {
      ask(text);
    } else {
      if (dialog.open) dialog.close();
      takeBack();
      const known = [403, 404, 409, 422].includes(answer.status) && answer.headers.has("X-Refused");
      refuse(known ? text : status.dataset.failed);
      say(status.dataset.back);
    }
  };

  const tryTo = async (form, deal) => {
    refuse("");
    try {
      await send(form, deal);
    } catch {
      if (dialog.open) dialog.close();
      takeBack();
      refuse(status.dataset.offline);
    }
  };

  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-move]");
    if (!form) return;
    event.preventDefault();
    const deal = form.dataset.move;
    const card = cardOf(deal);
    if (!dialog.contains(form)) {
      const { stage } = card.closest("[data-stage]").dataset;
      if (form.elements.stage.value === stage) return;
      moveNow(card, form.elements.stage.value);
    }
    tryTo(form, deal);
  });

  dialog.addEventListener("click", (event) => {
    const link = event.target.closest("[data-cancel], [data-reload]");
    if (!link) return;
    event.preventDefault();
    if ("reload" in link.dataset) window.location.reload();
    else dialog.close();
  });

  dialog.addEventListener("close", () => {
    if (!undo) return;
    takeBack();
    say(status.dataset.back);
  });

  // ---- dragging

  let dragged = null;

  board.addEventListener("dragstart", (event) => {
    dragged = event.target.closest(".deal-card[draggable]");
    if (!dragged) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", dragged.dataset.deal);
    dragged.classList.add("is-dragged");
  });

  board.addEventListener("dragend", () => {
    dragged?.classList.remove("is-dragged");
    dragged = null;
    board.querySelectorAll(".is-over").forEach((each) => each.classList.remove("is-over"));
  });

  board.addEventListener("dragover", (event) => {
    const over = dragged && event.target.closest("[data-stage]");
    board.querySelectorAll(".is-over").forEach((each) => each !== over && each.classList.remove("is-over"));
    if (!over) return;
    event.preventDefault();
    over.classList.add("is-over");
  });

  board.addEventListener("drop", (event) => {
    const over = dragged && event.target.closest("[data-stage]");
    if (!over) return;
    event.preventDefault();
    const form = dragged.querySelector("form[data-move]");
    form.elements.stage.value = over.dataset.stage;
    form.requestSubmit();
  });
})();
