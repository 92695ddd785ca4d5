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

  const { events, live, notLive, updated } = document.body.dataset;
  const polled = document.querySelector("[data-poll]");
  const [RETRY, PATIENCE] = [5000, 60000];
  const state = document.getElementById("live-state");
  const said = document.getElementById("said");
  let shown, retry;

  // A page that is not current says so, and since when. One that asks now and then says nothing else.
  function show(on) {
    if (!state.hidden && state.classList.contains("on") === on) return;
    state.hidden = on && Boolean(polled);
    state.classList.toggle("on", on);
    const text = on ? live : `${notLive} ${new Date().toISOString().slice(11, 16)}`;
    document.getElementById("live-word").textContent = text;
    if (!on) said.textContent = text;
  }

  async function refresh(announced = true) {
    // All rows are asked for, and narrowed here: the address holds what the form was sent with last.
    const headers = { Accept: "text/html", "X-Fivrec-Refresh": "1" };
    const answer = await fetch(filter ? "/" : location.pathname, { headers, signal: AbortSignal.timeout(PATIENCE) });
    if (answer.redirected && new URL(answer.url).pathname === "/login") return location.assign(location.pathname + location.search); // leads back here
    const text = await answer.text();
    if (text === shown) return;
    const from = new DOMParser().parseFromString(text, "text/html").getElementById("live");
    if (!from) throw new Error("an error's page");
    shown = text;
    replace(document.getElementById("live"), document.adoptNode(from));
    narrow();
    if (announced) said.textContent = updated;
  }

  // Where it was scrolled to, and what the keyboard is on, stay.
  function replace(to, from) {
    const [held, regions] = [document.activeElement, from.querySelectorAll(".scroll")];
    const scrolled = [...to.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
    const within = to.contains(held);
    to.replaceWith(from);
    if (scrolled.length === regions.length) regions.forEach((one, number) => one.scrollTo({ left: scrolled[number][0], top: scrolled[number][1], behavior: "instant" }));
    if (!within) return;
    const name = ["href", "formaction", "aria-label"].find((one) => held.hasAttribute(one));
    const alike = [...from.querySelectorAll(name ? `[${name}]` : held.localName)];
    alike.find((one) => !name || one.getAttribute(name) === held.getAttribute(name))?.focus({ preventScroll: true });
  }

  async function update() {
    clearTimeout(retry);
    await refresh().then(() => show(true), () => { show(false); retry = setTimeout(update, RETRY); });
  }

  // A fleet that is read in the background: asked for again soon while its first reading is under way.
  function poll(seconds) {
    setTimeout(async () => {
      if (!document.hidden) await refresh(false).then(() => show(true), () => show(false));
      poll(Number(document.querySelector("[data-poll]").dataset.poll));
    }, seconds * 1000);
  }

  // A stream that ended is opened again by the browser, one that was refused (a proxy's 502, a session that ended) here.
  function listen(again) {
    const source = new EventSource(events);
    let late;
    source.addEventListener("open", () => {
      clearTimeout(late);
      late = undefined;
      if (again) update();
      else show(true);
    });
    source.addEventListener("change", update);
    source.addEventListener("error", () => {
      again = true;
      if (source.readyState !== EventSource.CLOSED) return (late ??= setTimeout(show, RETRY, false));
      clearTimeout(late);
      show(false);
      refresh(false).catch(() => undefined); // leads to the login if the session ended
      setTimeout(listen, RETRY, true);
    });
  }

  if (polled) poll(Number(polled.dataset.poll));
  else if (events && window.EventSource) listen(false);
})();
