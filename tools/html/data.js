// SPDX-License-Identifier: BSD-2-Clause
// The page's data: facts as JSON, events as columns of varints. tools/html.c writes them.
const $ = (id) => document.getElementById(id);
const facts = JSON.parse($('facts').textContent);

// Elements are made here and nowhere else: names are only ever text.
function el(tag, props = {}, ...children) {
	const e = document.createElement(tag);

	for (const [k, v] of Object.entries(props)) {
		if (k.startsWith('on'))
			e.addEventListener(k.slice(2), v);
		else if (k === 'class')
			e.className = v;
		else if (k.startsWith('data-') || k === 'colspan' || k === 'style')
			e.setAttribute(k, v);
		else
			e[k] = v;
	}
	for (const c of children) {
		if (c !== null && c !== undefined)
			e.append(c);
	}
	return e;
}

function fromBase64(text) {
	if (Uint8Array.fromBase64)
		return Uint8Array.fromBase64(text);
	const s = atob(text), out = new Uint8Array(s.length);

	for (let i = 0; i < s.length; i++)
		out[i] = s.charCodeAt(i);
	return out;
}

async function inflate(bytes) {
	const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));

	return new Uint8Array(await new Response(stream).arrayBuffer());
}

let block = null;

// Values above 2^31 occur (weights, series): the slow path multiplies instead of shifting.
function column(name, Type = Uint32Array, signed = false) {
	const [offset, length, n] = facts.columns[name] || [0, 0, 0];
	const out = new Type(n);
	let at = offset;

	for (let i = 0; i < n; i++) {
		let b = block[at++], v = b & 127, shift = 7;

		while (b > 127 && shift < 28) {
			b = block[at++];
			v |= (b & 127) << shift;
			shift += 7;
		}
		for (let m = 268435456; b > 127; m *= 128) {
			b = block[at++];
			v += (b & 127) * m;
		}
		if (signed)
			v = v % 2 ? -(v + 1) / 2 : v / 2;
		out[i] = v;
	}
	if (at !== offset + length)
		throw new Error(`column ${name}: ${at - offset} bytes read, ${length} expected`);
	return out;
}

const model = { kinds: {}, stackBegin: null, frames: null, processes: [], processOf: null };

// Times are ticks since the first event; offset() of them is seconds from the trigger.
const offsetOf = (tick) => facts.base + tick * facts.tick;
const tickOf = (seconds) => (seconds - facts.base) / facts.tick;

function readKind(name, unit) {
	const t = column(`${name}.t`), n = t.length;

	for (let i = 1; i < n; i++)
		t[i] += t[i - 1];
	return { name, unit, n, t, pair: column(`${name}.pair`), thread: column(`${name}.thread`), cpu: column(`${name}.cpu`, Uint16Array),
		x: column(`${name}.x`, Uint8Array), w: facts.columns[`${name}.w`] ? column(`${name}.w`, Float64Array) : null,
		many: facts.columns[`${name}.many`] ? column(`${name}.many`) : null };
}

// Of sampled spans one stands for so many: w is of all of them.
const standsFor = (k, i) => k.many ? k.many[i] : 1;

// The threads of the stackshot that were not running, as fold counts them.
function blockedKind() {
	const rows = facts.shot.filter((s) => s.s !== 'run'), n = rows.length;
	const k = { name: 'blocked', unit: 'threads', n, t: new Uint32Array(n), pair: new Uint32Array(n), thread: new Uint32Array(n),
		cpu: new Uint16Array(n), x: new Uint8Array(n), w: null, moment: true };

	rows.forEach((s, i) => {
		k.pair[i] = s.p;
		k.thread[i] = s.t;
		k.cpu[i] = s.cpu;
		k.x[i] = s.s.charCodeAt(0);
	});
	return k;
}

async function load() {
	block = await inflate(fromBase64($('columns').textContent));
	const depth = column('depth');

	model.frames = column('frame');
	model.stackBegin = new Uint32Array(depth.length + 1);
	for (let i = 0; i < depth.length; i++)
		model.stackBegin[i + 1] = model.stackBegin[i] + depth[i];
	for (const [name, unit] of facts.kinds)
		model.kinds[name] = name === 'blocked' ? blockedKind() : readKind(name, unit);

	const place = new Map();

	model.processOf = new Uint32Array(facts.threads.length);
	facts.threads.forEach(([, pid, , comm], i) => {
		const key = `${comm} ${pid}`;

		if (!place.has(key)) {
			place.set(key, model.processes.length);
			model.processes.push({ label: key, pid, events: 0 });
		}
		model.processOf[i] = place.get(key);
	});
	for (const k of Object.values(model.kinds)) {
		for (let i = 0; i < k.n; i++)
			model.processes[model.processOf[k.thread[i]]].events++;
	}
	const t = column('series.t', Float64Array, true), v = column('series.v', Float64Array, true);
	let at = 0;

	for (const s of facts.series) {
		s.t = t.subarray(at, at + s.n);
		s.v = v.subarray(at, at + s.n);
		for (let i = 1; i < s.n; i++) {
			s.t[i] += s.t[i - 1];
			s.v[i] += s.v[i - 1];
		}
		at += s.n;
	}
}

const stackNames = (pair) => {
	const out = [];

	for (let i = model.stackBegin[pair + 1]; i > model.stackBegin[pair]; i--)
		out.push(nameOf(model.frames[i - 1]) + (facts.classes[model.frames[i - 1] - 1] === 'k' ? '_[k]' : ''));
	return out; // leaf first
};
const nameOf = (id) => id ? facts.names[id - 1] : '?';
const threadText = (t) => `${facts.threads[t][2]} ${facts.threads[t][1]}/${facts.threads[t][0]}`;

function lowerBound(list, value) {
	let low = 0, high = list.length;

	while (low < high) {
		const mid = (low + high) >> 1;

		if (list[mid] < value)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

const count = (n) => n.toLocaleString('en-US');
function seconds(s) {
	const a = Math.abs(s);

	return a >= 100 ? `${s.toFixed(0)} s` : a >= 1 ? `${s.toFixed(2)} s` : a >= 0.001 ? `${(s * 1e3).toFixed(a < 0.01 ? 2 : 1)} ms` :
		a ? `${(s * 1e6).toFixed(0)} \u00b5s` : '0';
}
const signed = (s) => (s > 0 ? '+' : s < 0 ? '\u2212' : '') + seconds(Math.abs(s));
const weight = (w, unit) => unit === 'microseconds' ? seconds(w / 1e6) : `${count(w)} ${unit}`;
function bytes(n) {
	const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
	let i = 0;

	for (; n >= 1024 && i < 4; i++)
		n /= 1024;
	return `${n.toFixed(n < 10 && i ? 1 : 0)} ${units[i]}`;
}
function short(n) {
	const a = Math.abs(n);

	return a >= 1e9 ? `${(n / 1e9).toFixed(1)}G` : a >= 1e6 ? `${(n / 1e6).toFixed(1)}M` : a >= 1e4 ? `${(n / 1e3).toFixed(0)}k` : `${+n.toFixed(1)}`;
}
