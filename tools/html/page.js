// SPDX-License-Identifier: BSD-2-Clause
// One state: a range of time, a kind, a process, the states of off-CPU blocks. All views follow.
const state = { from: null, to: null, kind: 'on-cpu', process: -1 };
const INVOLUNTARY = (() => {
	const list = new Uint8Array(256);

	for (const c of 'DR')
		list[c.charCodeAt(0)] = 1;
	return list;
})();

// A range ends with its last tick included, as --until does.
function selection(name) {
	return { from: state.from === null ? null : Math.max(0, Math.ceil(tickOf(state.from) - 1e-6)), to: state.to === null ? null : Math.max(0, Math.ceil(tickOf(state.to) - 1e-6)),
		process: state.process, states: (name === 'off-cpu' || name === 'blocked') && $('state-dr').checked ? INVOLUNTARY : null };
}

const rangeText = () => state.from === null && state.to === null ? '' :
	`${state.from === null ? 'start' : signed(state.from)} to ${state.to === null ? 'end' : signed(state.to)}`;

function showKinds() {
	$('kinds').replaceChildren(...facts.kinds.filter(([k]) => model.kinds[k].n).map(([k, unit]) =>
		el('button', { class: k === state.kind ? 'on' : '', 'data-kind': k, onclick: () => { state.kind = k; update(); } },
			`${k}: ${weight(total(model.kinds[k], selection(k)), unit)}`)));
}

function update() {
	const k = model.kinds[state.kind], sel = selection(state.kind);

	$('range').textContent = rangeText();
	$('all').hidden = state.from === null && state.to === null;
	$('states').style.display = state.kind === 'off-cpu' || state.kind === 'blocked' ? '' : 'none';
	$('process').value = String(state.process);
	showKinds();
	showFlame(k, sel);
	$('flame-what').textContent = `${state.kind}, ${weight(flame.tree.sum, k.unit)}${k.moment ? ' at the freeze' : rangeText() ? `, ${rangeText()}` : ''}` +
		(state.process >= 0 ? `, ${model.processes[state.process].label}` : '') + (k.unit === 'microseconds' ? ' (times of many threads add up)' : '');
	drawHeat();
	redrawCharts();
}

function select(from, to) {
	state.from = from;
	state.to = to;
	update();
}

function chooseProcess(i) {
	state.process = i;
	update();
	$('flames').scrollIntoView({ behavior: 'smooth' });
}

function startProcesses() {
	const order = model.processes.map((p, i) => i).sort((a, b) => model.processes[b].events - model.processes[a].events);

	$('process').append(el('option', { value: '-1' }, 'all'), ...order.map((i) => el('option', { value: String(i) }, model.processes[i].label)));
	$('process').addEventListener('change', () => {
		state.process = Number($('process').value);
		update();
	});
}

async function start() {
	await load();
	showHead();
	showVerdict();
	startFlame();
	startHeat();
	startProcesses();
	drawCharts();
	block = null; // every column has been read
	if (!model.kinds[state.kind].n)
		state.kind = (facts.kinds.find(([k]) => model.kinds[k].n) || ['on-cpu'])[0];
	$('state-dr').addEventListener('change', update);
	$('all').addEventListener('click', () => select(null, null));
	update();
	window.stallbox.picture = performance.now();
	// The tables can wait for the first picture.
	await new Promise((resolve) => setTimeout(resolve, 0));
	showUsage();
	showLocks();
	showShot();
	showLosses();
	let timer = 0;

	window.addEventListener('resize', () => {
		clearTimeout(timer);
		timer = setTimeout(() => {
			resizeCharts();
			drawHeat();
			drawFlame();
		}, 120);
	});
	window.stallbox.ready = true;
}

// For tests and for the curious.
window.stallbox = {
	ready: false, state, select, facts, flame, heat, charts, perSecond,
	kind: (name) => { state.kind = name; update(); },
	total: (name, all = true) => total(model.kinds[name], { ...selection(name), states: all ? null : selection(name).states }),
	shown: () => ({ kind: state.kind, sum: flame.tree.sum, nodes: flame.tree.n }),
};
start().catch((e) => {
	document.body.prepend(el('div', { class: 'warn' }, `This page cannot show its data: ${e.message}`));
	throw e;
});
