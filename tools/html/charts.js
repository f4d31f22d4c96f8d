// SPDX-License-Identifier: BSD-2-Clause
// Counters and gauges over time, and the heat map of samples.
const charts = [];

const find = (name, scope = '') => facts.series.find((s) => s.name === name && s.scope === scope && s.n > 1);

// Growth of a counter per second, at the end of each step.
function rate(s, factor = 1) {
	const x = [], y = [];

	for (let i = 1; i < s.n; i++) {
		const dt = (s.t[i] - s.t[i - 1]) / 1e3;

		if (dt > 0) {
			x.push(s.t[i] / 1e3);
			y.push(Math.max(0, s.v[i] - s.v[i - 1]) * factor / dt);
		}
	}
	return [x, y];
}
const level = (s, factor = 1) => [Array.from(s.t, (t) => t / 1e3), Array.from(s.v, (v) => v * factor)];

function addUp(tables) {
	const sums = new Map();

	for (const [x, y] of tables)
		x.forEach((t, i) => sums.set(t, (sums.get(t) || 0) + y[i]));
	const x = [...sums.keys()].sort((a, b) => a - b);

	return [x, x.map((t) => sums.get(t))];
}

// Shares of all CPUs, in percent, from ticks of each.
function cpuShare(name) {
	const part = addUp(facts.series.filter((s) => s.name === name && s.n > 1).map((s) => rate(s)));
	const all = new Map();

	for (const s of facts.series) {
		if (/^cpu\.(user|system|irq|idle)$/.test(s.name) && s.n > 1) {
			const [x, y] = rate(s);

			x.forEach((t, i) => all.set(t, (all.get(t) || 0) + y[i]));
		}
	}
	return [part[0], part[0].map((t, i) => all.get(t) ? 100 * part[1][i] / all.get(t) : null)];
}

// Spans become a value for each second: a span gives each second that it covers its share of
// give(i), which is its length in seconds unless said otherwise, times the spans that it stands for.
function perSecond(kind, states, open, give) {
	const k = model.kinds[kind], all = Object.values(model.kinds).filter((m) => m.n && !m.moment);
	const first = Math.floor(facts.base), last = Math.max(...all.map((m) => Math.ceil(offsetOf(m.t[m.n - 1]))), facts.shotAt ?? 0, first + 1);
	const sum = new Float64Array(Math.ceil(last - first)), at = facts.shotAt === null ? null : facts.shotAt - first, ended = new Set();
	const put = (begin, end, value) => {
		const from = Math.max(0, begin), length = end - begin;

		for (let c = Math.floor(from); c < end && c < sum.length; c++)
			sum[c] += value * (length > 0 ? (Math.min(end, c + 1) - Math.max(from, c)) / length : 1);
	};

	if (sum.length > 7200)
		return null;
	for (let i = 0; i < k.n; i++) {
		const end = offsetOf(k.t[i]) - first, many = standsFor(k, i), length = k.w[i] / many / 1e6;

		if (states && !states.includes(String.fromCharCode(k.x[i])))
			continue;
		if (at !== null && end >= at && end - length <= at)
			ended.add(k.thread[i]);
		put(end - length, end, (give ? give(i) : length) * many);
	}
	// What had not ended at the freeze, and has no record of its end either.
	for (const s of at !== null && open ? facts.shot : []) {
		const length = open(s);

		if (length > 0 && !ended.has(s.t))
			put(at - length, at, length);
	}
	return sum.some((v) => v > 0) ? [Array.from(sum, (v, i) => first + i + 0.5), Array.from(sum)] : null;
}

function pages(name) {
	const list = column(`reclaim.${name}`);

	return perSecond('reclaim', null, null, (i) => list[i]);
}

