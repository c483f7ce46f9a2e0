// Shared by both pages: calls of the JSON API, times for people, elements and icons.

/** Ask the JSON API. Throws an Error with the problem's sentence and its `status` (0 when there was no answer). */
export async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, { headers: { accept: "application/json" }, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server cannot be reached."), { status: 0 });
  }
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  const words = problem.detail || problem.title || `The server answered ${answer.status}.`;
  throw Object.assign(new Error(words), { status: answer.status });
}

/** Return a duration in milliseconds as h:mm:ss or m:ss, "" for null. */
export function clock(milliseconds) {
  if (milliseconds == null || !Number.isFinite(milliseconds)) return "";
  const total = Math.max(0, Math.round(milliseconds / 1000));
  const [hours, minutes, seconds] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  const padded = (value) => String(value).padStart(2, "0");
  return hours ? `${hours}:${padded(minutes)}:${padded(seconds)}` : `${minutes}:${padded(seconds)}`;
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

// The pages and their dates are in English, in the reader's variant of it where there is one.
const LOCALE = navigator.languages.find((one) => /^en\b/i.test(one)) || "en";

/** Return a time element of the day. */
export function day(text) {
  const words = new Date(text).toLocaleDateString(LOCALE, { year: "numeric", month: "long", day: "numeric" });
  return element("time", { dateTime: text, title: words, textContent: words });
}

/** Return a time element with the age, or with the day when it is more than a month ago. */
export function since(text, now = Date.now()) {
  const made = day(text);
  const seconds = (now - new Date(text)) / 1000;
  if (seconds > 30 * 86400) return made;
  const [unit, length] = UNITS.find((one) => seconds >= one[1]) || [];
  made.textContent = unit ? new Intl.RelativeTimeFormat(LOCALE, { numeric: "auto" }).format(-Math.floor(seconds / length), unit) : "just now";
  return made;
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** Return a picture of icons.svg. It is decoration: the words stand beside it. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  draw(picture, name);
  return picture;
}

/** Change the picture of an icon with a new <use>: Chromium may keep showing nothing when only the address changes. */
export function draw(picture, name) {
  const address = `/assets/icons.svg#${name}`;
  if (picture.firstElementChild?.getAttribute("href") === address) return;
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", address);
  picture.replaceChildren(use);
}
