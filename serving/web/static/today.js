// Working a day's list in place: a row opens below itself, what is sent comes back as the row anew, and the
// new score is waited for. Without this script each link leads to a page of its own, and forms are sent.
(() => {
  "use strict";
  const EVERY = 200;
  const AT_MOST = 10000;
  const ASKED = { headers: { "X-Requested-With": "fetch" } };

  const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });
  const rowOf = (key) => document.getElementById(`row-${key}`);
  const keyOf = (row) => row.id.slice("row-".length);

  const piece = (html, id) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.content.getElementById(id);
  };

  const say = (row, text) => {
    const status = row.querySelector("[data-status]");
    if (status) status.textContent = text;
  };

  const refuse = (row, text) => {
    const refused = row.querySelector("[data-refused]");
    if (refused) {
      refused.textContent = text;
      refused.hidden = !text;
    } else if (text) {
      window.alert(text);  // the row is not open: there is no other place to say it
    }
  };

  const count = (more) => {
    const counter = document.querySelector("[data-progress] [data-count]");
    if (counter && more) counter.textContent = Number(counter.textContent) + more;
  };

  const showHead = (row, html) => {
    const key = keyOf(row);
    const old = document.getElementById(`head-${key}`);
    const fresh = piece(html, `head-${key}`);
    if (!fresh) return old;
    const hadFocus = old.contains(document.activeElement);
    count(Number("done" in fresh.dataset) - Number("done" in old.dataset));
    old.replaceWith(fresh);
    row.classList.toggle("is-done", "done" in fresh.dataset);
    const link = fresh.querySelector("[data-open]");
    link.setAttribute("aria-expanded", String(row.classList.contains("is-open")));
    if (hadFocus) link.focus();
    return fresh;
  };

  const open = async (link) => {
    const key = link.dataset.open;
    const row = rowOf(key);
    const panel = document.getElementById(`panel-${key}`);
    if (panel) {
      panel.hidden = !panel.hidden;
      row.classList.toggle("is-open", !panel.hidden);
      link.setAttribute("aria-expanded", String(!panel.hidden));
      return;
    }
    link.setAttribute("aria-busy", "true");
    const answer = await fetch(link.href, ASKED);
    const fresh = answer.ok && !answer.redirected ? piece(await answer.text(), `panel-${key}`) : null;
    if (!fresh) {
      window.location.assign(link.href);
      return;
    }
    row.append(fresh);
    row.classList.add("is-open");
    link.removeAttribute("aria-busy");
    link.setAttribute("aria-expanded", "true");
    fresh.querySelector("input:not([type=hidden]), summary")?.focus();
  };

  const awaitScore = async (row, was) => {
    const status = row.querySelector("[data-status]");
    const { seen } = document.getElementById(`head-${keyOf(row)}`).dataset;
    const address = `${row.dataset.fresh}?seen=${encodeURIComponent(seen)}`;
    for (let waited = 0; waited < AT_MOST; waited += EVERY) {
      const answer = await fetch(address, ASKED);
      if (answer.status === 200 && !answer.redirected) {
        const fresh = showHead(row, await answer.text());
        fresh.classList.add("fresh");
        say(row, `${status.dataset.done} ${fresh.dataset.percent}, ${status.dataset.was} ${was}.`);
        return;
      }
      if (answer.status !== 204) break;
      if (answer.headers.has("X-Score-Stays")) {
        say(row, status.dataset.stays);
        return;
      }
      await pause(EVERY);
    }
    say(row, status.dataset.slow);
  };

  const send = async (form, row) => {
    const was = row.querySelector("[data-percent]").dataset.percent;
    const answer = await fetch(form.action, { method: "POST", body: new FormData(form), ...ASKED });
    const refused = row.querySelector("[data-refused]");
    if ([403, 404, 409, 412, 422].includes(answer.status)) {
      refuse(row, await answer.text());
    } else if (answer.status !== 201) {
      refuse(row, refused?.dataset.failed);
    } else if ("said" in form.dataset) {
      form.reset();
      say(row, await answer.text());
    } else {
      showHead(row, await answer.text());
      form.reset();
      const status = row.querySelector("[data-status]");
      if (!status) return;
      say(row, status.dataset.working);
      if ("scored" in form.dataset) await awaitScore(row, was);
      else say(row, status.dataset.slow);
    }
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-open]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(link).catch(() => { window.location.assign(link.href); });
  });

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const row = form.closest(".day-row");
    if (!row) return;
    event.preventDefault();
    const button = event.submitter ?? form.querySelector("button");
    refuse(row, "");
    button.disabled = true;
    try {
      await send(form, row);
    } catch {
      refuse(row, row.querySelector("[data-refused]")?.dataset.offline);
    } finally {
      button.disabled = false;
    }
  });
})();