function plans() {
	const psi = (which) => { const s = find(`pressure.${which}`) || find(`psi.${which}`); return s && rate(s, 1e-4); };
	const per = (...names) => { const l = names.map((n) => find(n)).filter(Boolean); return l.length ? addUp(l.map((s) => rate(s))) : null; };
	const gauge = (name, factor) => { const s = find(name); return s && level(s, factor); };
	const cpu = (name) => { const t = cpuShare(name); return t[0].length ? t : null; };

	return [
		{ title: 'Pressure', unit: '% of time stalled', lines: [['memory some', '#e08a1e', psi('memory.some')], ['memory full', '#b3261e', psi('memory.full')],
			['cpu some', '#2f6feb', psi('cpu.some')], ['io some', '#7a5cc0', psi('io.some')], ['io full', '#4b2e83', psi('io.full')]] },
		{ title: 'Stuck threads', unit: 'at once, from recorded waits and the threads at the freeze', lines: [
			['D state', '#b3261e', perSecond('off-cpu', 'D', (s) => s.s === 'D' ? s.for : 0)], ['waiting for a CPU', '#2f6feb', perSecond('off-cpu', 'R', (s) => s.s === 'R' ? s.for : 0)],
			['in reclaim', '#e08a1e', perSecond('reclaim', null, (s) => s.reclaim)], ['waiting for a lock', '#7a5cc0', perSecond('lock-wait', null, (s) => s.lockFor)]] },
		{ title: 'CPU', unit: '% of all CPUs', lines: [['system', '#b3261e', cpu('cpu.system')], ['user', '#2f6feb', cpu('cpu.user')], ['irq', '#7a5cc0', cpu('cpu.irq')]] },
		{ title: 'Reclaim', unit: 'pages a second', lines: [['scanned in recorded spans', '#d46a9f', pages('scanned')], ['reclaimed in them', '#0f8f8c', pages('reclaimed')], ['scanned', '#b3261e', per('vmstat.pgscan_direct', 'vmstat.pgscan_kswapd')],
			['reclaimed', '#1d7a4b', per('vmstat.pgsteal_direct', 'vmstat.pgsteal_kswapd')],
			['refaulted', '#e08a1e', per('vmstat.workingset_refault_file', 'vmstat.workingset_refault_anon')], ['major faults', '#7a5cc0', per('vmstat.pgmajfault')]] },
		{ title: 'Memory', unit: 'GiB', lines: [['available', '#1d7a4b', gauge('meminfo.MemAvailable', 1 / 1048576)], ['free', '#2f6feb', gauge('meminfo.MemFree', 1 / 1048576)],
			['anonymous', '#e08a1e', gauge('meminfo.AnonPages', 1 / 1048576)], ['slab', '#7a5cc0', gauge('meminfo.Slab', 1 / 1048576)]] },
		{ title: 'Run queue', unit: 'threads at each reading', lines: [['running or waiting for a CPU', '#2f6feb', gauge('stat.procs_running')], ['blocked on I/O', '#b3261e', gauge('stat.procs_blocked')]] },
		{ title: 'Scheduler', unit: 'a second', lines: [['context switches', '#2f6feb', per('stat.ctxt')], ['forks', '#b3261e', per('stat.processes')], ['page faults', '#1d7a4b', per('vmstat.pgfault')]] },
	];
}

function mark(u) {
	const { left, top, width, height } = u.bbox, ctx = u.ctx;
	const bar = (seconds, colour) => {
		const x = Math.round(u.valToPos(seconds, 'x', true));

		if (x < left || x > left + width)
			return;
		ctx.fillStyle = colour;
		ctx.fillRect(x - 1, top, 2 * (window.devicePixelRatio || 1) / 2 + 0.5, height);
	};

	ctx.save();
	if (state.from !== null || state.to !== null) {
		const a = Math.max(left, u.valToPos(state.from ?? u.scales.x.min, 'x', true));
		const b = Math.min(left + width, u.valToPos(state.to ?? u.scales.x.max, 'x', true));

		ctx.fillStyle = 'rgba(47,111,235,.13)';
		if (b > a)
			ctx.fillRect(a, top, Math.max(b - a, 2), height);
	}
	for (const m of facts.marks)
		bar(m.at, '#b0b7c0');
	bar(0, '#b3261e');
	ctx.restore();
}

