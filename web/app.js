"use strict";

// The page asks for /api/status every two seconds and shows what it says. All
// texts go through textContent: a statement's text is never read as HTML.

const period = 2000; // ms between two requests
const points = 60;   // of the chart: two minutes
const rates = [];    // [{ at, byAction: { pass: per second, … } }]
let last = null;     // the status before, for rates

const byId = (id) => document.getElementById(id);

function element(tag, text, className) {
  const e = document.createElement(tag);
  if (text !== undefined) e.textContent = text;
  if (className) e.className = className;
  return e;
}

const count = (n) => Math.round(n).toLocaleString("en");
const share = (part, whole) => (whole > 0 ? (100 * part / whole).toFixed(1) + " %" : "–");

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  return (i === 0 ? n : n.toFixed(1)) + " " + units[i];
}

function duration(ns) {
  if (!ns) return "0";
  if (ns < 1e6) return (ns / 1e3).toFixed(0) + " µs";
  if (ns < 1e9) return (ns / 1e6).toFixed(1) + " ms";
  return (ns / 1e9).toFixed(1) + " s";
}

function ago(then, now) {
  const s = Math.max(0, (new Date(now) - new Date(then)) / 1000);
  if (s < 90) return s.toFixed(0) + " s";
  if (s < 5400) return (s / 60).toFixed(0) + " min";
  if (s < 172800) return (s / 3600).toFixed(0) + " h";
  return (s / 86400).toFixed(0) + " d";
}

// table fills a table: columns are [title, value(row), class or class(row)].
function table(id, columns, rows, none) {
  const head = element("tr");
  for (const [title, , kind] of columns) {
    head.append(element("th", title, kind === "number" ? "number" : ""));
  }
  const body = element("tbody");
  for (const row of rows || []) {
    const line = element("tr");
    for (const [, value, kind] of columns) {
      line.append(element("td", value(row), typeof kind === "function" ? kind(row) : kind));
    }
    body.append(line);
  }
  if (!body.children.length) {
    const cell = element("td", none, "empty");
    cell.colSpan = columns.length;
    const line = element("tr");
    line.append(cell);
    body.append(line);
  }
  const top = element("thead");
  top.append(head);
  byId(id).replaceChildren(top, body);
}

function tiles(s, perSecond) {
  const total = (s.actions || []).reduce((sum, a) => sum + a.count, 0);
  const of = (name) => ((s.actions || []).find((a) => a.name === name) || { count: 0 }).count;
  const sum = (key) => (s.pools || []).reduce((n, p) => n + p[key], 0);
  const figures = [
    ["queries a second", perSecond === null ? "–" : count(perSecond)],
    ["queries", count(total)],
    ["from aggregates", share(of("rewrite"), total)],
    ["k-NN hits", share(s.cache.hits, s.cache.hits + s.cache.misses)],
    ["clients", count(s.clients_total)],
    ["waiting", count(sum("clients_waiting"))],
    ["pinned", count(sum("clients_pinned"))],
    ["server connections", count(sum("servers_active")) + " of " + count(sum("servers_active") + sum("servers_idle") + sum("servers_resting") + sum("servers_login"))],
    ["cache", bytes(s.cache.bytes) + " of " + bytes(s.cache.budget)],
    ["up", ago(s.started, s.now)],
  ];
  byId("tiles").replaceChildren(...figures.map(([name, value]) => {
    const tile = element("div");
    tile.append(element("dt", name), element("dd", value));
    return tile;
  }));
}

// rate notes the queries a second since the status before and returns their sum,
// or null at the first one and after a restart of the gateway.
function rate(s) {
  const previous = last;
  last = s;
  if (!previous || previous.started !== s.started) {
    rates.length = 0;
    return null;
  }
  const seconds = (new Date(s.now) - new Date(previous.now)) / 1000;
  if (seconds <= 0) return null;
  const byAction = {};
  let sum = 0;
  for (const a of s.actions || []) {
    const before = (previous.actions || []).find((b) => b.name === a.name);
    byAction[a.name] = Math.max(0, a.count - (before ? before.count : 0)) / seconds;
    sum += byAction[a.name];
  }
  rates.push(byAction);
  if (rates.length > points) rates.shift();
  return sum;
}

