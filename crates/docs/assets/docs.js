// Copy buttons, search as one types, and requests to the sandbox. Every page works without it.
(() => {
  "use strict";
  for (const block of document.querySelectorAll(".code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      const text = block.querySelector("code").textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(block.querySelector("code"));
        const selection = getSelection();
        selection.removeAllRanges();
        selection.addRange(range);
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl-C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2500);
    });
    block.querySelector(".bar").append(button);
  }

  const input = document.getElementById("q");
  const list = document.getElementById("hits");
  let index = null;
  let at = -1;
  const load = async () => {
    if (index) return;
    index = [];
    try { index = await (await fetch("/docs/search.json")).json(); } catch { index = null; }
  };
  const score = (entry, word) => {
    const title = entry.t.toLowerCase();
    if (title.startsWith(word)) return 8;
    if (title.includes(word)) return 5;
    if (entry.w.toLowerCase().includes(word)) return 3;
    return entry.a.toLowerCase().includes(word) ? 1 : 0;
  };
  const choose = (position) => {
    const items = list.children;
    if (!items.length) return;
    at = (position + items.length) % items.length;
    for (const [i, item] of [...items].entries()) item.setAttribute("aria-selected", String(i === at));
    items[at].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", items[at].id);
  };
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    list.textContent = "";
    at = -1;
    input.removeAttribute("aria-activedescendant");
    const hits = !index || !words.length ? [] : index
      .map((entry) => [words.map((word) => score(entry, word)), entry])
      .filter(([scores]) => scores.every((value) => value > 0))
      .map(([scores, entry]) => [scores.reduce((a, b) => a + b), entry])
      .sort((a, b) => b[0] - a[0] || a[1].t.localeCompare(b[1].t))
      .slice(0, 10);
    for (const [i, [, entry]] of hits.entries()) {
      const item = document.createElement("li");
      item.id = "hit-" + i;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      const title = document.createElement("b");
      title.textContent = entry.t;
      const about = document.createElement("small");
      about.textContent = entry.k + " · " + entry.a;
      item.append(title, about);
      item.addEventListener("mousedown", (event) => { event.preventDefault(); location.href = entry.u; });
      item.dataset.url = entry.u;
      list.append(item);
    }
    list.hidden = !hits.length;
    input.setAttribute("aria-expanded", String(hits.length > 0));
  };
  const close = () => { list.hidden = true; input.setAttribute("aria-expanded", "false"); };
  input.addEventListener("focus", async () => { await load(); if (input.value && document.activeElement === input && input.dataset.typed) show(); });
  input.addEventListener("input", async () => { input.dataset.typed = "1"; await load(); show(); });
  input.addEventListener("blur", close);
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") { event.preventDefault(); choose(at + 1); }
    else if (event.key === "ArrowUp") { event.preventDefault(); choose(at - 1); }
    else if (event.key === "Escape") close();
    else if (event.key === "Enter" && at >= 0) { event.preventDefault(); location.href = list.children[at].dataset.url; }
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if ((event.key === "/" && !typing) || (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });

  const form = document.querySelector("form.request");
  if (form) {
    form.closest(".try").hidden = false;
    const key = form.elements.namedItem("key");
    key.value = sessionStorage.getItem("nephos-sandbox-key") || "";
    const out = form.querySelector("output");
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      sessionStorage.setItem("nephos-sandbox-key", key.value);
      let path = form.dataset.path;
      const id = form.elements.namedItem("id");
      if (id) path = path.replace("{id}", encodeURIComponent(id.value));
      const options = { method: form.dataset.method, headers: { Authorization: "Bearer " + key.value }, credentials: "omit" };
      const body = form.elements.namedItem("body");
      if (body) { options.body = body.value; options.headers["Content-Type"] = "application/json"; }
      const pre = document.createElement("pre");
      pre.tabIndex = 0;
      out.textContent = "…";
      try {
        const response = await fetch("/sandbox/v1" + path, options);
        const text = await response.text();
        let shown = text;
        try { shown = JSON.stringify(JSON.parse(text), null, 2); } catch { /* not JSON: as it is */ }
        pre.textContent = "HTTP " + response.status + "\n\n" + shown;
      } catch (error) {
        pre.textContent = "No answer: " + error.message;
      }
      out.replaceChildren(pre);
    });
  }
})();
