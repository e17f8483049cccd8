// Keeps a page current: puts in what its stream sends, lets the ages count, and says when the stream is lost.
"use strict";

const QUIET = 15000; // ms without a word after which the stream counts as lost; the server speaks every few seconds
const AGAIN = 3000; // ms between two attempts to connect
const AGES = [[172800, 86400, "d"], [7200, 3600, "h"], [120, 60, "min"], [0, 1, "s"]]; // as in words.py

const stream = document.getElementById("stream");
let serverAhead = Date.parse(stream.dataset.now) - Date.now(); // ms; the ages follow the server's clock, not ours
let seenAt = Date.now(); // when what the page shows was true
let heardAt = Date.now(); // when the stream last said anything
let source = null;

function ago(seconds) {
  const size = Math.floor(Math.abs(seconds));
  if (size === 0) return "now";
  const [, unit, name] = AGES.find(([from]) => size >= from);
  const text = `${Math.floor(size / unit)} ${name}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function count() {
  const now = Date.now() + serverAhead;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = ago((now - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
  if (source && Date.now() - heardAt > QUIET) lost();
}

function say(state, text) {
  document.documentElement.dataset.stream = state;
  if (stream.textContent !== text) stream.textContent = text;
}

function put(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const fresh = template.content.firstElementChild;
  const old = document.getElementById(fresh.id);
  if (!old) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  if (old.dataset.status !== fresh.dataset.status) fresh.classList.add("changed");
  old.replaceWith(fresh);
  if (focused) refocus(fresh, focused);
}

function refocus(fresh, focused) {
  const same = [...fresh.querySelectorAll("a, button, input")].find(
    (one) => one.tagName === focused.tagName && one.href === focused.href && one.name === focused.name);
  if (same) same.focus({preventScroll: true});
}

function lost(why = "reconnecting…") {
  source.close();
  source = null;
  stale(why);
  setTimeout(connect, AGAIN);
}

function stale(why) {
  say("lost", `${why} As of ${new Date(seenAt + serverAhead).toISOString().slice(11, 19)} UTC.`);
}

function end(why) {
  source.close();
  source = null;
  say("ended", why);
}

function current(now) {
  seenAt = Date.now();
  serverAhead = Date.parse(now) - seenAt;
  say("live", "live");
  count();
}

function connect() {
  const told = {
    put,
    current,
    say: (text) => { document.getElementById("said").textContent = text; },
    trouble: stale,
    end,
  };
  heardAt = Date.now();
  source = new EventSource(stream.dataset.live);
  for (const [name, act] of Object.entries(told)) {
    source.addEventListener(name, (event) => { heardAt = Date.now(); act(event.data); });
  }
  source.onerror = () => lost();
}

setInterval(count, 1000);
connect();
