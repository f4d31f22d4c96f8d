// SPDX-License-Identifier: BSD-2-Clause
"use strict";
// N names, K their colours, T the nodes in depth-first order: depth, name, weight, and events (weights
// that are times) or microseconds (weights that are counts); the same two again of the other side
// when two are compared. Nothing is loaded from anywhere; text only ever becomes text.
var NS = "http://www.w3.org/2000/svg";
var svg = document.currentScript && document.currentScript.closest("svg") || document.documentElement;
var standalone = document.documentElement === svg;
var data = svg.dataset, rows = +data.rows, inverted = data.inverted === "1", compare = data.compare === "1";
var LEFT = 10, ROW = 16, TOP = 98, BOTTOM = 44, MIN = 0.6, CHAR = 7.25;
var width = +svg.getAttribute("width"), height = +svg.getAttribute("height");
function id(s) { return svg.querySelector("#" + s); }
var firstHeight = height, least = rows;
var group = id("frames"), details = id("details"), matched = id("matched"), reset = id("reset");
var search = id("search"), field = null;

// ---- the tree
var step = compare ? 6 : 4, count = T.length / step;
var depth = [], name = [], weight = [], extra = [], other = [], otherExtra = [], wide = [], x = [], parent = [], end = [];
var path = [], cursor = [], most = 0;
for (var i = 0; i < count; i++) {
  var at = i * step, d = T[at];
  depth[i] = d; name[i] = T[at + 1]; weight[i] = T[at + 2]; extra[i] = T[at + 3];
  other[i] = compare ? T[at + 4] : 0; otherExtra[i] = compare ? T[at + 5] : 0;
  wide[i] = !compare || data.widths === "1" ? weight[i] : data.widths === "2" ? other[i] : weight[i] + other[i];
  most = Math.max(most, Math.abs(weight[i] - other[i]));
  while (path.length > d) end[path.pop()] = i;
  parent[i] = d ? path[d - 1] : -1;
  x[i] = d ? cursor[d] : 0;
  cursor[d] = x[i] + wide[i];
  cursor[d + 1] = x[i];
  path[d] = i;
}
while (path.length) end[path.pop()] = count;
var total = wide[0] || 1, view = 0, cur = -1, hits = null, shown = {};

// ---- words
function duration(ns) {
  return ns >= 1e9 ? (ns / 1e9).toFixed(3) + " s" : ns >= 1e6 ? (ns / 1e6).toFixed(3) + " ms" : (ns / 1e3).toFixed(0) + " us";
}
function number(v) { return String(v).replace(/\B(?=(\d{3})+$)/g, ","); }
function amount(w, e) {
  if (data.unit === "nanoseconds" || data.unit === "microseconds")
    return duration(data.unit === "nanoseconds" ? w : w * 1e3) + " in " + number(e) + " events";
  if (data.unit === "samples") return number(w) + " samples, " + duration(e * 1e3);
  return number(w) + " " + data.unit;
}
function percent(a, b) { return b ? (100 * a / b).toFixed(2) + " %" : "-"; }
function tell(i) {
  var s = N[name[i]] + ": ";
  if (compare)
    return s + data.side0 + " " + amount(weight[i], extra[i]) + " (" + percent(weight[i], weight[0]) + "), " + data.side1 + " " +
      amount(other[i], otherExtra[i]) + " (" + percent(other[i], other[0]) + ")";
  return s + amount(weight[i], extra[i]) + ", " + percent(weight[i], weight[0]) + " of all" +
    (view ? ", " + percent(weight[i], weight[view]) + " of the zoomed frame" : "");
}
function colour(i) {
  if (!compare) return K[name[i]];
  var d = weight[i] - other[i], h = most ? Math.round(Math.sqrt(Math.abs(d) / most) * 8) : 0;
  return (d < 0 ? "b" : "r") + h;
}

