// The page of one video: plays as soon as something can be played, shows how far it is until then.
import { ask, clock, day, element } from "./common.js";

const POLL_MS = 1000;
const slug = location.pathname.split("/").pop();
const show = (id, visible) => { document.getElementById(id).hidden = !visible; };
const text = (id, words) => { document.getElementById(id).textContent = words; };
const STEPS = { waiting: "Waiting for a worker", analyse: "Looking at the file", encode: "Encoding", audio: "Encoding the sound",
  extras: "Making a picture for the library", check: "Checking what was encoded", verify: "Checking everything once more" };
let playing = false;

async function refresh() {
  let video;
  try {
    video = await ask(`/api/videos/${slug}`);
  } catch (error) {
    return error.status === 404 ? fail("There is no such video.") : setTimeout(refresh, 3 * POLL_MS);
  }
  document.title = `${video.title} · Kinolog`;
  text("title", video.title);
  text("description", video.description);
  text("facts", [clock(video.duration_ms), video.rungs.join(", "), video.status === "processing" ? "still being made" : ""].filter(Boolean).join(" · "));
  if (video.status === "failed") return fail(video.failure?.message || "This video could not be made.");
  if (video.hls_url && !playing) play(video);
  if (video.status === "processing") {
    if (!playing) await progress();
    setTimeout(refresh, POLL_MS);
  }
}

async function progress() {
  show("waiting", true);
  const now = await ask(`/api/videos/${slug}/progress`).catch(() => null);
  if (!now) return;
  text("step", STEPS[now.current_step] || now.current_step);
  document.getElementById("overall").value = now.progress_percent;
  document.getElementById("rungs").replaceChildren(...now.qualities.map((rung) => element("li", {},
    element("span", { textContent: rung.name }),
    element("progress", { max: 100, value: rung.progress, ariaLabel: rung.name }),
    element("span", { textContent: `${Math.round(rung.progress)} %` }))));
}

function fail(words) {
  show("waiting", false);
  show("failure", true);
  document.getElementById("failure").replaceChildren(element("p", { textContent: words }));
}

function play(video) {
  playing = true;
  show("waiting", false);
  const player = document.getElementById("player");
  player.hidden = false;
  if (video.thumbnail_url) player.poster = video.thumbnail_url;
  if (!window.Hls?.isSupported()) {
    player.src = video.hls_url;
    return;
  }
  const hls = new window.Hls({ startPosition: 0 });
  hls.on(window.Hls.Events.ERROR, (_event, fault) => {
    if (!fault.fatal) return;
    if (fault.type === window.Hls.ErrorTypes.NETWORK_ERROR) hls.startLoad();
    else if (fault.type === window.Hls.ErrorTypes.MEDIA_ERROR) hls.recoverMediaError();
    else fail("This video cannot be played here.");
  });
  hls.on(window.Hls.Events.MANIFEST_PARSED, () => {
    choices("quality", [["-1", "Automatic"], ...hls.levels.map((level, index) => [String(index), `${level.height || "sound"}${level.height ? "p" : ""}`])],
      (value) => { hls.currentLevel = Number(value); });
    show("controls", true);
  });
  hls.on(window.Hls.Events.AUDIO_TRACKS_UPDATED, () => {
    show("sound-label", hls.audioTracks.length > 1);
    choices("sound", hls.audioTracks.map((track) => [String(track.id), track.name]), (value) => { hls.audioTrack = Number(value); });
  });
  hls.on(window.Hls.Events.SUBTITLE_TRACKS_UPDATED, () => {
    show("captions-label", hls.subtitleTracks.length > 0);
    choices("captions", [["-1", "Off"], ...hls.subtitleTracks.map((track) => [String(track.id), track.name])], (value) => { hls.subtitleTrack = Number(value); });
  });
  hls.loadSource(video.hls_url);
  hls.attachMedia(player);
}

function choices(id, options, choose) {
  const select = document.getElementById(id);
  select.replaceChildren(...options.map(([value, label]) => element("option", { value, textContent: label })));
  select.onchange = () => choose(select.value);
}

refresh();
