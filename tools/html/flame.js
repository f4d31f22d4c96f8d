// SPDX-License-Identifier: BSD-2-Clause
// A flame graph on a canvas: of a range of time, of a process, of some states.
const ROW = 17, THIN = 0.3, TALL = 1; // pixels: narrower frames are not drawn; do not make it taller
const flame = { tree: null, zoom: 0, match: null, inverted: false, hover: -1, canvas: null, ctx: null, width: 0, depth: 0, rows: null };

// What passes: { from, to } in ticks, process (-1: all), states (null: all).
function passes(k, sel) {
	let first = 0, last = k.n;

	if (!k.moment) {
		first = sel.from === null ? 0 : lowerBound(k.t, sel.from);
		last = sel.to === null ? k.n : lowerBound(k.t, sel.to);
	}
	return [first, last];
}

function total(k, sel) {
	const [first, last] = passes(k, sel);
	let sum = 0;

	for (let i = first; i < last; i++) {
		if (sel.process >= 0 && model.processOf[k.thread[i]] !== sel.process)
			continue;
		if (sel.states && !sel.states[k.x[i]])
			continue;
		sum += k.w ? k.w[i] : 1;
	}
	return sum;
}

// Nodes in columns; parents stand before their children.
function buildTree(k, sel) {
	const [first, last] = passes(k, sel);
	const comms = new Map(), commOf = new Uint32Array(facts.threads.length), commName = [];
	const rows = new Map();
	const parent = [-1], name = [0], self = [0], child = new Map();
	let sum = 0;

	facts.threads.forEach(([, , comm], i) => {
		if (!comms.has(comm)) {
			comms.set(comm, comms.size);
			commName.push(comm);
		}
		commOf[i] = comms.get(comm);
	});
	const pairs = model.stackBegin.length - 1, size = pairs * commName.length;
	const flat = size <= 4e6 ? new Float64Array(size) : null, touched = [];

	for (let i = first; i < last; i++) {
		const t = k.thread[i];

		if (sel.process >= 0 && model.processOf[t] !== sel.process)
			continue;
		if (sel.states && !sel.states[k.x[i]])
			continue;
		const w = k.w ? k.w[i] : 1, key = commOf[t] * pairs + k.pair[i];

		sum += w;
		if (flat) {
			if (flat[key] === 0)
				touched.push(key);
			flat[key] += w;
		} else {
			rows.set(key, (rows.get(key) || 0) + w);
		}
	}
	const base = facts.names.length + 1; // names of threads get numbers behind those of frames
	const names = base + commName.length;
	const step = (at, id) => {
		const key = at * names + id, found = child.get(key);

		if (found !== undefined)
			return found;
		parent.push(at);
		name.push(id);
		self.push(0);
		child.set(key, parent.length - 1);
		return parent.length - 1;
	};
	const put = (key, w) => {
		const pair = key % pairs;
		let at = step(0, base + Math.floor(key / pairs));

		for (let i = model.stackBegin[pair]; i < model.stackBegin[pair + 1]; i++)
			at = step(at, model.frames[i]);
		self[at] += w;
	};

	if (flat)
		for (const key of touched)
			put(key, flat[key]);
	else
		for (const [key, w] of rows)
			put(key, w);

	const n = parent.length, weights = Float64Array.from(self), depth = new Uint16Array(n), x = new Float64Array(n);
	const kids = Array.from({ length: n }, () => null);

	for (let i = n - 1; i > 0; i--) {
		weights[parent[i]] += weights[i];
		(kids[parent[i]] ||= []).push(i);
	}
	const text = (i) => i === 0 ? 'all' : name[i] >= base ? commName[name[i] - base] : nameOf(name[i]);
	let deepest = 0;

	for (let i = 0; i < n; i++) {
		let at = x[i];

		if (i) {
			depth[i] = depth[parent[i]] + 1;
			deepest = Math.max(deepest, depth[i]);
		}
		if (!kids[i])
			continue;
		kids[i].sort((a, b) => {
			const p = text(a), q = text(b);

			return p < q ? -1 : p > q ? 1 : a - b;
		});
		for (const c of kids[i]) {
			x[c] = at;
			at += weights[c];
		}
	}
	return { kind: k, sum, n, parent, name, weights, depth, x, kids, text, deepest,
		class: (i) => i === 0 ? 'all' : name[i] >= base ? 'c' : facts.classes[name[i] - 1] || 'x' };
}

