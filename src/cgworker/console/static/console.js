"use strict";

// Follow the console's events, and load the moving part of the page anew when something has changed.
// A hidden tab does not listen: a browser keeps only six connections to a host, of all its tabs together.
(() => {
  const events = document.body.dataset.events;
  const trouble = document.getElementById("trouble");
  const RETRY_MS = 2000;
  let source = null;
  let isFirst = true;

  const say = (text) => {
    if (trouble.textContent !== text) trouble.textContent = text;
    trouble.hidden = !text;
  };

  const changed = () => {
    const live = document.getElementById("live");
    if (live) htmx.trigger(live, "changed");
  };

  const hear = (event) => {
    const { trouble: text } = JSON.parse(event.data);
    say(text ? `The kernel does not answer: ${text}. The console goes on by itself when it does.` : "");
  };

  const close = () => {
    if (source) source.close();
    source = null;
  };

  const connect = () => {
    if (source || document.hidden) return;
    source = new EventSource(events);
    source.addEventListener("state", (event) => {
      hear(event);
      if (!isFirst) changed(); // what happened while nobody listened
      isFirst = false;
    });
    source.addEventListener("changed", (event) => {
      hear(event);
      changed();
    });
    source.onerror = () => {
      say("The console does not answer. The page goes on by itself when it does.");
      close();
      setTimeout(connect, RETRY_MS);
    };
  };

  if (events) {
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : connect()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", connect);
    connect();
  }

  // What is open or shut on the page stays so when its moving part is loaded anew.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status === 503) event.detail.shouldSwap = false;
  });
})();
