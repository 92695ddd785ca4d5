"use strict";
// Without this file the page works as well: it filters as one types, and shows what changed without a reload.
(() => {
  const filter = document.getElementById("filter");
  const query = document.getElementById("q");
  const status = document.getElementById("status");

  function narrow() {
    if (!filter) return;
    const words = query.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.querySelectorAll("tr[data-find]")) {
      const fits = words.every((word) => row.dataset.find.includes(word)) && (!status.value || row.dataset.status === status.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    const none = document.getElementById("no-match");
    if (none) none.hidden = shown > 0;
  }

  if (filter) {
    filter.hidden = false;
    filter.addEventListener("submit", (event) => event.preventDefault());
    query.addEventListener("input", narrow);
    status.addEventListener("change", narrow);
    narrow();
  }

  const events = document.body.dataset.events;
  if (!events || !window.EventSource) return;
  const state = document.getElementById("live-state");
  const word = document.getElementById("live-word");

  function show(on) {
    state.hidden = false;
    state.classList.toggle("on", on);
    word.textContent = on ? document.body.dataset.live : document.body.dataset.notLive;
  }

  async function refresh() {
    // All rows are asked for, and narrowed here: the address holds what the form was sent with last.
    const answer = await fetch(filter ? "/" : location.pathname, { headers: { Accept: "text/html" } });
    if (answer.redirected && new URL(answer.url).pathname === "/login") return location.assign("/login");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["live", "live-forms"]) {
      const [from, to] = [fresh.getElementById(id), document.getElementById(id)];
      if (from && to) to.replaceWith(document.adoptNode(from));
    }
    narrow();
    document.getElementById("said").textContent = document.body.dataset.updated;
  }

  const source = new EventSource(events);
  source.addEventListener("open", () => show(true));
  source.addEventListener("error", () => show(false));
  source.addEventListener("change", () => refresh().catch(() => show(false)));
})();