function drawCharts() {
	const list = $('chart-list');
	const shown = plans().map((plan) => [plan, plan.lines.filter(([, , table]) => table && table[0].length)]).filter(([, lines]) => lines.length);
	const ends = shown.flatMap(([, lines]) => lines.flatMap(([, , [x]]) => [x[0], x[x.length - 1]]));
	const range = [Math.min(...ends, 0), Math.max(...ends, 0.5)]; // all alike, the trigger in sight

	for (const [plan, lines] of shown) {
		const box = el('div', { class: 'chart' }, el('h3', {}, `${plan.title} `, el('small', {}, plan.unit)));
		const holder = el('div');

		box.append(holder);
		list.append(box);
		const u = new uPlot({
			width: Math.max(holder.clientWidth, 300), height: 150,
			scales: { x: { time: false, range }, y: { range: (v, min, max) => [Math.min(0, min), max > 0 ? max * 1.08 : 1] } },
			cursor: { sync: { key: 'time' }, drag: { x: true, y: false, setScale: false }, points: { size: 5 } },
			axes: [{ values: (v, ticks) => ticks.map((t) => `${t} s`), size: 30, stroke: '#5b6470', grid: { stroke: '#eef0f3' } },
				{ values: (v, ticks) => ticks.map(short), size: 52, stroke: '#5b6470', grid: { stroke: '#eef0f3' } }],
			series: [{ label: 'from trigger', value: (v, x) => x === null ? '' : signed(x) },
				...lines.map(([label, stroke]) => ({ label, stroke, width: 1.6, spanGaps: true, points: { show: false }, value: (v, y) => y === null || y === undefined ? '' : short(y) }))],
			hooks: { draw: [mark], setSelect: [(p) => {
				if (p.select.width > 3)
					select(p.posToVal(p.select.left, 'x'), p.posToVal(p.select.left + p.select.width, 'x'));
				p.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
			}] },
		}, uPlot.join(lines.map(([, , table]) => table)), holder);

		charts.push([u, holder]);
	}
	resizeCharts(); // the grid has its columns only now
	if (!charts.length)
		list.append(el('div', { class: 'empty' }, 'This bundle has no counters.'));
}

const redrawCharts = () => charts.forEach(([u]) => u.redraw(false));
const resizeCharts = () => charts.forEach(([u, holder]) => u.setSize({ width: Math.max(holder.clientWidth, 300), height: 150 }));

// ---- heat map -------------------------------------------------------------------------------
const heat = { rows: 50, columns: 0, start: 0, cells: null, max: 1, blank: null, canvas: null, cw: 0, ch: 5, cpu: -1, drag: null, from: -1, to: -1, left: 46, top: 4 };

function countHeat() {
	const k = model.kinds['on-cpu'];
	const first = k.n ? Math.floor(offsetOf(k.t[0])) : 0, last = k.n ? Math.floor(offsetOf(k.t[k.n - 1])) : -1;

	heat.start = first;
	heat.columns = Math.min(last - first + 1, 3600);
	heat.cells = new Uint32Array(Math.max(heat.columns, 0) * heat.rows);
	heat.max = 1;
	// A second without any event at all is not an idle one: its records are gone.
	heat.blank = new Uint8Array(Math.max(heat.columns, 0)).fill(1);
	for (const m of Object.values(model.kinds)) {
		for (let i = 0; i < m.n && !m.moment; i++) {
			const c = Math.floor(offsetOf(m.t[i]) - first);

			if (c >= 0 && c < heat.columns)
				heat.blank[c] = 0;
		}
	}
	for (let i = 0; i < k.n; i++) {
		if (heat.cpu >= 0 && k.cpu[i] !== heat.cpu)
			continue;
		const at = offsetOf(k.t[i]) - first, c = Math.floor(at);

		if (c < 0 || c >= heat.columns)
			continue;
		const cell = c * heat.rows + Math.min(heat.rows - 1, Math.floor((at - c) * heat.rows));

		heat.cells[cell] += k.w ? k.w[i] : 1;
		heat.max = Math.max(heat.max, heat.cells[cell]);
	}
}

// From pale to dark red; the square root keeps single samples in sight.
function heatColour(n) {
	if (!n)
		return '#f3f4f6';
	const f = Math.sqrt(n / heat.max);

	return `hsl(${44 - 40 * f},${88 - 10 * f}%,${88 - 52 * f}%)`;
}

