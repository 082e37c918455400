// The page of a record: facts edited in their place, the timeline filtered and continued, comments with
// completion of names, files sent with progress, and what is around a record loaded after the page.
// Without this script all of it is links and forms that lead to pages of their own.
(() => {
  "use strict";
  const BY_SCRIPT = { "X-Requested-With": "fetch" };

  const parse = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.content;
  };

  const isLogin = (answer) => answer.redirected && new URL(answer.url).pathname.startsWith("/login");

  const get = async (address) => {
    const answer = await fetch(address, { headers: BY_SCRIPT });
    if (!answer.ok || isLogin(answer)) throw new Error(String(answer.status));
    return parse(await answer.text());
  };

  const post = (form) => fetch(form.action, { method: "POST", body: new FormData(form), headers: BY_SCRIPT });

  const tell = (form, name) => form.dispatchEvent(new CustomEvent(`draft:${name}`, { bubbles: true }));

  // ---- facts in their place

  const facts = () => document.getElementById("facts");
  const sayOfFacts = (key) => { facts().querySelector("[data-facts-status]").textContent = key ? facts().querySelector("[data-facts-status]").dataset[key] : ""; };

  const close = () => {
    const form = facts()?.querySelector("form.edit-form");
    if (!form) return;
    const fact = form.closest(".fact");
    form.remove();
    fact.classList.remove("is-open");
    fact.querySelector("[data-edit]")?.focus();
  };

  const open = async (link) => {
    close();
    const part = await get(link.href);
    const form = part.querySelector("form.edit-form");
    const fact = link.closest(".fact");
    fact.querySelector("dd").append(form);
    fact.classList.add("is-open");
    tell(form, "placed");
    focusIn(form);
  };

  const focusIn = (form) => {
    const first = form.querySelector("[aria-invalid]") ?? form.querySelector("input:checked") ?? form.querySelector("input:not([type=hidden]), select, textarea");
    first?.focus();
    if (first?.select && first.type !== "radio") first.select();
  };

  const awaitScore = async () => {
    const score = document.getElementById("score");
    const log = document.getElementById("log");
    if (!score || !log?.dataset.score) return;
    const address = `${log.dataset.score}?seen=${encodeURIComponent(score.dataset.seen)}`;
    for (let waited = 0; waited < 8000; waited += 500) {
      await new Promise((resolve) => { setTimeout(resolve, 500); });
      const answer = await fetch(address, { headers: BY_SCRIPT });
      if (answer.status === 200 && !answer.redirected) {
        const fresh = parse(await answer.text()).getElementById("score");
        document.getElementById("score")?.replaceWith(fresh);
        fresh.classList.add("fresh");
        return;
      }
      if (answer.status !== 204 || answer.headers.has("X-Score-Stays")) return;
    }
  };

  const save = async (form) => {
    const name = form.closest(".fact").dataset.fact;
    let answer;
    try {
      answer = await post(form);
    } catch {
      sayOfFacts("offline");
      return;
    }
    if (answer.status === 200 && !isLogin(answer)) {
      tell(form, "taken");
      facts().replaceWith(parse(await answer.text()).getElementById("facts"));
      [...facts().querySelectorAll("[data-edit]")].find((link) => link.dataset.edit === name)?.focus();
      sayOfFacts("saved");
      awaitScore().catch(() => {});
    } else if (answer.status === 422 || answer.status === 409) {
      const again = parse(await answer.text()).querySelector("form.edit-form");
      form.replaceWith(again);
      focusIn(again);
      sayOfFacts("");
    } else {
      sayOfFacts(isLogin(answer) || answer.status === 400 ? "ended" : "failed");
    }
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-edit]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      open(link).catch(() => { location.assign(link.href); });
    } else if (event.target.closest("[data-cancel]") && facts()?.contains(event.target)) {
      event.preventDefault();
      tell(event.target.closest("form"), "taken");
      close();
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && facts()?.querySelector("form.edit-form")?.contains(event.target)) {
      tell(event.target.closest("form"), "taken");
      close();
    }
  });

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("#facts form.edit-form")) {
      event.preventDefault();
      save(form);
    }
  });

  // ---- completion of names of records

  let asked = 0;
  document.addEventListener("input", async (event) => {
    const input = event.target;
    if (!input.dataset?.complete || input.value.trim().length < 1 || /#\d+\s*$/.test(input.value)) return;
    const mine = (asked += 1);
    const answer = await fetch(`${input.dataset.complete}?q=${encodeURIComponent(input.value.trim())}`, { headers: BY_SCRIPT }).catch(() => null);
    if (!answer?.ok || mine !== asked) return;
    const found = await answer.json();
    input.list.replaceChildren(...found.map((value) => Object.assign(document.createElement("option"), { value })));
  });

  // ---- the timeline: narrowed, and continued

  document.addEventListener("click", async (event) => {
    const older = event.target.closest("[data-older]");
    const narrowed = event.target.closest("[data-part]");
    const link = older ?? narrowed;
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    try {
      const part = await get(older ? older.dataset.older : narrowed.dataset.part);
      if (older) {
        const rows = [...part.querySelectorAll("ol.timeline > li")];
        document.querySelector("#happened ol.timeline").append(...rows);
        const next = part.querySelector(".older");
        const pager = older.closest(".older");
        if (next) pager.replaceWith(next); else pager.remove();
        if (rows[0]) { rows[0].tabIndex = -1; rows[0].focus({ preventScroll: true }); }
      } else {
        document.getElementById("happened").replaceWith(part.getElementById("happened"));
        document.querySelector("#happened [aria-current]")?.focus();
      }
    } catch {
      location.assign(link.href);
    }
  });

  // ---- comments

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.dataset.into) return;
    event.preventDefault();
    const said = form.querySelector("[data-said]");
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const answer = await post(form);
      if (answer.status === 201) {
        document.getElementById(form.dataset.into).replaceWith(parse(await answer.text()).getElementById(form.dataset.into));
        form.reset();
        tell(form, "taken");
        said.textContent = JSON.parse(`"${(answer.headers.get("X-Told") ?? "").replace(/"/g, "").replace(/\\x([0-9a-f]{2})/g, "\\u00$1")}"`);
      } else if (answer.status === 422) {
        said.textContent = await answer.text();
      } else {
        said.textContent = isLogin(answer) || answer.status === 400 ? said.dataset.ended : said.dataset.failed;
      }
    } catch {
      said.textContent = said.dataset.offline;
    } finally {
      button.disabled = false;
    }
  });

  // ---- names of colleagues after an @

  const list = () => document.getElementById("mention-list");
  const AT = /[@\uff20]([^\s@\uff20]{0,40})$/;
  let chosen = -1;

  const hideNames = (input) => {
    list().hidden = true;
    chosen = -1;
    input.removeAttribute("aria-activedescendant");
  };

  const mark = (input, index) => {
    const options = [...list().children];
    chosen = (index + options.length) % options.length;
    options.forEach((option, place) => option.setAttribute("aria-selected", String(place === chosen)));
    input.setAttribute("aria-activedescendant", options[chosen].id);
  };

  const take = (input, name) => {
    const before = input.value.slice(0, input.selectionStart).replace(AT, `@${name} `);
    input.value = before + input.value.slice(input.selectionStart);
    input.setSelectionRange(before.length, before.length);
    hideNames(input);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    input.focus();
  };

  // What does not fit any more goes at once, so that Enter never takes it.
  const narrow = (input, text) => {
    if (list().hidden) return;
    for (const option of [...list().children]) {
      if (!option.textContent.toLowerCase().includes(text.toLowerCase())) option.remove();
    }
    if (list().children.length) mark(input, 0); else hideNames(input);
  };

  const offer = async (input) => {
    const typed = AT.exec(input.value.slice(0, input.selectionStart));
    if (!typed) { hideNames(input); return; }
    narrow(input, typed[1]);
    const answer = await fetch(`${input.dataset.mention}?q=${encodeURIComponent(typed[1])}`, { headers: BY_SCRIPT });
    const names = answer.ok ? await answer.json() : [];
    const still = AT.exec(input.value.slice(0, input.selectionStart));
    if (still?.[1] !== typed[1]) return; // what is typed now was asked for, too
    if (!names.length) { hideNames(input); return; }
    list().replaceChildren(...names.map((name, place) => {
      const option = Object.assign(document.createElement("li"), { id: `mention-${place}`, textContent: name });
      option.setAttribute("role", "option");
      option.addEventListener("mousedown", (event) => { event.preventDefault(); take(input, name); });
      return option;
    }));
    list().hidden = false;
    mark(input, 0);
  };

  document.addEventListener("input", (event) => {
    if (event.target.dataset?.mention) offer(event.target).catch(() => hideNames(event.target));
  });
  document.addEventListener("keydown", (event) => {
    const input = event.target;
    if (!input.dataset?.mention || list().hidden) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") mark(input, chosen + (event.key === "ArrowDown" ? 1 : -1));
    else if (event.key === "Enter" || event.key === "Tab") take(input, list().children[chosen].textContent);
    else if (event.key === "Escape") hideNames(input);
    else return;
    event.preventDefault();
  });
  document.addEventListener("focusout", (event) => { if (event.target.dataset?.mention) hideNames(event.target); });

  // ---- what is around, and files

  const load = async (address, id = "around") => {
    const part = await get(address);
    document.getElementById(id).replaceWith(part.getElementById(id));
  };

  const upload = (form) => {
    const refused = form.querySelector("[data-why]");
    const progress = form.querySelector("progress");
    const request = new XMLHttpRequest();
    const fail = (why) => { refused.textContent = why; refused.hidden = false; progress.hidden = true; };
    refused.hidden = true;
    request.upload.addEventListener("progress", (event) => {
      progress.hidden = false;
      progress.value = event.lengthComputable ? (100 * event.loaded) / event.total : 0;
    });
    request.addEventListener("error", () => fail(refused.dataset.offline));
    request.addEventListener("load", () => {
      if (request.status === 201) {
        load(form.dataset.upload).then(() => document.getElementById("file")?.focus()).catch(() => location.reload());
      } else if (request.status === 422) {
        document.getElementById("around").replaceWith(parse(request.responseText).getElementById("around"));
        document.getElementById("file")?.focus();
      } else {
        fail(refused.dataset.failed);
      }
    });
    request.open("POST", form.action);
    request.setRequestHeader("X-Requested-With", "fetch");
    request.send(new FormData(form));
  };

  document.addEventListener("submit", (event) => {
    if (!event.target.dataset.upload) return;
    event.preventDefault();
    upload(event.target);
  });

  for (const part of document.querySelectorAll("[id][data-load]")) load(part.dataset.load, part.id).catch(() => {});

  // ---- tags

  const sayOfTags = (key) => {
    const said = document.querySelector("#tags [data-tags-said]");
    said.textContent = said.dataset[key];
  };

  const sendTags = async (form, by) => {
    const sent = new FormData(form, by);
    let answer;
    try {
      answer = await fetch(form.action, { method: "POST", body: sent, headers: BY_SCRIPT });
    } catch {
      sayOfTags("offline");
      return;
    }
    if ((answer.status === 200 && !isLogin(answer)) || answer.status === 422) {
      document.getElementById("tags").replaceWith(parse(await answer.text()).getElementById("tags"));
      if (answer.status === 200) sayOfTags("done");
      document.getElementById("tag-word")?.focus();
    } else {
      sayOfTags(isLogin(answer) || answer.status === 400 ? "ended" : "failed");
    }
  };

  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-tags]")) return;
    event.preventDefault();
    sendTags(event.target, event.submitter);
  });
})();
