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
      refuse(status.dataset.failed);
    } else {
      replace("timeline", await answer.text());
      form.reset();
      say(status.dataset.working);
      await awaitScore();
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