// ---- drawing: what the view shows, from the root's row on
function make(tag, attributes, inside) {
  var e = document.createElementNS(NS, tag);
  for (var a in attributes) e.setAttribute(a, attributes[a]);
  if (inside) inside.appendChild(e);
  return e;
}
function rowY(d) { return TOP + (inverted ? d : rows - 1 - d) * ROW; }
function fit(text, w) {
  var n = Math.floor((w - 6) / CHAR);
  return n < 3 ? "" : text.length <= n ? text : text.slice(0, n - 1) + "\u2026";
}
// Rows that hold anything to be seen; the picture grows with them and never shrinks below its first height.
function deepest(x0, scale) {
  var most = 0;
  for (var i = view; i < end[view]; i++) {
    if (wide[i] * scale < 1.5) i = end[i] - 1;
    else if (depth[i] > most) most = depth[i];
  }
  return most + 1;
}
function setRows(n) {
  rows = Math.max(n, least);
  height = TOP + rows * ROW + BOTTOM;
  svg.setAttribute("height", height);
  svg.setAttribute("viewBox", "0 0 " + width + " " + height);
  id("foot").setAttribute("transform", "translate(0," + (height - firstHeight) + ")");
}
function draw() {
  var fresh = make("g", { id: "frames", tabindex: 0, role: "tree", "aria-label": "flame graph" });
  var x0 = x[view], scale = (width - 2 * LEFT) / (wide[view] || 1), runs = [];
  shown = {};
  setRows(deepest(x0, scale));
  function flush(d) {
    var r = runs[d];
    if (r && r.x1 - r.x0 >= 0.2)
      make("rect", { "class": "thin " + r.colour + (r.hit ? " hit" : ""), x: r.x0.toFixed(2), y: rowY(d), width: (r.x1 - r.x0).toFixed(2),
        height: ROW - 1 }, fresh);
    runs[d] = null;
  }
  for (var i = 0; i < count; i++) {
    var above = i < view && end[i] > view, px = above ? LEFT : LEFT + (x[i] - x0) * scale;
    var w = above ? width - 2 * LEFT : wide[i] * scale, d = depth[i];
    if (!above && (i < view || i >= end[view])) { i = end[i] - 1; continue; }
    if (d >= rows) { i = end[i] - 1; continue; }
    if (w < MIN) {
      var r = runs[d];
      if (r && px - r.x1 > MIN) { flush(d); r = null; }
      if (!r) r = runs[d] = { x0: px, colour: colour(i), hit: false };
      r.x1 = px + w; r.hit = r.hit || !!(hits && hits[name[i]]);
      continue;
    }
    flush(d);
    var g = make("g", { "class": "f" + (above ? " parent" : "") + (hits && hits[name[i]] && i ? " hit" : "") + (i === cur ? " cur" : "") }, fresh);
    g.node = i; shown[i] = g;
    make("title", {}, g).textContent = tell(i);
    make("rect", { "class": colour(i), x: px.toFixed(2), y: rowY(d), width: w.toFixed(2), height: ROW - 1 }, g);
    var label = fit(N[name[i]], w);
    if (label) make("text", { x: (px + 3).toFixed(2), y: rowY(d) + 11.5 }, g).textContent = label;
  }
  for (var k = 0; k < runs.length; k++) flush(k);
  var focused = document.activeElement === group;
  group.replaceWith(fresh);
  group = fresh;
  if (focused) group.focus({ preventScroll: true });
  reset.setAttribute("display", view ? "" : "none");
}
function zoom(i) { view = i; draw(); details.textContent = tell(i); }
function select(i) {
  if (shown[cur]) shown[cur].classList.remove("cur");
  cur = i;
  if (!shown[i]) { if (i < view || i >= end[view]) view = 0; draw(); }
  if (shown[i]) { shown[i].classList.add("cur"); if (shown[i].scrollIntoView) shown[i].scrollIntoView({ block: "nearest" }); }
  details.textContent = tell(i);
}

