"use strict";
// Interactive part of the flame graph. Every frame is a <g class="f"> with its place in units
// of weight: data-x, data-w; its depth is in data-d. Nothing is loaded from anywhere.
(function () {
  var svg = document.documentElement.namespaceURI === "http://www.w3.org/2000/svg" &&
    document.documentElement.tagName === "svg" ? document.documentElement : document.querySelector("svg.flame");
  var total = +svg.dataset.total, unit = svg.dataset.unit;
  var left = +svg.dataset.left, width = +svg.dataset.width, charWidth = 7.25;
  var frames = Array.prototype.slice.call(svg.querySelectorAll("g.f"));
  var details = svg.querySelector("#details"), matched = svg.querySelector("#matched");
  var reset = svg.querySelector("#reset"), search = svg.querySelector("#search");
  var view = { x: 0, w: total }, term = null;

  frames.forEach(function (g) {
    g.fx = +g.dataset.x; g.fw = +g.dataset.w; g.fd = +g.dataset.d;
    g.rect = g.querySelector("rect"); g.label = g.querySelector("text");
    g.name = g.querySelector("title").textContent.replace(/ \([^(]*\)$/, "");
  });
  function fit(g, w) {
    var chars = Math.floor((w - 6) / charWidth);
    g.label.textContent = chars < 3 ? "" : g.name.length <= chars ? g.name : g.name.slice(0, chars - 1) + "\u2026";
  }
  function layout() {
    frames.forEach(function (g) {
      var x0 = Math.max(g.fx, view.x), x1 = Math.min(g.fx + g.fw, view.x + view.w);
      var around = g.fx <= view.x && g.fx + g.fw >= view.x + view.w && g.fw > view.w;
      if (x1 <= x0) { g.style.display = "none"; return; }
      var x = left + (x0 - view.x) / view.w * width, w = (x1 - x0) / view.w * width;
      if (w < 0.1) { g.style.display = "none"; return; }
      g.style.display = "";
      g.classList.toggle("parent", around);
      g.rect.setAttribute("x", x.toFixed(2)); g.rect.setAttribute("width", w.toFixed(2));
      g.label.setAttribute("x", (x + 3).toFixed(2)); fit(g, w);
    });
    reset.style.display = view.w < total ? "" : "none";
  }
  function zoom(g) { view = { x: g.fx, w: g.fw }; layout(); }
  function unzoom() { view = { x: 0, w: total }; layout(); }
  function find(text) {
    term = text; var re = null, spans = [], sum = 0, end = -1;
    if (text) { try { re = new RegExp(text, "i"); } catch (e) { re = { test: function (s) { return s.indexOf(text) >= 0; } }; } }
    frames.forEach(function (g) {
      var hit = !!re && g.fd > 0 && re.test(g.name);
      g.classList.toggle("hit", hit);
      if (hit) spans.push([g.fx, g.fx + g.fw]);
    });
    // Nested hits count once.
    spans.sort(function (a, b) { return a[0] - b[0] || b[1] - a[1]; });
    spans.forEach(function (s) { if (s[0] >= end) { sum += s[1] - s[0]; end = s[1]; } });
    matched.textContent = re ? "matched: " + (100 * sum / total).toFixed(1) + " %" : "";
    search.textContent = re ? "clear search" : "search";
  }
  function ask() { if (term) { find(null); return; } var t = window.prompt("Search (regular expression):", ""); if (t) find(t); }
  function frameOf(t) { while (t && t !== svg) { if (t.classList && t.classList.contains("f")) return t; t = t.parentNode; } return null; }
  function tell(e) { var g = frameOf(e.target); details.textContent = g ? g.querySelector("title").textContent : ""; }

  svg.addEventListener("click", function (e) {
    if (e.target === reset) unzoom(); else if (e.target === search) ask();
    else { var g = frameOf(e.target); if (g) { if (g.fd === 0) unzoom(); else zoom(g); } }
  });
  svg.addEventListener("mouseover", tell);
  svg.addEventListener("focusin", tell);
  window.addEventListener("keydown", function (e) {
    if ((e.ctrlKey || e.metaKey) && e.key === "f" || e.key === "/" ) { e.preventDefault(); if (term) find(null); ask(); }
    else if (e.key === "Escape") { if (term) find(null); else unzoom(); }
    else if (e.key === "Enter" || e.key === " ") {
      var g = document.activeElement && frameOf(document.activeElement);
      if (g) { e.preventDefault(); if (g.fd === 0) unzoom(); else zoom(g); }
      else if (document.activeElement === search) ask(); else if (document.activeElement === reset) unzoom();
    }
  });
  svg.stallbox = { find: find, unzoom: unzoom, zoom: zoom, frames: frames, unit: unit };
  layout();
})();
