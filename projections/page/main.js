// Puts the page together: what is asked when, what the feed changes, and what the head says about
// how fresh all of it is.

import { FILTERS, go, listen, read } from "./address.js";
import { ApiError, forget, generous, get, spacing, token } from "./api.js";
import { Charts } from "./figures.js";
import { clearFilters, listenToKeys, openHelp, openToken } from "./dialogs.js";
import { byId, fill, h, loading, problem } from "./dom.js";
import { Feed } from "./feed.js";
import * as format from "./format.js";
import { showLanes } from "./lanes.js";
import {
  concerns,
  failPanel,
  pausesOf,
  showConcerns,
  showControls,
  showHealth,
  showPipeline,
  waitPanels,
} from "./panels.js";
import { Requests } from "./requests.js";
import { showStanding } from "./standing.js";
import { Story } from "./story.js";
import { switchTheme, tools, windows } from "./tools.js";

// Milliseconds. A poll costs one of the API's requests (100 in 15 minutes by default), so polls keep
// their distance; the feed tells the rest in between.
const POLL_MS = 12_000;
const NEAR_MS = 5_000;
const POLL_WITH_FEED_MS = 20_000;
const HIDDEN_MS = 60_000;
const HEALTH_MS = 30_000;
const LIST_MS = 30_000;
const RETRY_MS = 5_000;

const state = {
  overview: null,
  health: null,
  controls: undefined,
  answeredAt: null,
  skew: 0,
  error: null,
  feed: "absent",
  held: false,
  due: 0,
  listDue: 0,
  asking: false,
  dirty: false,
  moved: false,
  told: false,
};
const now = () => Date.now() + state.skew;
const ageOf = (at) => (now() - new Date(at).getTime()) / 1000;

let requests;
let story;
let charts;
let feed;

const foot = () =>
  `Times are ${format.ZONE}; hover shows UTC. Amounts are tokens of ${format.decimals} decimals.`;

// ---- asking ------------------------------------------------------------------------------------

async function refresh() {
  if (state.asking) return;
  state.asking = true;
  state.dirty = false;
  const window = read().window || "1h";
  try {
    const answer = await get(`/overview?window=${window}`, { keep: true });
    const at = answer.headers.get("X-Data-Now") || answer.body.now;
    state.skew = new Date(at).getTime() - Date.now();
    const fresh = answer.headers.get("X-Data-Fresh-At");
    if (fresh) answer.body.freshAt = fresh;
    state.overview = answer.body;
    state.answeredAt = Date.now();
    state.error = null;
    offered(answer.body.offers);
    if (format.showAs(answer.body.tokenDecimals)) {
      if (story.body) story.render();
      if (Requests.path(read())) list(false);
    }
    byId("foot").textContent = foot();
    render();
    if (story.unsettled && state.feed !== "live") story.load();
  } catch (error) {
    failed(error);
  } finally {
    state.asking = false;
    plan();
  }
}

function failed(error) {
  if (!(error instanceof ApiError)) throw error;
  state.error = error;
  wantToken(error);
  if (!state.overview) {
    const again = () => {
      refresh();
      askHealth();
    };
    failPanel("pipeline", "The overview cannot be shown", error, again);
    failPanel("lanes", "The lanes cannot be shown", error, again);
    charts.message(() =>
      h("p", { class: "empty" }, "No answer from the API yet; the page asks again by itself."),
    );
    if (!Requests.path(read())) requests.fail(error, again);
    fill(
      byId("attention").querySelector(".body"),
      problem("The API does not answer as it should", error.message),
    );
    byId("attention").dataset.kind = "failed";
  }
  head();
}

function wantToken(error) {
  if (error.kind !== "unauthorized" || state.told) return;
  state.told = true;
  openToken(
    token() ? "The API does not accept this token." : "This API wants a token.",
    tokenChanged,
  );
}

function tokenChanged() {
  state.told = false;
  forget();
  feed.again();
  story.load();
  askAll();
}

const apart = () => (generous("/overview") ? NEAR_MS : POLL_MS);

