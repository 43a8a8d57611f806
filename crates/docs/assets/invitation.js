// Accepts an invitation when a person says so: a link that is only looked at, by a mail scanner or a preview, does nothing.
// The token and the keys stay in this page: in no storage, no address, no history.
"use strict";
const part = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const button = part("accept");

const show = (id, title) => {
  for (const other of ["ask", "problem", "done"]) part(other).hidden = other !== id;
  document.title = `${title} · nephos`;
  part(id).focus();
};

const refuse = (text, link) => {
  part("problem-text").textContent = text;
  part("problem-link").hidden = !link;
  if (link) part("problem-link").href = link;
  show("problem", "Error: the invitation can't be accepted");
};

if (token === "") {
  refuse("The link is incomplete: nothing stands behind its #. Open it from the message that you got, as a whole.");
} else {
  button.hidden = false;
}

button.addEventListener("click", async () => {
  button.disabled = true;
  button.textContent = "Accepting …";
  try {
    const response = await fetch("/v1/invitations/accept", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
      credentials: "omit",
      cache: "no-store",
    });
    const answer = await response.json();
    if (!response.ok) {
      refuse(`${answer.message} (request ${answer.request_id})`, answer.doc_url);
      return;
    }
    history.replaceState(null, "", location.pathname);
    const origin = part("main").dataset.origin;
    part("done-text").textContent = `You are a member of the workspace “${answer.workspace_name}” with the role ${answer.role}.`;
    part("live").textContent = answer.live_key.secret;
    part("test").textContent = answer.test_key.secret;
    part("try").textContent = `export CLOUD_API_KEY=${answer.live_key.secret}\ncurl -H "Authorization: Bearer $CLOUD_API_KEY" ${origin}/v1/projects`;
    show("done", "Welcome");
  } catch {
    button.disabled = false;
    button.textContent = "Try again";
    part("problem-text").textContent = "The server did not answer. Nothing is lost: try again.";
    part("problem-link").hidden = true;
    part("problem").hidden = false;
  }
});

for (const copy of document.querySelectorAll("button[data-copy]")) {
  copy.addEventListener("click", async () => {
    const code = part(copy.dataset.copy);
    try {
      await navigator.clipboard.writeText(code.textContent);
      copy.textContent = "Copied";
    } catch {
      // Not on plain HTTP: what is selected can be copied by hand.
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected: press Ctrl-C";
    }
  });
}