function drawHeat() {
	const box = $('heat'), ratio = window.devicePixelRatio || 1, width = box.clientWidth;

	if (!heat.columns) {
		box.replaceChildren(el('div', { class: 'empty' }, 'No on-CPU sample in this bundle.'));
		return;
	}
	heat.cw = Math.max(0.25, Math.min(26, (width - heat.left - 4) / heat.columns));
	const height = heat.top + heat.rows * heat.ch + 22, canvas = heat.canvas, ctx = canvas.getContext('2d');

	canvas.width = Math.round(width * ratio);
	canvas.height = Math.round(height * ratio);
	canvas.style.width = `${width}px`;
	canvas.style.height = `${height}px`;
	ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
	ctx.clearRect(0, 0, width, height);
	$('heat-max').textContent = `${count(heat.max)} samples in ${1000 / heat.rows} ms`;
	const gap = heat.cw > 4 ? 0.6 : 0;
	const from = state.from === null ? -1 : cellOf(state.from, true), to = state.to === null ? heat.cells.length : cellOf(state.to, false);
	const [a, b] = heat.drag ? [Math.min(heat.from, heat.to), Math.max(heat.from, heat.to) + 1] : [from, to];
	const some = heat.drag || state.from !== null || state.to !== null;

	for (let i = 0; i < heat.cells.length; i++) {
		const c = Math.floor(i / heat.rows), r = i % heat.rows;

		ctx.globalAlpha = some && (i < a || i >= b) ? 0.32 : 1;
		ctx.fillStyle = heat.blank[c] ? (c + r) % 6 === 0 ? '#c9ced6' : '#fff' : heatColour(heat.cells[i]);
		ctx.fillRect(heat.left + c * heat.cw, heat.top + (heat.rows - 1 - r) * heat.ch, heat.cw - gap, heat.ch - (gap ? 0.5 : 0));
	}
	ctx.globalAlpha = 1;
	ctx.font = '11px system-ui, sans-serif';
	ctx.fillStyle = '#5b6470';
	ctx.textAlign = 'right';
	for (const ms of [0, 500, 980])
		ctx.fillText(`${ms} ms`, heat.left - 5, heat.top + (heat.rows - ms / 20) * heat.ch - (ms === 980 ? -3 : 0));
	ctx.textAlign = 'center';
	const every = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((s) => s * heat.cw >= 48) || 1200;

	for (let c = 0; c < heat.columns; c++) {
		if ((heat.start + c) % every === 0)
			ctx.fillText(`${heat.start + c} s`, heat.left + (c + 0.5) * heat.cw, height - 6);
	}
	// The trigger: its cell, framed, and its column.
	const c = -heat.start;

	if (c >= 0 && c <= heat.columns) {
		ctx.strokeStyle = '#b3261e';
		ctx.lineWidth = 2;
		ctx.beginPath();
		ctx.moveTo(heat.left + c * heat.cw, heat.top - 4);
		ctx.lineTo(heat.left + c * heat.cw, heat.top + heat.rows * heat.ch + 4);
		ctx.stroke();
		ctx.fillStyle = '#b3261e';
		ctx.textAlign = c > heat.columns / 2 ? 'right' : 'left';
		ctx.fillText('trigger', heat.left + c * heat.cw + (c > heat.columns / 2 ? -4 : 4), heat.top + heat.rows * heat.ch + 14);
	}
}

// The cell that begins at or before (after, for the end of a range) this time.
function cellOf(offset, begin) {
	const i = (offset - heat.start) * heat.rows;

	return begin ? Math.floor(i + 1e-6) : Math.ceil(i - 1e-6);
}
const cellTime = (i) => heat.start + i / heat.rows;

function cellAt(event) {
	const r = heat.canvas.getBoundingClientRect();
	const c = Math.floor((event.clientX - r.left - heat.left) / heat.cw), y = Math.floor((event.clientY - r.top - heat.top) / heat.ch);

	return Math.max(0, Math.min(heat.columns - 1, c)) * heat.rows + Math.max(0, Math.min(heat.rows - 1, heat.rows - 1 - y));
}

function startHeat() {
	const cpus = [...new Set(model.kinds['on-cpu'].cpu)].sort((a, b) => a - b);

	heat.canvas = el('canvas');
	$('heat').append(heat.canvas);
	$('heat-cpu').append(el('option', { value: '-1' }, 'all'), ...cpus.map((c) => el('option', { value: String(c) }, String(c))));
	$('heat-cpu').addEventListener('change', () => {
		heat.cpu = Number($('heat-cpu').value);
		countHeat();
		drawHeat();
	});
	countHeat();
	drawHeat();
	heat.canvas.addEventListener('mousedown', (e) => {
		heat.drag = true;
		heat.from = heat.to = cellAt(e);
		drawHeat();
		e.preventDefault();
	});
	window.addEventListener('mousemove', (e) => {
		if (heat.drag) {
			heat.to = cellAt(e);
			drawHeat();
		}
	});
	window.addEventListener('mouseup', () => {
		if (!heat.drag)
			return;
		heat.drag = null;
		const a = Math.min(heat.from, heat.to), b = Math.max(heat.from, heat.to) + 1;

		select(cellTime(a), cellTime(b));
	});
	heat.canvas.addEventListener('mousemove', (e) => {
		const i = cellAt(e);

		$('heat-line').textContent = heat.blank[Math.floor(i / heat.rows)] ? 'no record of this second is left' : `${signed(cellTime(i))}: ${count(heat.cells[i])} samples in ${1000 / heat.rows} ms`;
	});
}
