// Signs of life of the player, for the site's own figures: when a stream begins, where it is, how it goes, and when it ends.
const EVERY_MS = 30000;
const EXPIRY_MS = 80000; // The server ends a stream without a sign of life after 90 s; then another one begins.
const PAUSED_MS_MAX = 600000;
const address = (what) => `/api/analytics/${what}`;
const browser = () => ["Firefox", "Edg", "Chrome", "Safari"].find((name) => navigator.userAgent.includes(name)) || "";

/** Follow `video`, which plays the video `id`. Returns the stream's token, for CMCD, and functions to say what only the player knows. */
export function follow(video, id) {
  let token = "";
  let beginning = null;
  let alive_ms = performance.now();
  let paused_ms = 0;
  let at = video.currentTime;
  let [clicked_ms, waited_ms, waiting_ms] = [0, 0, 0];
  let [startUp_ms, switches, errors] = [null, 0, 0];
  let quality = null;

  function begin() {
    [token, waited_ms, switches, errors, startUp_ms] = ["", 0, 0, 0, null];
    alive_ms = performance.now();
    beginning = post("session", { video_id: id, position: video.currentTime, client: browser() })
      .then((answer) => { token = answer.session_token; })
      .catch(() => { token = ""; });  // Figures are not worth a sentence to the viewer.
    return beginning;
  }

  async function tick(state, position = video.currentTime) {
    if (performance.now() - alive_ms > EXPIRY_MS) begin();
    await beginning;
    if (!token) return;
    alive_ms = performance.now();
    const stalled = waited_ms + (waiting_ms ? performance.now() - waiting_ms : 0);
    post("heartbeat", {
      session_token: token, position, state, playing: state === "playing", rate: video.playbackRate, quality,
      start_up_ms: startUp_ms, stalled_ms: Math.round(stalled), switches, errors,
    }).catch(() => {});
  }

  function end(fault = null) {
    if (!token) return;
    const body = JSON.stringify({ session_token: token, position: video.currentTime, fault });
    token = "";
    if (!navigator.sendBeacon(address("end"), body)) post("end", body).catch(() => {});
  }

  const state = () => (video.seeking ? "seeking" : video.paused ? "paused" : "playing");
  const on = {
    play: () => { clicked_ms ||= performance.now(); tick(startUp_ms === null ? "stalled" : "playing"); },
    playing: () => {
      if (startUp_ms === null) startUp_ms = Math.round(performance.now() - (clicked_ms || performance.now()));
      else if (waiting_ms) waited_ms += performance.now() - waiting_ms;
      waiting_ms = 0;
      tick("playing");
    },
    waiting: () => { if (startUp_ms !== null && !video.seeking) waiting_ms ||= performance.now(); },
    pause: () => { paused_ms = performance.now(); if (!video.ended) tick("paused"); },
    seeking: () => tick("seeking", at),
    seeked: () => tick(state()),
    ratechange: () => tick(state()),
    timeupdate: () => { if (!video.seeking) at = video.currentTime; },
    ended: () => end(),
  };
  for (const [kind, act] of Object.entries(on)) video.addEventListener(kind, act);
  addEventListener("pagehide", () => end());
  setInterval(() => {
    const silent = clicked_ms === 0 || video.ended || (video.paused && performance.now() - paused_ms > PAUSED_MS_MAX);
    if (!silent && performance.now() - alive_ms >= EVERY_MS - 500) tick(state());
  }, 1000);
  begin();
  return {
    token: () => token,
    failed: (words) => end(words),
    switched: (name) => { if (quality !== null && quality !== name) switches += 1; quality = name; },
  };
}

async function post(what, body) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const answer = await fetch(address(what), { method: "POST", body: text, keepalive: true, headers: { "content-type": "application/json" } });
  if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
  return answer.json();
}
