// The page of one video: plays as soon as possible, and shows the progress until then.
import { ask, clock, day, element, icon } from "./common.js";
import * as making from "./making.js";
import * as player from "./player.js";

const POLL_MS = 1000;
const POLL_MS_MAX = 10000;
const slug = encodeURIComponent(decodeURIComponent(location.pathname.split("/").pop()));
const by = (id) => document.getElementById(id);
const stage = by("stage");
let playing = false;
let waited = false;
let opened = "";
let pause_ms = POLL_MS;

async function refresh() {
  try {
    const video = await ask(`/api/videos/${slug}`);
    pause_ms = POLL_MS;
    describe(video);
    if (await follow(video)) later();
  } catch (error) {
    if (error.status === 404) return fail("There is no such video", "It may have been removed, or its address is not complete.");
    if (error.status >= 400 && error.status < 500 && error.status !== 429) return fail("This page cannot be shown", error.message);
    if (!("status" in error)) throw error;
    pause_ms = Math.min(POLL_MS_MAX, pause_ms * 2);
    if (waited || playing) making.paint(null);
    else by("hint").textContent = "The server cannot be reached; trying again …";
    later();
  }
}

/** Ask again in a while, but not while the page is hidden. */
function later() {
  setTimeout(() => {
    if (!document.hidden) return refresh();
    return document.addEventListener("visibilitychange", refresh, { once: true });
  }, pause_ms);
}

/** Bring the stage up to date. Returns whether there will be more news. */
async function follow(video) {
  if (video.status === "failed") return fail("This video could not be made", video.failure?.message || "Nothing more is known.", video.failure?.code);
  if (video.status === "purged") return fail("This video was removed", "Its title is kept; the media are gone.");
  if (video.hls_url && !playing) await play(video);
  if (video.status === "ready") {
    making.hide();
    if (playing) await finish(video);
    return !playing;
  }
  waited = true;
  const now = await ask(`/api/videos/${slug}/progress`).catch(() => null);
  making.paint(now, performance.now());
  if (!playing) stage.dataset.state = "waiting";
  making.show(playing ? by("below") : stage);
  if (playing) player.update(video);
  return true;
}

async function play(video) {
  playing = true;
  by("hint").textContent = "";
  if (video.status !== "ready") opened = await master(video);
  player.start(video, (words) => fail("Playing stopped", words, null, () => location.reload()));
  if (waited) player.play();
}

/** The last part is there: load tracks that the master playlist did not name when playback began. */
async function finish(video) {
  player.update(video);
  if (opened && tracks(await master(video)) !== tracks(opened)) player.reopen(video);
  opened = "";
}

const master = async (video) => (await fetch(video.hls_url)).text().catch(() => "");
const tracks = (text) => (text.match(/NAME="[^"]*"|^[^#].*$/gm) || []).sort().join("\n");

function describe(video) {
  const title = video.title || video.slug;
  document.title = `${title} · Kinolog`;
  write(by("title"), title);
  write(by("description"), video.description);
  const facts = [];
  if (video.status === "processing") facts.push(element("span", { className: "badge", textContent: "In the making" }));
  if (video.duration_ms != null) facts.push(element("span", { textContent: clock(video.duration_ms) }));
  facts.push(...video.rungs.map((rung) => element("span", { className: "rung", textContent: rung })));
  if (video.subtitles?.length) facts.push(element("span", { className: "rung", textContent: "CC", title: "Captions" }));
  if (video.uploaded_at) facts.push(element("span", {}, "Uploaded ", day(video.uploaded_at)));
  by("facts").replaceChildren(...facts);
  by("about").removeAttribute("aria-busy");
  by("rest").hidden = by("description").scrollHeight <= by("description").clientHeight + 2 && by("rest").ariaExpanded === "false";
}

function write(target, words) {
  if (target.textContent !== words) target.textContent = words;
}

/** Show why nothing plays. Returns false: there will be no more news. */
function fail(title, words, code, again) {
  making.hide();
  player.stop();
  stage.dataset.state = "failed";
  if (!by("title").textContent) {
    document.title = `${title} · Kinolog`;
    write(by("title"), title);
  }
  by("about").removeAttribute("aria-busy");
  const parts = [icon("broken"), element("h2", { textContent: title }), element("p", { textContent: words })];
  if (code) parts.push(element("code", { textContent: code }));
  parts.push(again ? element("button", { className: "button", type: "button", textContent: "Try again", onclick: again })
    : element("a", { className: "button", href: "/", textContent: "Back to the library" }));
  by("failure").replaceChildren(...parts);
  return false;
}

by("rest").addEventListener("click", () => {
  const opened = by("description").classList.toggle("open");
  by("rest").ariaExpanded = String(opened);
  by("rest").textContent = opened ? "Show less" : "Show more";
});

refresh();