/** When the overview is asked for next. */
function plan() {
  let wait = state.feed === "live" && !state.dirty ? POLL_WITH_FEED_MS : apart();
  if (document.hidden) wait = HIDDEN_MS;
  if (state.error) wait = state.error.retrySeconds ? state.error.retrySeconds * 1000 : RETRY_MS;
  if (state.held && !state.error) wait = Number.POSITIVE_INFINITY;
  state.due = Date.now() + (wait === Number.POSITIVE_INFINITY ? wait : spacing("/overview", wait));
}

async function askHealth() {
  try {
    const answer = await get("/health", { accept: [503], apart: true });
    if (answer.body && answer.body.checks) {
      state.health = answer.body;
      showHealth(state.health);
    }
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    wantToken(error);
    failPanel("health", "The dependencies cannot be shown", error, askHealth);
    state.health = null;
  }
  attention();
}

/** What this API has beside its core: the page asks for nothing that is not there. */
function offered(offers) {
  if (offers.explain && !story.explains) {
    story.explains = true;
    if (story.body) story.load();
  }
  if (offers.controls && state.controls === undefined) {
    state.controls = null;
    askControls();
  } else if (!offers.controls) showControls(null);
  if (offers.feed) feed.start();
}

async function askControls() {
  try {
    state.controls = pausesOf((await get("/controls")).body);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.kind === "missing") state.controls = null;
    else if (!state.controls)
      return failPanel("controls", "What is paused cannot be shown", error, askControls);
  }
  showControls(state.controls);
  return attention();
}

/** The rows of the view: those of the overview while nothing narrows them, else asked for. */
async function list(anew) {
  const view = read();
  const path = Requests.path(view);
  state.moved = false;
  state.listDue = Date.now() + spacing("/status", LIST_MS);
  if (path === null) {
    requests.path = null;
    if (state.overview) requests.set(state.overview.requests.items, state.overview.requests.next);
    else if (state.error) requests.fail(state.error, () => refresh());
    else requests.wait();
    return;
  }
  if (anew || requests.path !== path) requests.wait();
  requests.path = path;
  try {
    const answer = await get(path);
    if (requests.path === path) requests.set(answer.body.items, answer.body.next);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    wantToken(error);
    if (requests.path === path) requests.fail(error, () => list(true));
    state.listDue = Date.now() + (error.kind === "refused" ? Number.POSITIVE_INFINITY : RETRY_MS);
  }
  tick();
}

function askAll() {
  refresh();
  askHealth();
  if (state.controls) askControls();
  if (Requests.path(read())) list(false);
}

// ---- showing -----------------------------------------------------------------------------------

function render() {
  const { overview } = state;
  showPipeline(overview);
  charts.show(overview);
  showLanes(overview.lanes);
  requests.filters.offerChains(overview.chains.map((chain) => chain.chainId));
  if (!Requests.path(read())) requests.set(overview.requests.items, overview.requests.next);
  attention();
  head();
  tick();
  if (!state.shown && story.key !== null) story.reveal();
  state.shown = true;
}

function attention() {
  if (state.error && !state.overview) return;
  const list = concerns(state.overview, state.health, state.controls, ageOf);
  showConcerns(list, state.overview !== null);
  const bad = list.filter((item) => item.kind === "failed").length;
  document.title = `${list.length ? `(${bad || list.length}) ` : ""}Stablecoin orchestrator`;
}

function head() {
  showStanding(state, now());
}

function tick() {
  for (const node of document.querySelectorAll("[data-since]")) {
    const unit = node.dataset.coarse ? format.coarse : format.age;
    const text = unit(ageOf(node.dataset.since)) + (node.dataset.suffix || "");
    if (node.textContent !== text) node.textContent = text;
  }
}

function everySecond() {
  const time = Date.now();
  head();
  tick();
  tools(state.held);
  const eager =
    state.dirty &&
    state.answeredAt !== null &&
    time - state.answeredAt >= spacing("/overview", apart());
  if (!state.held && (time >= state.due || eager)) refresh();
  const filtered = requests.path !== null && requests.path !== undefined;
  const asOf = read().at;
  if (
    !state.held &&
    !asOf &&
    filtered &&
    time >= state.listDue &&
    (state.moved || state.feed !== "live" || requests.error)
  )
    list(false);
}