function chart(s) {
  const names = (s.actions || []).map((a) => a.name);
  let top = 1;
  for (const r of rates) for (const n of names) top = Math.max(top, r[n] || 0);
  const lines = names.map((name) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("class", name);
    line.setAttribute("points", rates.map((r, i) =>
      ((points - rates.length + i) * 600 / (points - 1)).toFixed(1) + "," + (118 - 114 * (r[name] || 0) / top).toFixed(1)).join(" "));
    return line;
  });
  byId("chart").replaceChildren(...lines);
  const now = rates[rates.length - 1] || {};
  byId("legend").replaceChildren(
    ...names.map((n) => element("span", "● " + n + " " + count(now[n] || 0), n)),
    element("span", "top of the scale: " + count(top)));
}

function show(s) {
  byId("version").textContent = s.version;
  const b = s.backend;
  byId("backend").textContent = [
    b.address, b.server ? "PostgreSQL " + b.server : "not reached yet",
    b.timescale && "TimescaleDB " + b.timescale + (b.edition ? " (" + b.edition + ")" : ""),
    b.vector && "pgvector " + b.vector, b.in_recovery && "standby",
  ].filter(Boolean).join(" · ");

  const perSecond = rate(s);
  tiles(s, perSecond);
  chart(s);

  table("capabilities", [
    ["", (c) => (c.on ? "on" : "off"), (c) => (c.on ? "good" : "bad")],
    ["capability", (c) => c.name],
    ["reason", (c) => c.reason, "wide"],
  ], s.capabilities, "not known yet");

  table("pools", [
    ["database", (p) => p.database],
    ["user", (p) => p.user],
    ["mode", (p) => p.mode],
    ["clients", (p) => count(p.clients_active), "number"],
    ["waiting", (p) => count(p.clients_waiting), "number"],
    ["oldest wait", (p) => duration(p.oldest_wait_ns), "number"],
    ["pinned", (p) => count(p.clients_pinned), "number"],
    ["servers in use", (p) => count(p.servers_active), "number"],
    ["idle", (p) => count(p.servers_idle), "number"],
    ["resting", (p) => count(p.servers_resting), "number"],
    ["limit", (p) => p.size + " + " + p.overflow, "number"],
    ["hand-overs", (p) => count(p.handovers), "number"],
    ["last error", (p) => p.last_error, "bad"],
  ], s.pools, "no client has connected yet");

  table("routes", [
    ["ago", (r) => ago(r.when, s.now), "number"],
    ["action", (r) => r.action, (r) => r.action],
    ["reason", (r) => r.reason, "code"],
    ["from", (r) => r.source],
    ["took", (r) => duration(r.duration_ns), "number"],
    ["user", (r) => r.user],
    ["statement", (r) => r.text, "wide code"],
  ], s.routes, "no statement was routed yet");

  const shown = (s.clients || []).length;
  byId("clients-shown").textContent = shown < s.clients_total ? shown + " of " + s.clients_total : "";
  table("clients", [
    ["id", (c) => c.id, "number"],
    ["user", (c) => c.user],
    ["database", (c) => c.database],
    ["state", (c) => c.state],
    ["keeps its connection for", (c) => (c.pins || []).join(", "), "wide"],
    ["server pid", (c) => c.server_pid || "", "number"],
    ["from", (c) => c.addr],
    ["application", (c) => c.app],
    ["connected", (c) => ago(c.connected, s.now), "number"],
    ["last route", (c) => c.last_route, "code"],
  ], s.clients, "no clients");
}

async function refresh() {
  const state = byId("connection");
  try {
    const response = await fetch("api/status", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    if (!response.ok) throw new Error("status " + response.status);
    show(await response.json());
    state.textContent = "";
    state.className = "";
  } catch (e) {
    state.textContent = "no answer from the gateway: " + e.message;
    state.className = "bad";
  }
  setTimeout(refresh, period);
}

refresh();
