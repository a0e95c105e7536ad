// The word in the head: what to think of everything below it, and as of when it is true.

import { byId } from "./dom.js";
import * as format from "./format.js";

const STALE_SECONDS = 60;
const WORDS = {
  offline: "Disconnected",
  unauthorized: "Token wanted",
  forbidden: "Not allowed",
  limited: "Limit reached",
};

function standing(state, now) {
  const { error, overview, feed, held } = state;
  if (error) return ["down", `${WORDS[error.kind] || "API in trouble"}: ${error.message}`];
  if (!overview) return ["loading", "Connecting"];
  if (held) return ["held", "Held"];
  if (overview.freshAt === null) {
    return ["stale", "Stale: the projection has not reached the log's end"];
  }
  const age = (now - new Date(overview.freshAt).getTime()) / 1000;
  if (age > STALE_SECONDS) return ["stale", "Stale"];
  return feed === "live" ? ["live", "Live"] : ["polling", "Polling"];
}

export function showStanding(state, now) {
  const [kind, word] = standing(state, now);
  byId("connection").dataset.state = kind;
  const node = byId("connection-word");
  if (node.textContent !== word) node.textContent = word;
  const parts = [];
  if (state.overview && state.overview.freshAt) {
    parts.push(`data as of ${format.time(state.overview.freshAt, now)}`);
  }
  if (state.error && Number.isFinite(state.due)) {
    parts.push(`asking again in ${Math.max(0, Math.ceil((state.due - Date.now()) / 1000))} s`);
  }
  byId("as-of").textContent = parts.join(", ");
  byId("connection").title =
    state.feed === "live"
      ? "Facts arrive by the feed"
      : "No feed: the page asks the API now and then";
}
