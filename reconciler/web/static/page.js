"use strict";
// Without this file the page works as well: it filters as one types, and shows what changed without a reload.
(() => {
  const filter = document.getElementById("filter");
  const query = document.getElementById("q");
  const choices = filter ? [...filter.querySelectorAll("select")] : [];

  function narrow() {
    if (!filter) return;
    const words = query.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of document.querySelectorAll("tr[data-find]")) {
      const fits = words.every((word) => row.dataset.find.includes(word)) && choices.every((one) => !one.value || row.dataset[one.name] === one.value);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    const none = document.getElementById("no-match");
    if (none) none.hidden = shown > 0;
    const fitting = document.getElementById("fitting");
    if (fitting) fitting.textContent = shown;
  }

  // The address holds the filters: a link, a reload and a bookmark show the same rows.
  function remember() {
    if (!("address" in filter.dataset)) return;
    const set = [...new FormData(filter)].filter(([, value]) => value);
    history.replaceState(null, "", set.length ? `?${new URLSearchParams(set)}` : location.pathname);
  }

  if (filter) {
    filter.hidden = false;
    filter.addEventListener("submit", (event) => event.preventDefault());
    for (const name of ["input", "change"]) filter.addEventListener(name, () => { narrow(); remember(); });
    narrow();
  }

  const polled = document.querySelector("[data-poll]");
  if (polled) return poll(Number(polled.dataset.poll));
  const events = document.body.dataset.events;
  if (!events || !window.EventSource) return;
  const state = document.getElementById("live-state");
  const word = document.getElementById("live-word");

  function show(on) {
    state.hidden = false;
    state.classList.toggle("on", on);
    word.textContent = on ? document.body.dataset.live : document.body.dataset.notLive;
  }

  async function refresh(announced = true) {
    // All rows are asked for, and narrowed here: the address holds what the form was sent with last.
    const answer = await fetch(filter ? "/" : location.pathname, { headers: { Accept: "text/html", "X-Fivrec-Refresh": "1" } });
    if (answer.redirected && new URL(answer.url).pathname === "/login") return location.assign("/login");
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of ["live", "live-forms"]) {
      const [from, to] = [fresh.getElementById(id), document.getElementById(id)];
      if (from && to) to.replaceWith(document.adoptNode(from));
    }
    narrow();
    if (announced) document.getElementById("said").textContent = document.body.dataset.updated;
  }

  // A fleet that is read in the background: asked for again soon while its first reading is under way.
  function poll(seconds) {
    setTimeout(async () => {
      const busy = document.hidden || document.getElementById("live").contains(document.activeElement);
      if (!busy) await refresh(false).catch(() => undefined);
      poll(Number(document.querySelector("[data-poll]").dataset.poll));
    }, seconds * 1000);
  }

  const source = new EventSource(events);
  source.addEventListener("open", () => show(true));
  source.addEventListener("error", () => show(false));
  source.addEventListener("change", () => refresh().catch(() => show(false)));
})();
