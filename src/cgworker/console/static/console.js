"use strict";

// Follow the console's events, and load the moving part of the page anew when something has changed.
// A hidden tab does not listen: a browser keeps only six connections to a host, of all its tabs together.
(() => {
  const events = document.body.dataset.events;
  const trouble = document.getElementById("trouble");
  const RETRY_MS = 2000;
  let source = null;
  let version = document.body.dataset.version; // of what the page shows

  const say = (text) => {
    if (trouble.textContent !== text) trouble.textContent = text;
    trouble.hidden = !text;
  };

  const changed = () => {
    const live = document.getElementById("live");
    if (live) htmx.trigger(live, "changed");
  };

  const hear = (event) => {
    const { trouble: text, version: now } = JSON.parse(event.data);
    const isNews = String(now) !== version;
    version = String(now);
    say(text ? `The kernel does not answer: ${text}. The console goes on by itself when it does.` : "");
    if (isNews) changed();
  };

  const close = () => {
    if (source) source.close();
    source = null;
  };

  const connect = () => {
    if (source || document.hidden) return;
    source = new EventSource(events);
    source.addEventListener("state", hear); // news, if something happened while nobody listened
    source.addEventListener("changed", hear);
    source.onerror = async () => {
      close();
      const answer = await fetch(location.href, { method: "HEAD" }).catch(() => null);
      say(
        answer && answer.status === 401
          ? "This session has ended: open the link that cg console printed last."
          : "The console does not answer. The page goes on by itself when it does.",
      );
      setTimeout(connect, RETRY_MS);
    };
  };

  if (events) {
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", connect);
    connect();
  }

  // A part that could not be loaded is asked for again: there may be no other news for long.
  const changedLater = () => setTimeout(changed, RETRY_MS);
  document.addEventListener("htmx:responseError", (event) => {
    if (event.detail.xhr.status === 503) changedLater();
  });
  document.addEventListener("htmx:sendError", changedLater);

  // A page that could not be made is loaded again when it can be.
  const reload = async () => {
    const answer = await fetch(location.href, { method: "HEAD" }).catch(() => null);
    if (answer && answer.status !== 503) location.reload();
    else setTimeout(reload, RETRY_MS);
  };
  if ("away" in document.body.dataset) setTimeout(reload, RETRY_MS);
})();