// ---- the feed ----------------------------------------------------------------------------------

let painting = null;

function onfact(fact) {
  state.dirty = true;
  state.moved = true;
  if (state.held) return;
  if (story) story.apply(fact);
  if (
    fact.topic === "requests" &&
    !read().at &&
    requests.apply(fact, requests.path === null && !read().cursor)
  ) {
    if (painting === null) {
      painting = setTimeout(() => {
        painting = null;
        requests.render();
        tick();
      }, 250);
    }
  }
  if (fact.topic === "controls") setTimeout(askControls, 1500);
}

function onstate(word) {
  const before = state.feed;
  state.feed = word;
  if (word !== before) {
    if (word === "live" || before === "live") plan();
    head();
  }
}

// ---- tools -------------------------------------------------------------------------------------

function switchHold() {
  state.held = !state.held;
  byId("hold").setAttribute("aria-pressed", String(state.held));
  tools(state.held);
  if (state.held) plan();
  else askAll();
  head();
}

let shownFilters = null;
let shownWindow = null;

function viewChanged() {
  const view = read();
  requests.filters.show(view);
  const filters = JSON.stringify([...FILTERS, "cursor"].map((name) => view[name]));
  if (filters !== shownFilters) {
    shownFilters = filters;
    list(false);
  } else requests.render();
  const window = view.window || "1h";
  if (window !== shownWindow) {
    windows();
    if (shownWindow !== null) refresh();
    shownWindow = window;
  }
  const before = story.key;
  story.show(view);
  if (story.key !== null && story.key !== before && before !== undefined) story.focus();
  tick();
}

async function start() {
  tools(state.held);
  waitPanels();
  charts = new Charts();
  charts.message(() => loading("the chart", 4));
  showConcerns([], false);
  story = new Story(now);
  let lifecycle;
  try {
    lifecycle = await (await fetch(new URL("lifecycle.json", import.meta.url))).json();
  } catch (error) {
    fill(
      byId("attention").querySelector(".body"),
      problem("A part of the page could not be loaded", "Load the page again.", () =>
        location.reload(),
      ),
    );
    return;
  }
  requests = new Requests(lifecycle);
  feed = new Feed("/feed?topic=requests,controls,dead-letters", onfact, onstate);
  listen(viewChanged);
  viewChanged();
  byId("hold").addEventListener("click", switchHold);
  byId("theme").addEventListener("click", () => switchTheme(state.held));
  byId("token").addEventListener("click", () => openToken(null, tokenChanged));
  byId("help").addEventListener("click", openHelp);
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("requests").focus();
  });
  const page = (name) => {
    const button = [...byId("pager").querySelectorAll("button")].find(
      (node) => node.textContent === name,
    );
    if (button && !button.disabled) button.click();
  };
  listenToKeys({
    "/": () => byId("filters").elements.search.focus(),
    j: () => requests.step(1),
    k: () => requests.step(-1),
    n: () => page("Older"),
    b: () => page("Newer"),
    x: clearFilters,
    y: () => story.key && story.copyLink(),
    r: askAll,
    p: switchHold,
    t: () => switchTheme(state.held),
    "?": openHelp,
    g: () => byId("lanes").scrollIntoView({ block: "start" }),
    Escape: () => story.key && go({ request: null }),
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => tools(state.held));
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - (state.answeredAt || 0) > POLL_MS) refresh();
  });
  addEventListener("online", () => refresh());
  let wide = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== wide && state.overview) showLanes(state.overview.lanes);
    wide = innerWidth;
  });
  byId("foot").textContent = foot();
  refresh();
  askHealth();
  setInterval(everySecond, 1000);
  setInterval(() => {
    if (document.hidden || state.held) return;
    askHealth();
    if (state.controls && state.feed !== "live") askControls();
  }, HEALTH_MS);
}

start();
