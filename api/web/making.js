// The progress of a video: in total, per rung, and the present work.
import { draw, element, icon } from "./common.js";

const STEPS = {
  uploading: "Waiting for the upload", waiting: "Waiting for a worker", analyse: "Looking at the file", encode: "Encoding",
  audio: "Encoding the sound", extras: "Making a picture for the library", check: "Checking what was encoded",
  verify: "Checking everything once more", processing: "Working on it",
};
const WORDS = { pending: "Waiting", in_progress: "Encoding", completed: "Done", failed: "Failed" };
const ESTIMATE_MS_MIN = 6000;
const ESTIMATE_PERCENT_MIN = 3;
const panel = document.getElementById("making");
const rows = new Map();
let first = null;

const by = (id) => document.getElementById(id);
const write = (id, words) => { if (by(id).textContent !== words) by(id).textContent = words; };

/** Show the panel in the stage, or below the player once something can be played. */
export function show(where) {
  if (panel.parentElement !== where) where.append(panel);
  panel.hidden = false;
}

export function hide() {
  panel.hidden = true;
}

/** Draw an answer of the progress API; `null` when there is none. `now` in milliseconds. */
export function paint(progress, now) {
  if (!progress) return write("note", "The connection was lost; trying again …");
  const percent = Math.floor(progress.progress_percent);
  const step = progress.current_step || progress.status;
  write("step", STEPS[step] || step);
  write("percent", String(percent));
  write("note", note(progress, now));
  by("overall").value = progress.progress_percent;
  by("overall").textContent = `${percent} %`;
  for (const rung of progress.qualities) paintRung(rung);
}

function paintRung(rung) {
  if (!rows.has(rung.name)) {
    const row = { bar: element("progress", { max: 100, ariaLabel: rung.name }), words: element("span", { className: "state" }), sign: icon("done") };
    row.item = element("li", {}, element("span", { className: "name", textContent: rung.name }), row.bar, row.words, row.sign);
    rows.set(rung.name, row);
    by("rungs").append(row.item);
  }
  const row = rows.get(rung.name);
  row.bar.value = rung.progress;
  row.item.dataset.state = rung.status;
  draw(row.sign, rung.status === "failed" ? "broken" : "done");
  row.words.textContent = rung.status === "in_progress" ? `${Math.floor(rung.progress)} %` : WORDS[rung.status] || rung.status;
}

function note(progress, now) {
  if (progress.last_error) {
    const attempt = progress.attempt > 1 ? `Attempt ${progress.attempt}${progress.max_attempts ? ` of ${progress.max_attempts}` : ""}. ` : "";
    return `${attempt}Before: ${progress.last_error}`;
  }
  if (!first || progress.progress_percent < first.percent) first = { at: now, percent: progress.progress_percent };
  const [passed, gained] = [now - first.at, progress.progress_percent - first.percent];
  if (passed < ESTIMATE_MS_MIN || gained < ESTIMATE_PERCENT_MIN) return "";
  return left(((100 - progress.progress_percent) / gained) * passed);
}

function left(milliseconds) {
  const minutes = Math.round(milliseconds / 60000);
  if (milliseconds < 50000) return "Less than a minute left";
  if (minutes < 90) return `About ${Math.max(1, minutes)} ${minutes > 1 ? "minutes" : "minute"} left`;
  return `About ${Math.round(minutes / 60)} hours left`;
}
