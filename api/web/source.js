// The source of playback: one interface to hls.js and to browsers that play HLS themselves.
import { board } from "./captions.js";

const RECOVERIES_MAX = 3;
const RETRY_MS = 2000;
const REFUSED = 403;
export const AUTOMATIC = -1;
export const NONE = -1;

/** Return the platform's name of the rung: that of its playlist, else the height. */
function rung(level) {
  const name = new URL(level.url?.[0] || level.uri, location.href).pathname.split("/").pop().replace(/\.m3u8$/, "");
  if (/^\d+p/.test(name)) return name;
  return level.height ? `${Math.min(level.width || level.height, level.height)}p` : "Sound";
}

function rate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;
}

/**
 * Play `address` in `video`. `changed()` is called when the choices change, `failed(words)` when playback ends for good,
 * `refused()` when a server that was read from refuses: the signed path of a private video expires;
 * `sid()` returns the stream's token, which goes along with requests as CMCD's session id. Returns the levels, sounds and captions to
 * choose from, and functions to choose.
 */
export function open(video, address, { changed, failed, refused, sid }) {
  if (window.Hls?.isSupported()) return withLibrary(video, address, changed, failed, refused, sid);
  if (video.canPlayType("application/vnd.apple.mpegurl")) return withBrowser(video, address, changed, failed);
  failed("This browser cannot play HLS video.");
  return null;
}

function withLibrary(video, address, changed, failed, refused, sid) {
  const { Hls } = window;
  const { Events } = Hls;
  // hls.js has CMCD of its own, for a session that is known from the beginning; ours begins while the manifest is read.
  const xhrSetup = (request, url) => {
    if (!sid()) return;
    const named = new URL(url, location.href);
    named.searchParams.set("CMCD", `sid="${sid()}"`);
    request.open("GET", named, true);
  };
  // A video in the making is an EVENT playlist: it starts at its beginning, and playback does not jump to its end.
  const hls = new Hls({ startPosition: 0, maxLiveSyncPlaybackRate: 1, backBufferLength: 60, renderTextTracksNatively: false, xhrSetup });
  const text = board(video, document.getElementById("text"));
  const cues = new Map();
  let recoveries = 0;
  let read = false;
  let retry;
  hls.on(Events.ERROR, (_event, fault) => {
    if (fault.response?.code === REFUSED && read) return refused();
    if (!fault.fatal) return;
    if (++recoveries > RECOVERIES_MAX) {
      hls.destroy();
      return failed(fault.type === Hls.ErrorTypes.NETWORK_ERROR ? "The connection to the server was lost." : "This video cannot be played in this browser.");
    }
    if (fault.type === Hls.ErrorTypes.MEDIA_ERROR) return hls.recoverMediaError();
    clearTimeout(retry);
    retry = setTimeout(() => (hls.levels.length ? hls.startLoad() : hls.loadSource(address)), RETRY_MS);
  });
  hls.on(Events.FRAG_BUFFERED, () => { [recoveries, read] = [0, true]; });
  hls.on(Events.CUES_PARSED, (_event, { subtitleTrack, cues: found }) => {
    if (!subtitleTrack) return;
    const known = cues.get(subtitleTrack.id) || [];
    const added = found.filter((cue) => !known.some((one) => one.startTime === cue.startTime && one.endTime === cue.endTime && one.text === cue.text));
    cues.set(subtitleTrack.id, known.concat(added));
    if (subtitleTrack.id === hls.subtitleTrack) text.show(added);
  });
  hls.on(Events.SUBTITLE_TRACK_SWITCH, (_event, { id }) => {
    text.clear();
    text.show(cues.get(id) || []);
  });
  for (const event of [Events.MANIFEST_PARSED, Events.LEVEL_SWITCHED, Events.AUDIO_TRACKS_UPDATED, Events.AUDIO_TRACK_SWITCHED,
    Events.SUBTITLE_TRACKS_UPDATED, Events.SUBTITLE_TRACK_SWITCH]) {
    // Deferred: hls.js makes a choice of its own after it has announced new tracks.
    hls.on(event, () => queueMicrotask(changed));
  }
  hls.loadSource(address);
  hls.attachMedia(video);
  return {
    levels: () => hls.levels.map((level, index) => ({ id: index, name: rung(level), height: level.height || 0, hint: rate(level.maxBitrate || level.bitrate) })),
    level: () => (hls.autoLevelEnabled ? AUTOMATIC : hls.nextLevel >= 0 ? hls.nextLevel : hls.loadLevel),
    playing: () => hls.currentLevel,
    chooseLevel: (id) => { hls.nextLevel = id; },
    sounds: () => hls.audioTracks.map((track) => ({ id: track.id, name: track.name, language: track.lang || "" })),
    sound: () => hls.audioTrack,
    chooseSound: (id) => { hls.audioTrack = id; },
    captions: () => hls.subtitleTracks.map((track) => ({ id: track.id, name: track.name, language: track.lang || "", default: track.default })),
    caption: () => hls.subtitleTrack,
    chooseCaption: (id) => { hls.subtitleTrack = id; },
    close: () => { clearTimeout(retry); text.clear(); hls.destroy(); },
  };
}

function withBrowser(video, address, changed, failed) {
  const texts = () => [...video.textTracks].filter((track) => track.kind === "captions" || track.kind === "subtitles");
  const sounds = () => [...(video.audioTracks || [])];
  const broke = () => failed("This video cannot be played in this browser.");
  video.addEventListener("error", broke);
  video.textTracks.addEventListener("addtrack", changed);
  video.textTracks.addEventListener("change", changed);
  video.audioTracks?.addEventListener("addtrack", changed);
  video.src = address;
  return {
    levels: () => [],
    level: () => AUTOMATIC,
    playing: () => AUTOMATIC,
    chooseLevel: () => {},
    sounds: () => sounds().map((track, index) => ({ id: index, name: track.label || track.language, language: track.language })),
    sound: () => sounds().findIndex((track) => track.enabled),
    chooseSound: (id) => { sounds().forEach((track, index) => { track.enabled = index === id; }); changed(); },
    captions: () => texts().map((track, index) => ({ id: index, name: track.label || track.language, language: track.language, default: false })),
    caption: () => texts().findIndex((track) => track.mode === "showing"),
    chooseCaption: (id) => { texts().forEach((track, index) => { track.mode = index === id ? "showing" : "disabled"; }); changed(); },
    close: () => { video.removeEventListener("error", broke); video.removeAttribute("src"); video.load(); },
  };
}
