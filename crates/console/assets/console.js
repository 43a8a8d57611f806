// What a page gains where scripts run: copying, the same call by curl, and parts that keep up with what happens.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const from = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(from.textContent);
      button.textContent = "Copied";
    } catch {
      // Without TLS a browser has no clipboard: mark the text, so that one key copies it.
      getSelection().selectAllChildren(from);
      button.textContent = "Marked: press Ctrl+C";
    }
  });
}

const problem = document.querySelector(".problem[role=alert]");
if (problem) problem.focus();

const form = document.querySelector("form[data-create]");
if (form) {
  const box = form.querySelector("[data-curl]");
  const shown = document.getElementById("curl");
  const quote = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
  const show = () => {
    const data = new FormData(form);
    const body = {};
    for (const name of ["name", "project_id", "environment", "region", "size", "image"]) {
      if (data.get(name)) body[name] = data.get(name);
    }
    if (data.getAll("ssh_keys").length) body.ssh_keys = data.getAll("ssh_keys");
    shown.textContent = `curl -X POST ${form.dataset.create} \\\n  -H "Authorization: Bearer $CLOUD_API_KEY" \\\n  -H 'Content-Type: application/json' \\\n  -d ${quote(JSON.stringify(body))}`;
  };
  box.hidden = false;
  form.addEventListener("input", show);
  show();
}

// A live page is asked for again, and its parts with an id take what is new; never one that holds the focus, an open
// menu or a selection.
const live = document.querySelector("main[data-live]");
if (live) {
  const REST_MS_MAX = 60000;
  const told = document.createElement("p");
  told.className = "stale";
  told.setAttribute("role", "status");
  live.append(told);
  let rest = Number(live.dataset.live);
  const isBusy = (part) => {
    const selection = getSelection();
    return part.contains(document.activeElement) || part.querySelector("details[open]") ||
      (!selection.isCollapsed && part.contains(selection.anchorNode));
  };
  const look = async () => {
    if (!document.hidden) {
      try {
        const address = new URL(location.href);
        address.hash = "";
        address.searchParams.set("look", "again");
        const answer = await fetch(address, {headers: {accept: "text/html"}});
        if (answer.redirected || !answer.ok) throw new Error(String(answer.status));
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of live.querySelectorAll("div[id],span[id],pre[id],dd[id]")) {
          const next = fresh.getElementById(part.id);
          if (next && next.innerHTML !== part.innerHTML && !isBusy(part)) part.innerHTML = next.innerHTML;
        }
        const actions = live.querySelector("form#actions");
        const next = fresh.getElementById("actions");
        if (actions && next && !isBusy(actions)) actions.innerHTML = next.innerHTML;
        rest = Number(fresh.querySelector("main").dataset.live) || REST_MS_MAX;
        told.textContent = "";
      } catch {
        rest = Math.min(rest * 2, REST_MS_MAX);
        told.textContent = `Reconnecting. What is shown is of ${new Date().toLocaleTimeString()} or older.`;
      }
    }
    setTimeout(look, rest);
  };
  setTimeout(look, rest);
}
