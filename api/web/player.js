// The player: a video element with controls of its own, for mouse, touch and keyboard.
import { clock, draw } from "./common.js";
import { menu } from "./menu.js";
import { AUTOMATIC, NONE, open } from "./source.js";
import { follow } from "./watching.js";

const IDLE_MS = 2600;
const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2];
const by = (id) => document.getElementById(id);
const [stage, video, seek, volume] = [by("stage"), by("player"), by("seek"), by("volume")];
const kept = {
  get: (name) => { try { return localStorage.getItem(`kinolog.${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`kinolog.${name}`, value); } catch { /* Private windows keep nothing. */ } },
};

let source = null;
let signs = null;
let whole_s = 0;
let growing = false;
let captioned = false;
let timer;
let fail = () => {};

const menus = {
  captions: menu(by("captions"), "Captions", (id) => { keepCaption(id); source.chooseCaption(id); offer(); }, "captions"),
  sound: menu(by("sound"), "Sound track", (id) => { source.chooseSound(id); offer(); }, "sound"),
  speed: menu(by("speed"), "Speed", (speed) => { video.playbackRate = speed; offer(); }),
  quality: menu(by("quality"), "Quality", (id) => { source.chooseLevel(id); offer(id); }),
};

/** Start playing what `found` (an answer of the API) has; `failed(words)` is called when playback ends for good. */
export function start(found, failed) {
  fail = failed;
  video.hidden = false;
  by("controls").hidden = false;
  by("help").hidden = false;
  if (found.thumbnail_url) video.poster = found.thumbnail_url;
  update(found);
  stage.dataset.state = "ready";
  stage.classList.toggle("sounding", found.rungs.length === 0);
  signs ??= follow(video, found.video_id);
  load(found);
  offer();
  paint();
}

/** Apply changes that arrive while playing: the length, and that the end is there. */
export function update(found) {
  growing = found.status === "processing";
  whole_s = (found.duration_ms || 0) / 1000;
}

/** Read the master playlist again and go on at the same time: it may have new sound tracks or captions, or a new signed path. */
export function reopen(found) {
  const [at, paused] = [video.currentTime, video.paused];
  source?.close();
  captioned = false;
  load(found);
  video.addEventListener("loadedmetadata", () => {
    video.currentTime = at;
    if (!paused) play();
  }, { once: true });
}

function load(found) {
  source = open(video, found.hls_url, { changed: () => offer(), failed: stop, refused: () => reopen(found), sid: signs.token });
}

/** Stop for good. */
export function stop(words) {
  source?.close();
  source = null;
  video.hidden = true;
  by("controls").hidden = true;
  by("start").hidden = true;
  by("spinner").hidden = true;
  write(by("hint"), "");
  if (document.fullscreenElement) document.exitFullscreen();
  if (words) {
    signs?.failed(words);
    fail(words);
  }
}

/** Play; where the browser wants a click first, the large button stays. */
export async function play() {
  try {
    await video.play();
  } catch (error) {
    if (error.name !== "NotAllowedError" && error.name !== "AbortError") throw error;
  }
}

// --- choices ---

function offer(chosen = null) {
  if (!source) return;
  const levels = source.levels().sort((one, other) => other.height - one.height || other.id - one.id);
  const name = (id) => levels.find((level) => level.id === id)?.name;
  if (name(source.playing())) signs.switched(name(source.playing()));
  const level = typeof chosen === "number" ? chosen : source.level();
  menus.quality.offer(levels.length > 1 ? [[AUTOMATIC, "Automatic", name(source.playing())], ...levels.map((one) => [one.id, one.name, one.hint])] : [],
    level, level === AUTOMATIC ? name(source.playing()) || "Auto" : name(level));
  menus.sound.offer(source.sounds().map((track) => [track.id, named(track)]), source.sound());
  const captions = source.captions();
  preferCaption(captions);
  menus.captions.offer(captions.length ? [[NONE, "Off"], ...captions.map((track) => [track.id, named(track)])] : [], source.caption());
  menus.speed.offer(SPEEDS.map((speed) => [speed, speed === 1 ? "Normal" : `${speed}×`]), video.playbackRate, `${video.playbackRate}×`);
}

function named(track) {
  return track.name || track.language || `Track ${track.id + 1}`;
}

/** Choose captions once they are known: in the language chosen last time, else the video's default. */
function preferCaption(captions) {
  if (captioned || !captions.length) return;
  captioned = true;
  const language = kept.get("captions");
  const wanted = language === null ? captions.find((track) => track.default)
    : captions.find((track) => track.language === language && language !== "");
  source.chooseCaption(wanted ? wanted.id : NONE);
}

function keepCaption(id) {
  kept.set("captions", source.captions().find((track) => track.id === id)?.language || "");
}

function switchCaptions() {
  const captions = source?.captions() || [];
  if (!captions.length) return;
  const id = source.caption() === NONE ? captions[0].id : NONE;
  keepCaption(id);
  source.chooseCaption(id);
  say(id === NONE ? "Captions off" : `Captions: ${named(captions[0])}`);
  offer();
}

// --- time ---

const reachable_s = () => (video.seekable.length ? video.seekable.end(video.seekable.length - 1) : 0);
const total_s = () => (Number.isFinite(video.duration) ? (growing ? Math.max(whole_s, video.duration) : video.duration) : whole_s) || 0;

function seekTo(seconds) {
  video.currentTime = Math.max(0, Math.min(seconds, reachable_s() || total_s()));
  paint();
}

function paint() {
  const [total, at] = [total_s(), video.currentTime];
  const part = (seconds) => `${total ? Math.min(100, (100 * seconds) / total) : 0}%`;
  let buffered = at;
  for (let i = 0; i < video.buffered.length; i++) if (video.buffered.start(i) <= at + 0.3) buffered = Math.max(buffered, video.buffered.end(i));
  seek.max = String(total || 1);
  seek.value = String(at);
  seek.ariaValueText = `${clock(at * 1000) || "0:00"} of ${clock(total * 1000) || "0:00"}`;
  seek.style.setProperty("--played", part(at));
  seek.style.setProperty("--buffered", part(buffered));
  seek.style.setProperty("--reachable", growing ? part(reachable_s()) : "100%");
  write(by("now"), clock(Math.floor(at) * 1000));
  write(by("total"), clock(total * 1000));
  const [paused, waits] = [video.paused, !video.paused && !video.ended && video.readyState < 3];
  draw(by("toggle").firstElementChild, video.ended ? "again" : paused ? "play" : "pause");
  by("toggle").ariaLabel = video.ended ? "Play again" : paused ? "Play" : "Pause";
  by("start").hidden = !paused || at > 0 || video.seeking;
  by("spinner").hidden = !waits;
  if (waits && growing && at > 0 && reachable_s() - at < 1) write(by("hint"), "The next part is being made …");
  else if (by("hint").dataset.kind !== "said") write(by("hint"), "");
}

function paintVolume() {
  const level = video.muted ? 0 : video.volume;
  volume.value = String(level);
  volume.style.setProperty("--played", `${level * 100}%`);
  draw(by("mute").firstElementChild, level ? "loud" : "silent");
  by("mute").ariaLabel = level ? "Mute" : "Unmute";
}

function write(target, words) {
  if (target.textContent !== words) target.textContent = words;
}

let quiet;

/** Show the effect of a key for a moment. */
function say(words) {
  by("hint").dataset.kind = "said";
  write(by("hint"), words);
  clearTimeout(quiet);
  quiet = setTimeout(() => { by("hint").dataset.kind = ""; paint(); }, 900);
}

// --- mouse and touch ---

const toggle = () => (video.paused || video.ended ? play() : video.pause());
const mute = () => { video.muted = !video.muted && video.volume > 0; if (!video.muted && !video.volume) video.volume = 0.5; };

function full() {
  if (document.fullscreenElement) return document.exitFullscreen();
  if (stage.requestFullscreen) return stage.requestFullscreen();
  return video.webkitEnterFullscreen?.();
}

function wake() {
  stage.classList.remove("idle");
  clearTimeout(timer);
  timer = setTimeout(() => {
    const busy = video.paused || Object.values(menus).some((one) => one.open()) || by("controls").querySelector(":focus-visible");
    stage.classList.toggle("idle", !busy);
  }, IDLE_MS);
}

by("toggle").addEventListener("click", toggle);
by("start").addEventListener("click", () => { play(); stage.focus({ preventScroll: true }); });
by("mute").addEventListener("click", mute);
by("full").addEventListener("click", full);
volume.addEventListener("input", () => { video.volume = Number(volume.value); video.muted = false; });
seek.addEventListener("input", () => seekTo(Number(seek.value)));
video.addEventListener("click", (event) => {
  if (event.pointerType !== "touch") return toggle();
  return stage.classList.contains("idle") ? wake() : video.paused ? toggle() : stage.classList.add("idle");
});
video.addEventListener("dblclick", full);
for (const kind of ["pointermove", "pointerdown", "focusin", "keydown"]) stage.addEventListener(kind, (event) => { if (event.target !== video || event.pointerType !== "touch") wake(); });
stage.addEventListener("pointerleave", () => { if (!video.paused) wake(); });

seek.parentElement.addEventListener("pointermove", (event) => {
  const box = seek.getBoundingClientRect();
  const part = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
  by("hover").hidden = event.pointerType === "touch";
  by("hover").textContent = clock(part * total_s() * 1000) || "0:00";
  by("hover").style.setProperty("--at", `${part * 100}%`);
});
seek.parentElement.addEventListener("pointerleave", () => { by("hover").hidden = true; });

if (document.pictureInPictureEnabled) {
  by("window").hidden = false;
  by("window").addEventListener("click", () => (document.pictureInPictureElement ? document.exitPictureInPicture() : video.requestPictureInPicture().catch(() => say("Not possible now"))));
}
document.addEventListener("fullscreenchange", () => {
  draw(by("full").firstElementChild, document.fullscreenElement ? "smaller" : "larger");
  by("full").ariaLabel = document.fullscreenElement ? "Leave full screen" : "Full screen";
});

// --- keyboard ---

const by10 = (step) => { seekTo(video.currentTime + step); say(`${step > 0 ? "+" : "−"}${Math.abs(step)} s`); };
const louder = (step) => {
  video.muted = false;
  video.volume = Math.max(0, Math.min(1, Math.round((video.volume + step) * 20) / 20));
  say(`Volume ${Math.round(video.volume * 100)} %`);
};
const SHORTCUTS = {
  k: toggle, " ": toggle, j: () => by10(-10), l: () => by10(10), arrowleft: () => by10(-5), arrowright: () => by10(5),
  m: mute, c: switchCaptions, f: full,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || by("keys").open) return;
  const { target } = event;
  if (target.closest("textarea, select, [contenteditable]") || (target.matches("input") && target !== seek && target !== volume)) return;
  const key = event.key.toLowerCase();
  if (key === "?") return by("keys").showModal();
  if (!source) return;
  const pressed = key === " " && target.closest("button, a");
  const softens = (key === "arrowup" || key === "arrowdown") && stage.contains(target);
  if (target === volume && key.startsWith("arrow")) return;
  if (softens) louder(key === "arrowup" ? 0.05 : -0.05);
  else if (/^[0-9]$/.test(key)) seekTo((total_s() * Number(key)) / 10);
  else if (key in SHORTCUTS && !pressed) SHORTCUTS[key]();
  else return;
  event.preventDefault();
  wake();
});
by("help").addEventListener("click", () => by("keys").showModal());

// --- events of the video element ---

for (const kind of ["play", "pause", "playing", "waiting", "seeking", "seeked", "ended", "progress", "timeupdate", "durationchange", "loadedmetadata", "canplay"]) video.addEventListener(kind, paint);
video.addEventListener("play", wake);
video.addEventListener("pause", wake);
video.addEventListener("loadedmetadata", () => {
  stage.classList.toggle("tall", video.videoHeight > video.videoWidth);
  stage.classList.toggle("sounding", !video.videoWidth);
});
video.addEventListener("ratechange", () => offer());
video.addEventListener("volumechange", () => {
  kept.set("volume", String(video.volume));
  kept.set("muted", String(video.muted));
  paintVolume();
});
video.volume = Math.min(1, Math.max(0, Number(kept.get("volume") ?? 1) || 0));
video.muted = kept.get("muted") === "true";
paintVolume();
