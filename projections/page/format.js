// Values as people read them. Pure, but for the clock that is passed in.

export let decimals = 18; // of the token; base units are shown beside where it matters

/** The token's decimals, as the service is told them; whether they are others than before. */
export function showAs(count) {
  const changed = count !== decimals;
  decimals = count;
  return changed;
}

const clock = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const minute = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "2-digit", month: "short" });
const number = new Intl.NumberFormat("en-GB");

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";

export const count = (value) => number.format(value);

/** The time; with the day when that is not `now`'s. */
export function time(at, now = Date.now()) {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return String(at);
  const today = date.toDateString() === new Date(now).toDateString();
  return today ? clock.format(date) : `${day.format(date)} ${minute.format(date)}`;
}

export const minuteOf = (at) => minute.format(new Date(at));
export const clockOf = (at) => clock.format(new Date(at));

/** Whole seconds below a minute, then two units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, seconds);
  if (whole < 1) return `${Math.round(whole * 1000)} ms`;
  if (whole < 10) return `${whole.toFixed(1)} s`;
  const value = Math.round(whole);
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${value % 60} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

/** An age for tables: no fraction, so that it does not flicker. */
export const age = (seconds) =>
  seconds < 10 ? `${Math.floor(Math.max(0, seconds))} s` : duration(seconds);

/** The largest unit alone, for narrow places. */
export const coarse = (seconds) =>
  seconds < 60 ? age(seconds) : duration(seconds).split(" ").slice(0, 2).join(" ");

export const isBaseUnits = (text) => /^-?\d{1,100}$/.test(text || "");

/** Tokens of a whole number of base units: grouped, at most `places` decimals, cut, never rounded
 * up. What is no number stands as it was received. */
export function tokens(text, places = 6) {
  if (!isBaseUnits(text)) return String(text);
  const negative = text.startsWith("-");
  const digits = text.replace("-", "").padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals).replace(/^0+(?=\d)/, "");
  const rest = digits.slice(digits.length - decimals);
  const sign = negative ? "−" : "";
  if (whole.length > 15) return `${sign}${whole[0]}.${whole.slice(1, 4)}e${whole.length - 1}`;
  const fraction = rest.slice(0, places).replace(/0+$/, "");
  const tiny = whole === "0" && fraction === "" && /[1-9]/.test(rest);
  if (tiny) return `${sign}<0.${"0".repeat(places - 1)}1`;
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return sign + grouped + (fraction ? `.${fraction}` : "");
}

export const asNumber = (text) => Number(text) / 10 ** decimals;

export function grouped(text) {
  return isBaseUnits(text) ? text.replace(/\B(?=(\d{3})+$)/g, " ") : text;
}

/** The begin and end of a long value; short ones whole. */
export function short(text, head = 6, tail = 4) {
  const value = String(text);
  return value.length > head + tail + 3 ? `${value.slice(0, head)}…${value.slice(-tail)}` : value;
}

/** 1234 as 1.2k: for axes. */
export function compact(value) {
  const size = Math.abs(value);
  if (size >= 1e15) return value.toExponential(0);
  for (const [limit, unit] of [
    [1e12, "T"],
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (size >= limit) return `${+(value / limit).toFixed(1)}${unit}`;
  }
  return String(+value.toFixed(size < 1 ? 2 : 1));
}

/** "RELAYING" as "Relaying"; "RequestReceived" as "Request received". */
export function words(code) {
  const spaced =
    String(code).includes("_") || code === String(code).toUpperCase()
      ? String(code).replaceAll("_", " ").toLowerCase()
      : String(code)
          .replace(/([a-z])([A-Z])/g, "$1 $2")
          .toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}
