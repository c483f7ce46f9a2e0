// Captions over the picture. We draw them ourselves: hls.js would insert a `data:` track, which our policy
// refuses, and drawn here they move out of the way of the controls.
import { element } from "./common.js";

/** Return a layer that shows cues (VTTCue) at their times: `show(cues)` adds, `clear()` removes all. */
export function board(video, container) {
  const track = [...video.textTracks].find((one) => one.label === "board") || video.addTextTrack("metadata", "board");
  track.mode = "hidden";
  track.oncuechange = () => {
    const active = [...(track.activeCues || [])].sort((one, other) => one.startTime - other.startTime);
    container.replaceChildren(...active.map((cue) => element("p", { dir: "auto" }, cue.getCueAsHTML())));
  };
  return {
    show: (cues) => { for (const cue of cues) track.addCue(cue); },
    clear: () => {
      for (const cue of [...track.cues]) track.removeCue(cue);
      container.replaceChildren();
    },
  };
}