// ---- search: nested hits count once
function find(text) {
  hits = null;
  matched.textContent = "";
  if (text) {
    var test, sum = 0, stop = 0;
    try { var re = new RegExp(text, "i"); test = function (s) { return re.test(s); }; }
    catch (e) { test = function (s) { return s.toLowerCase().indexOf(text.toLowerCase()) >= 0; }; }
    hits = N.map(function (s, k) { return k > 0 && test(s); });
    for (var i = 1; i < count; i++)
      if (i >= stop && hits[name[i]]) { sum += wide[i]; stop = end[i]; }
    matched.textContent = "matched: " + (100 * sum / total).toFixed(1) + " %";
  }
  search.textContent = hits ? "clear search" : "search";
  draw();
}
function closeField() { if (field) { field.remove(); field = null; } }
function openField() {
  closeField();
  field = make("foreignObject", { x: width - LEFT - 330, y: 32, width: 330, height: 32 }, svg);
  var input = document.createElementNS("http://www.w3.org/1999/xhtml", "input");
  input.setAttribute("placeholder", "function, thread, file (regular expression)");
  input.setAttribute("aria-label", "search");
  input.setAttribute("style", "width:318px;font:13px system-ui,sans-serif;padding:3px 5px;border:1px solid #888;border-radius:3px;background:#fff;color:#111");
  input.addEventListener("input", function () { find(input.value); });
  input.addEventListener("keydown", function (e) {
    e.stopPropagation();
    if (e.key === "Enter") { e.preventDefault(); closeField(); group.focus({ preventScroll: true }); }
    else if (e.key === "Escape") { find(null); closeField(); }
  });
  field.appendChild(input);
  input.focus();
}
function toggleSearch() { if (hits) { find(null); closeField(); } else openField(); }

// ---- hands
function nodeOf(t) {
  while (t && t !== svg) { if (t.node !== undefined) return t.node; t = t.parentNode; }
  return -1;
}
function child(i, w) { // the widest child that can be seen
  var best = -1;
  for (var k = i + 1; k < end[i]; k = end[k]) if (best < 0 || wide[k] > wide[best]) best = k;
  return best;
}
function beside(i, back) {
  var p = parent[i], before = -1;
  if (p < 0) return i;
  for (var k = p + 1; k < end[p]; k = end[k]) {
    if (k === i && back) return before < 0 ? i : before;
    if (before === i && !back) return k;
    before = k;
  }
  return i;
}
svg.addEventListener("click", function (e) {
  if (e.target === reset) return zoom(0);
  if (e.target === search) return toggleSearch();
  var i = nodeOf(e.target);
  if (i >= 0) { cur = i; zoom(i); }
});
svg.addEventListener("mouseover", function (e) {
  var i = nodeOf(e.target);
  details.textContent = i >= 0 ? tell(i) : cur >= 0 ? tell(cur) : "";
});
window.addEventListener("keydown", function (e) {
  var out = inverted ? "ArrowDown" : "ArrowUp", back = inverted ? "ArrowUp" : "ArrowDown", at = cur < 0 ? view : cur, k;
  if (e.altKey || (!standalone && !svg.contains(document.activeElement))) return;
  if ((e.ctrlKey || e.metaKey) ? e.key === "f" : e.key === "/") { e.preventDefault(); openField(); return; }
  if (e.ctrlKey || e.metaKey) return;
  if (e.key === "Escape") { if (hits) find(null); else zoom(view ? Math.max(parent[view], 0) : 0); }
  else if (e.key === "Home") zoom(0);
  else if (e.key === "Enter" || e.key === " ") {
    if (document.activeElement === search) toggleSearch();
    else if (document.activeElement === reset) zoom(0);
    else zoom(at);
  }
  else if (e.key === out) { k = child(at); if (k >= 0) select(k); }
  else if (e.key === back) { if (parent[at] >= 0) select(parent[at]); }
  else if (e.key === "ArrowLeft") select(beside(at, true));
  else if (e.key === "ArrowRight") select(beside(at, false));
  else return;
  e.preventDefault();
});

// ---- a file of its own takes the width of the window
function place() {
  var i, at = { reset: 80, search: 10, matched: 10, hint: 10 };
  if (standalone) {
    width = Math.max(window.innerWidth || width, 640);
    svg.setAttribute("width", width);
    for (i in at) id(i).setAttribute("x", width - at[i]);
  }
  draw();
}
id("controls").removeAttribute("display");
id("hint").removeAttribute("display");
if (standalone) window.addEventListener("resize", place);
place();