function hash(s) {
	let h = 2166136261;

	for (let i = 0; i < s.length; i++)
		h = Math.imul(h ^ s.charCodeAt(i), 16777619);
	return (h >>> 8) & 255;
}

const colours = new Map();
function colour(tree, i) {
	const cls = tree.class(i), s = tree.text(i), key = cls + s;
	let c = colours.get(key);

	if (!c) {
		const h = hash(s);

		// As in the SVG (tools/flame.c).
		const k = h & 7, shades = { k: [186 + 3 * k, 42, 66 + 2 * k], u: [20 + 3 * k, 84, 66 + k], c: [250 + 2 * k, 26, 82 + k], j: [92 + 4 * k, 46, 64 + k], x: [40, 4, 76 + k] };
		const [hue, saturation, light] = shades[cls] || shades.x;

		c = cls === 'all' ? '#e4e4de' : cls === 'm' ? '#fff' : `hsl(${hue},${saturation}%,${light}%)`;
		colours.set(key, c);
	}
	return c;
}

// [x, width] in pixels of a node, given the zoomed one; null: not in sight.
function place(i) {
	const t = flame.tree, z = flame.zoom, scale = flame.width / (t.weights[z] || 1);
	const left = (t.x[i] - t.x[z]) * scale, w = t.weights[i] * scale;

	if (left + w < 0 || left > flame.width)
		return null;
	return [Math.max(left, 0), Math.min(left + w, flame.width) - Math.max(left, 0)];
}

const rowY = (d) => (flame.inverted ? d : flame.depth - d) * ROW;

function drawFlame() {
	const t = flame.tree, box = $('flame'), ratio = window.devicePixelRatio || 1;

	flame.width = box.clientWidth;
	// How deep it goes where it can be seen.
	flame.depth = 0;
	const todo = [0], visible = [];
	const up = new Set();

	for (let a = flame.zoom; a > 0; a = t.parent[a])
		up.add(t.parent[a]);
	while (todo.length) {
		const i = todo.pop(), p = up.has(i) ? [0, flame.width] : place(i);

		if (!p || p[1] < THIN)
			continue;
		visible.push([i, p[0], p[1], up.has(i)]);
		if (p[1] >= TALL)
			flame.depth = Math.max(flame.depth, t.depth[i]);
		for (const c of t.kids[i] || []) {
			if (!up.has(i) || c === flame.zoom || up.has(c))
				todo.push(c);
		}
	}
	const height = (flame.depth + 1) * ROW + 2, canvas = flame.canvas, ctx = flame.ctx;

	canvas.width = Math.round(flame.width * ratio);
	canvas.height = Math.round(height * ratio);
	canvas.style.width = `${flame.width}px`;
	canvas.style.height = `${height}px`;
	ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
	ctx.clearRect(0, 0, flame.width, height);
	ctx.font = '12px system-ui, "Segoe UI", Roboto, sans-serif';
	ctx.textBaseline = 'middle';
	flame.rows = Array.from({ length: flame.depth + 1 }, () => []);
	for (const [i, x, w, above] of visible) {
		if (t.depth[i] > flame.depth)
			continue;
		const y = rowY(t.depth[i]), matched = flame.match && i && flame.match(t.text(i));

		flame.rows[t.depth[i]].push([i, x, w]);
		ctx.globalAlpha = above ? 0.45 : flame.match && !matched && i ? 0.4 : 1;
		ctx.fillStyle = matched ? '#e0218a' : colour(t, i);
		ctx.fillRect(x, y, Math.max(w - (w > 2 ? 0.6 : 0), 0.4), ROW - 1);
		if (w > 26) {
			const text = t.text(i), fit = Math.floor((w - 6) / 6.1);

			ctx.globalAlpha = above ? 0.6 : 1;
			ctx.fillStyle = matched ? '#fff' : '#1b1f24';
			ctx.fillText(text.length <= fit ? text : `${text.slice(0, Math.max(fit - 1, 1))}\u2026`, x + 3, y + ROW / 2, w - 4);
		}
	}
	ctx.globalAlpha = 1;
	if (!t.sum) {
		ctx.fillStyle = '#5b6470';
		ctx.fillText('nothing of this kind in this range', 12, ROW / 2);
	}
	$('reset').hidden = flame.zoom === 0;
}

