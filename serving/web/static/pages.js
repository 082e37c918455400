// Logging an activity in place: send the form, show the new timeline, then wait for the new score.
// Without this script the form is sent as any form is, and the page comes back.
(() => {
  "use strict";
  const form = document.getElementById("log");
  if (!form) return;

  const status = form.querySelector("[data-status]");
  const refused = form.querySelector("[data-refused]");
  const button = form.querySelector("button");
  const EVERY = 200;
  const AT_MOST = 10000;

  const say = (text) => { status.textContent = text; };
  const pause = (milliseconds) => new Promise((resolve) => { setTimeout(resolve, milliseconds); });

  const replace = (id, html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const fresh = holder.content.getElementById(id);
    if (fresh) document.getElementById(id).replaceWith(fresh);
    return fresh;
  };

  const refuse = (text) => {
    refused.textContent = text;
    refused.hidden = false;
    say("");
  };

  const awaitScore = async () => {
    const seen = document.getElementById("score").dataset.seen;
    const address = `${form.dataset.score}?seen=${encodeURIComponent(seen)}`;
    for (let waited = 0; waited < AT_MOST; waited += EVERY) {
      const answer = await fetch(address, { headers: { "X-Requested-With": "fetch" } });
      if (answer.status === 200 && !answer.redirected) {
        replace("score", await answer.text()).classList.add("fresh");
        say(status.dataset.done);
        return;
      }
      if (answer.status !== 204) break;
      if (answer.headers.has("X-Score-Stays")) {
        say(status.dataset.stays);
        return;
      }
      await pause(EVERY);
    }
    say(status.dataset.slow);
  };

  const send = async () => {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { "X-Requested-With": "fetch" },
    });
    if (answer.status === 422) {
      refuse(await answer.text());
    } else if (answer.status !== 201) {
      refuse(answer.redirected || answer.status === 400 ? status.dataset.ended : status.dataset.failed);
    } else {
      replace("timeline", await answer.text());
      form.reset();
      form.dispatchEvent(new CustomEvent("draft:taken", { bubbles: true }));
      say(form.dataset.score ? status.dataset.working : status.dataset.plain);
      if (form.dataset.score) await awaitScore();
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    refused.hidden = true;
    button.disabled = true;
    try {
      await send();
    } catch {
      refuse(status.dataset.offline);
    } finally {
      button.disabled = false;
    }
  });
})();

// Acting on an alert in place: send the form, show the new row, and count the open ones anew.
// Without this script the form is sent as any form is, and the list comes back.
(() => {
  "use strict";

  const count = (open) => {
    const bell = document.getElementById("bell");
    bell.querySelector("[data-count]").textContent = open;
    bell.hidden = !open;
  };

  const refusedBy = (form) => form.querySelector("[data-refused]");

  const send = async (form, button) => {
    // of a button without an address of its own the browser gives that of the page, not of the form
    const answer = await fetch(button.hasAttribute("formaction") ? button.formAction : form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { "X-Requested-With": "fetch" },
    });
    if (answer.status === 422) return answer.text();
    if (answer.status !== 200 || answer.redirected) return refusedBy(form).dataset.failed;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    const fresh = holder.content.getElementById(form.dataset.inPlace);
    document.getElementById(form.dataset.inPlace).replaceWith(fresh);
    fresh.querySelector("button")?.focus();
    count(answer.headers.get("X-Open-Alerts"));
    return "";
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.inPlace) return;
    event.preventDefault();
    const refused = refusedBy(form);
    let why = refused.dataset.offline;
    try {
      why = await send(form, event.submitter ?? form.querySelector("button"));
    } catch {
      // why it was refused stays what it is without a connection
    }
    refused.textContent = why;
    refused.hidden = !why;
  });
})();
