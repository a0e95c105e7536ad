// Asking the API: token, ETags, its limits, and errors in words. One place, so that the page never
// asks more often than it is allowed to.

const TOKEN = "orchestrator.token";
const TIMEOUT_MS = 20_000;
const RESERVED = 20; // of the API's limit, for what a person clicks

export class ApiError extends Error {
  /** `kind`: offline, unauthorized, forbidden, limited, missing, refused or failed. */
  constructor(kind, message, status = 0, retrySeconds = null) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

const KINDS = { 401: "unauthorized", 403: "forbidden", 404: "missing", 429: "limited" };

export function token() {
  try {
    return sessionStorage.getItem(TOKEN) || "";
  } catch (error) {
    return "";
  }
}

export function keepToken(value) {
  try {
    if (value) sessionStorage.setItem(TOKEN, value);
    else sessionStorage.removeItem(TOKEN);
  } catch (error) {
    return false;
  }
  return true;
}

export function headers(more = {}) {
  const held = token();
  return held ? { ...more, Authorization: `Bearer ${held}` } : more;
}

const kept = new Map(); // path -> {etag, body}
const budgets = new Map(); // the API counts the overview apart from the requests

function budgetOf(path) {
  const name = path.split(/[?/]/)[1];
  if (!budgets.has(name)) budgets.set(name, { remaining: null, resetAt: 0, waitUntil: 0 });
  return budgets.get(name);
}

function header(response, ...names) {
  for (const name of names) {
    const value = response.headers.get(name);
    if (value !== null && value.trim() !== "") return value.trim();
  }
  return null;
}

function note(budget, response) {
  const left = header(response, "RateLimit-Remaining", "X-RateLimit-Remaining");
  const reset = header(response, "RateLimit-Reset", "X-RateLimit-Reset");
  const combined = header(response, "RateLimit"); // the draft's newer form: "default";r=50;t=30
  const seen = combined && /[;,]\s*r(?:emaining)?=(\d+)/.exec(combined);
  const until = combined && /[;,]\s*(?:t|reset)=(\d+)/.exec(combined);
  const remaining = left !== null ? Number.parseInt(left, 10) : seen ? Number(seen[1]) : null;
  if (remaining === null || Number.isNaN(remaining)) return;
  const number = reset !== null ? Number.parseFloat(reset) : until ? Number(until[1]) : 900;
  const seconds = number > 1e9 ? number - Date.now() / 1000 : number;
  budget.remaining = remaining;
  budget.resetAt = Date.now() + Math.max(1, seconds || 1) * 1000;
}

/** How long to wait between two questions of the page's own, in milliseconds: what is left of the
 * limit is spread over the time that is left of its window. */
export function spacing(path, least) {
  const now = Date.now();
  const budget = budgetOf(path);
  if (budget.waitUntil > now) return Math.max(least, budget.waitUntil - now);
  if (budget.remaining === null || budget.resetAt < now) return least;
  const left = budget.remaining - RESERVED;
  if (left <= 0) return Math.max(least, budget.resetAt - now);
  return Math.max(least, (budget.resetAt - now) / left);
}

/** Whether the API's limit leaves room for asking twice as often. */
export function generous(path) {
  const budget = budgetOf(path);
  return budget.remaining !== null && budget.remaining > 500;
}

async function said(response) {
  try {
    const body = await response.json();
    return body.error || body.detail || body.title || `HTTP ${response.status}`;
  } catch (error) {
    return `HTTP ${response.status}`;
  }
}

/**
 * `{body, changed, headers}`; the body of an answer that has not changed is the one held. With
 * `accept`, other statuses than 2xx whose JSON is an answer too (health says 503 with details).
 * `apart`: what has a limit of its own (health) says nothing about the rest of the page's.
 */
export async function get(path, { signal = null, keep = false, accept = [], apart = false } = {}) {
  const held = keep ? kept.get(path) : null;
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let response;
  try {
    response = await fetch(path, {
      headers: headers({
        Accept: "application/json",
        ...(held ? { "If-None-Match": held.etag } : {}),
      }),
      signal: signal && AbortSignal.any ? AbortSignal.any([signal, limit]) : signal || limit,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    if (signal && signal.aborted) throw error;
    const slow = error.name === "TimeoutError";
    throw new ApiError("offline", slow ? "no answer within 20 s" : "the API cannot be reached");
  }
  if (!apart) note(budgetOf(path), response);
  if (response.status === 304 && held)
    return { body: held.body, changed: false, headers: response.headers };
  if (!response.ok && !accept.includes(response.status)) {
    const after = Number.parseFloat(header(response, "Retry-After") || "");
    const wait = Number.isFinite(after) ? after : response.status === 429 ? 60 : null;
    if (response.status === 429 && !apart) budgetOf(path).waitUntil = Date.now() + wait * 1000;
    const kind = KINDS[response.status] || (response.status < 500 ? "refused" : "failed");
    throw new ApiError(kind, await said(response), response.status, wait);
  }
  let body;
  try {
    body = await response.json();
  } catch (error) {
    throw new ApiError("failed", "the answer is no JSON", response.status);
  }
  const etag = response.headers.get("ETag");
  if (keep && etag && response.ok) {
    kept.clear();
    kept.set(path, { etag, body });
  }
  return { body, changed: true, headers: response.headers };
}

export function forget() {
  kept.clear();
}