function flameAt(event) {
	const r = flame.canvas.getBoundingClientRect(), x = event.clientX - r.left;
	const row = Math.floor((event.clientY - r.top) / ROW), d = flame.inverted ? row : flame.depth - row;
	let best = -1;

	for (const [i, left, w] of flame.rows[d] || []) {
		if (x >= left && x < left + Math.max(w, 1))
			best = i;
	}
	return best;
}

const share = (part, whole) => whole ? `${(100 * part / whole).toFixed(2)} %` : '0 %';

function flameText(i) {
	const t = flame.tree, k = t.kind;

	return `${t.text(i)}\n${weight(t.weights[i], k.unit)}, ${share(t.weights[i], t.sum)}` +
		(flame.zoom && t.weights[flame.zoom] ? `, ${share(t.weights[i], t.weights[flame.zoom])} of ${t.text(flame.zoom)}` : '');
}

// Weight below matching frames, each path counted once.
function matchedWeight() {
	const t = flame.tree, todo = [0];
	let sum = 0;

	while (todo.length) {
		const i = todo.pop();

		if (i && flame.match(t.text(i)))
			sum += t.weights[i];
		else
			todo.push(...(t.kids[i] || []));
	}
	return sum;
}

function setSearch(text) {
	flame.match = null;
	$('matched').textContent = '';
	if (text) {
		try {
			const re = new RegExp(text, 'i');

			flame.match = (s) => re.test(s);
		} catch (e) {
			$('matched').textContent = 'not a regular expression';
		}
	}
	if (flame.match && flame.tree)
		$('matched').textContent = `${share(matchedWeight(), flame.tree.sum)} matched`;
}

function showFlame(k, sel) {
	flame.tree = buildTree(k, sel);
	flame.zoom = 0;
	setSearch($('search').value);
	drawFlame();
}

function startFlame() {
	flame.canvas = el('canvas', { tabIndex: 0 });
	flame.ctx = flame.canvas.getContext('2d');
	$('flame').append(flame.canvas);
	flame.canvas.addEventListener('mousemove', (e) => {
		const i = flameAt(e);

		flame.hover = i;
		showTip(i >= 0 ? flameText(i) : '', e);
	});
	flame.canvas.addEventListener('mouseleave', () => showTip(''));
	flame.canvas.addEventListener('click', (e) => {
		const i = flameAt(e);

		if (i >= 0) {
			flame.zoom = i;
			drawFlame();
		}
	});
	const reset = () => {
		flame.zoom = 0;
		drawFlame();
	};

	flame.canvas.addEventListener('keydown', (e) => {
		const t = flame.tree;

		if (e.key === 'Escape')
			reset();
		else if (e.key === 'Backspace' && flame.zoom)
			flame.zoom = t.parent[flame.zoom], drawFlame();
		else if (e.key === 'Enter' && t.kids[flame.zoom])
			flame.zoom = t.kids[flame.zoom].reduce((a, b) => t.weights[b] > t.weights[a] ? b : a), drawFlame();
	});
	$('reset').addEventListener('click', reset);
	$('search').addEventListener('input', () => {
		setSearch($('search').value);
		drawFlame();
	});
	$('invert').addEventListener('click', () => {
		flame.inverted = !flame.inverted;
		$('invert').classList.toggle('on', flame.inverted);
		drawFlame();
	});
}

function showTip(text, event) {
	const tip = $('tip');

	tip.hidden = !text;
	if (!text)
		return;
	tip.textContent = text;
	const w = tip.offsetWidth, h = tip.offsetHeight;

	tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, window.innerWidth - w - 8))}px`;
	tip.style.top = `${event.clientY + 18 + h > window.innerHeight ? event.clientY - h - 10 : event.clientY + 18}px`;
}
