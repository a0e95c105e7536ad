// The feed of facts (server-sent events), read with fetch: a token goes in a header, and the last
// id is sent again after a break. Without it the page polls, and tries the feed again now and then.

import { headers } from "./api.js";

const SILENCE_MS = 45_000; // three keep-alives
const FIRST_MS = 2_000;
const LONGEST_MS = 60_000;
const ABSENT_MS = 300_000;

/** Lines of an event stream to events; carries what is incomplete to the next piece. */
export class Parser {
  constructor() {
    this.rest = "";
    this.event = { data: [], id: null, name: "" };
  }

  push(text) {
    const events = [];
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const raw of lines) {
      const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
      if (line === "") {
        if (this.event.data.length || this.event.id !== null) {
          events.push({ ...this.event, data: this.event.data.join("\n") });
        }
        this.event = { data: [], id: null, name: "" };
        continue;
      }
      const at = line.indexOf(":");
      if (at === 0) continue;
      const name = at < 0 ? line : line.slice(0, at);
      const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
      if (name === "data") this.event.data.push(value);
      else if (name === "id") this.event.id = value;
      else if (name === "event") this.event.name = value;
    }
    return events;
  }
}

export class Feed {
  /** `onfact(fact)`; `onstate("live" | "down" | "absent", detail)`. */
  constructor(path, onfact, onstate) {
    this.path = path;
    this.onfact = onfact;
    this.onstate = onstate;
    this.cursor = null;
    this.delay = FIRST_MS;
    this.running = false;
  }

  start() {
    if (this.running) return;
    this.running = true;
    this._run();
  }

  /** Drop the connection; a new one follows at once (another token, the page is seen again). */
  again() {
    this.delay = FIRST_MS;
    if (this.stop) this.stop.abort();
    if (this.wake) this.wake();
  }

  async _run() {
    while (this.running) {
      let wait = this.delay;
      try {
        await this._read();
      } catch (error) {
        if (error.absent) wait = ABSENT_MS;
        else if (error.wait) wait = error.wait;
        this.onstate(error.absent ? "absent" : "down", error.message);
      }
      this.delay = Math.min(this.delay * 2, LONGEST_MS);
      await new Promise((resolve) => {
        this.wake = resolve;
        setTimeout(resolve, wait * (0.75 + Math.random() / 2));
      });
    }
  }

  async _read() {
    this.stop = new AbortController();
    let timer = null;
    const watch = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.stop.abort(), SILENCE_MS);
    };
    watch();
    try {
      const more = { Accept: "text/event-stream" };
      if (this.cursor !== null) more["Last-Event-ID"] = this.cursor;
      const response = await fetch(this.path, {
        headers: headers(more),
        signal: this.stop.signal,
        cache: "no-store",
        credentials: "omit",
      });
      const type = response.headers.get("Content-Type") || "";
      if (!response.ok || !type.startsWith("text/event-stream")) {
        if (response.status === 410 || response.status === 400) this.cursor = null;
        const after = Number.parseFloat(response.headers.get("Retry-After") || "");
        const error = new Error(`the feed answers ${response.status}`);
        error.absent = response.status === 404 || response.ok;
        error.wait = Number.isFinite(after) ? after * 1000 : null;
        throw error;
      }
      this.onstate("live", "");
      await this._events(response.body.getReader(), watch);
    } finally {
      clearTimeout(timer);
      this.stop.abort();
    }
    throw new Error("the feed ended");
  }

  async _events(reader, watch) {
    const parser = new Parser();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      watch();
      for (const event of parser.push(decoder.decode(value, { stream: true }))) {
        if (event.id !== null) this.cursor = event.id;
        this.delay = FIRST_MS;
        if (event.name === "error") {
          this.cursor = null; // the position is lost: from now on, and the poll fills the gap
          throw new Error("the feed lost its position");
        }
        if (!event.data) continue;
        try {
          this.onfact(JSON.parse(event.data));
        } catch (error) {
          if (!(error instanceof SyntaxError)) throw error;
        }
      }
    }
  }
}
