// SPDX-License-Identifier: BSD-2-Clause
// Facts, verdict, offenders, locks, threads, losses.
function showHead() {
	const t = facts.trigger, when = t.wall > 0 ? new Date(t.wall * 1e3).toISOString().replace('T', ' ').replace(/\.\d+Z/, ' UTC') : 'unknown time';
	const card = (key, value) => value && $('facts-cards').append(el('div', {}, el('dt', {}, key), el('dd', {}, value)));

	$('title').textContent = `${facts.host}: ${t.name || 'unknown trigger'}`;
	$('why').textContent = (t.threshold > 0 ? `${t.value === null ? '?' : +t.value.toFixed(3)} ${t.unit}, threshold ${t.threshold} ${t.unit}` : '') +
		(t.detail ? `${t.threshold > 0 ? ': ' : ''}${t.detail}` : '');
	$('sub').textContent = `${when} \u00b7 ${t.spec} \u00b7 kernel ${facts.kernel} ${facts.arch} \u00b7 ${facts.cpus} CPUs \u00b7 ${bytes(facts.memory)}`;
	card('history', facts.first === null ? 'nothing' : `${seconds(Math.max(0, -facts.first))} before the trigger, ${seconds(Math.max(0, facts.last))} after`);
	const stands = (k) => k.many ? k.many.reduce((n, v) => n + v, 0) : k.n;
	const events = (k) => `${count(k.n)} ${k.name}${stands(k) > k.n ? ` (sampled, stand for ${count(stands(k))})` : ''}`;

	card('events', facts.kinds.filter(([k]) => k !== 'blocked' && model.kinds[k].n).map(([k]) => events(model.kinds[k])).join(', ') || 'none');
	if (facts.shot.length) {
		const of = (...states) => facts.shot.filter((s) => states.includes(s.s)).length;

		card('threads at the freeze', `${count(facts.shot.length)}: ${count(of('D'))} in D state, ${count(of('R'))} waiting for a CPU, ${count(of('run'))} running` +
			(facts.shotTruncated ? `; the walk was cut` : ''));
	}
	card('sampling', facts.period ? `${(1 / facts.period).toFixed(0)} Hz on each CPU, off-CPU from ${seconds(facts.threshold)} on` : '');
	if (facts.cost && facts.cost.span > 0)
		card('cost of the recorder', `${(100 * facts.cost.run / facts.cost.span / Math.max(facts.cpus, 1)).toFixed(3)} % of the machine; agent ${bytes(facts.cost.rss)}, kernel maps ${bytes(facts.cost.maps)}`);
	card('written', facts.durable === null ? '' : `history durable ${seconds(facts.preDurable ?? facts.durable)} after the trigger, all after ${seconds(facts.durable)}`);
	card('recorded by', facts.producer);
	if (!facts.complete || facts.bad)
		$('damage').append(el('div', { class: 'warn' }, facts.complete ? 'This bundle is damaged: some of it could not be read.' :
			'This bundle has no end: it was still being written, or its writer was stopped. Names may be missing.'));
	const ordinary = (m) => m.kind === 'sealed'; // in every bundle, nothing to warn of

	for (const m of facts.marks.filter(ordinary))
		card(m.kind, `${signed(m.at)}, ${m.text}`);
	for (const m of facts.marks.filter((m) => !ordinary(m)))
		$('damage').append(el('div', { class: 'warn' }, `${signed(m.at)} ${m.kind}: ${m.text}`));
	$('foot').textContent = `stallbox ${facts.version}. Times are seconds from the trigger. This page needs no network; it holds names of programs and files of the recorded host.`;
}

const sure = (n) => n >= 85 ? 'almost certainly' : n >= 70 ? 'very likely' : n >= 50 ? 'likely' : 'possibly';

function showVerdict() {
	const r = facts.report, list = (title, items) => items.length ? el('div', {}, el('span', { class: 'soft' }, title), el('ul', {}, ...items)) : null;

	for (const c of r.causes) {
		$('findings').append(el('div', { class: `finding ${c.fallback ? 'none' : c.confidence < 50 ? 'weak' : ''}` },
			el('div', {}, el('b', {}, c.title), c.fallback ? '' : ` (${sure(c.confidence)}; ${c.confidence} of 100)`),
			...c.text.map((t) => el('p', {}, t)),
			c.evidence.length ? el('ul', {}, ...c.evidence.map((e) => el('li', {}, e.text, e.command ? el('code', {}, e.command) : null))) : null,
			list('This could be wrong:', c.doubts.map((d) => el('li', {}, d)))));
	}
	const open = [...r.unjudged.map((u) => `${u.rule}: the bundle does not tell ${u.missing}`), ...r.missing];

	if (open.length)
		$('findings').append(el('details', {}, el('summary', {}, 'What was not judged, and what is missing and could change this answer'), el('ul', {}, ...open.map((t) => el('li', {}, t)))));
}

// ---- a table that sorts ---------------------------------------------------------------------
function sortable(box, columns, rows, onRow) {
	let by = columns.findIndex((c) => c.first), body = null, limit = 200;
	const draw = () => {
		const c = columns[by];

		rows.sort((a, b) => {
			const x = c.value(a), y = c.value(b);

			return typeof x === 'string' ? (x < y ? -1 : x > y ? 1 : 0) : y - x;
		});
		body.replaceChildren(...rows.slice(0, limit).map((r) => {
			const tr = el('tr', { class: onRow ? 'pick' : '' }, ...columns.map((k) => {
				const v = k.value(r), text = k.text ? k.text(v, r) : v;

				return el('td', { class: `${k.left ? 'l' : ''} ${k.class || ''} ${v === 0 ? 'zero' : ''}`, title: k.left ? text : '' }, v === 0 ? '\u00b7' : text);
			}));

			if (onRow)
				tr.addEventListener('click', () => onRow(r, tr, columns.length));
			return tr;
		}));
		if (rows.length > limit)
			body.append(el('tr', {}, el('td', { class: 'l', colspan: columns.length }, el('button', { onclick: () => { limit += 1000; draw(); } }, `${count(rows.length - limit)} more`))));
		[...head.children].forEach((th, i) => th.classList.toggle('sorted', i === by));
	};
	const head = el('tr', {}, ...columns.map((c, i) => el('th', { class: `${c.left ? 'l' : ''} ${c.class || ''}`, 'data-k': i, onclick: () => { by = i; draw(); } }, c.title)));

	body = el('tbody');
	box.replaceChildren(el('table', {}, el('thead', {}, head), body));
	draw();
	return { set: (list) => { rows = list; draw(); } };
}

// ---- offenders --------------------------------------------------------------------------------
// As enum usage_value.
const USAGE = { usr: 0, sys: 1, d: 2, s: 3, other: 4, runq: 5, reclaim: 6, scanned: 7, reclaimed: 8, lockWait: 9, mmapWait: 10, lockHold: 11, samples: 12 };
const USAGE_VALUES = 13;

function showUsage() {
	const tables = [['process', facts.byProcess], ['thread', facts.byThread], ['cgroup', facts.byCgroup]];
	const value = (key, side) => (r) => r[1 + side * USAGE_VALUES + USAGE[key]];
	const spans = facts.usageSpan || [0, 0];
	const percent = (side) => (v) => spans[side] > 0 ? `${(v / 1e7 / spans[side]).toFixed(1)}` : '?';
	const time = (v) => seconds(v / 1e9);
	const pair = (title, key, form) => [0, 1].map((side) => ({ title: side ? 'after' : title, class: side ? 'after' : '', value: value(key, side), text: form(side) }));
	const columns = [
		{ title: 'who', left: true, value: (r) => r[0] || '[unknown]' },
		...pair('% usr', 'usr', percent), ...pair('% sys', 'sys', percent), ...pair('D state', 'd', () => time), ...pair('run queue', 'runq', () => time),
		...pair('reclaim', 'reclaim', () => time), ...pair('scanned', 'scanned', () => short), ...pair('reclaimed', 'reclaimed', () => short),
		...pair('lock wait', 'lockWait', () => time), ...pair('mmap hold', 'lockHold', () => time),
		{ title: 'at the freeze', value: (r) => r[1 + 2 * USAGE_VALUES] * 1e6 + r[2 + 2 * USAGE_VALUES], text: (v, r) => {
			const [d, run, s, other] = r.slice(1 + 2 * USAGE_VALUES);

			return [[d, 'D'], [run, 'R'], [s, 'S'], [other, 'other']].filter(([n]) => n).map(([n, t]) => `${n} ${t}`).join(' ');
		} },
		{ title: 'busy', first: true, value: (r) => [0, 1].reduce((n, side) => n + value('usr', side)(r) + value('sys', side)(r) + value('d', side)(r) + value('runq', side)(r), 0), text: time },
	];
	const buttons = tables.filter(([, t]) => t && t.length).map(([name, t]) => el('button', { onclick: () => show(name, t) }, name));
	const show = (name, t) => {
		buttons.forEach((b) => b.classList.toggle('on', b.textContent === name));
		sortable($('usage'), columns, t.filter((r) => r.slice(1).some((v) => v)), name === 'cgroup' ? null : (r) => {
			const m = /^(.*) (\d+)(?:\/\d+)?$/.exec(r[0]), i = m ? model.processes.findIndex((p) => p.pid === Number(m[2])) : -1;

			if (i >= 0)
				chooseProcess(i);
		});
	};

	$('by').append(...buttons);
	if (buttons.length)
		show(...tables.find(([, t]) => t && t.length));
	else
		$('usage').append(el('div', { class: 'empty' }, 'Nothing was used.'));
}

// ---- locks ------------------------------------------------------------------------------------
const stateText = (s) => ({ run: 'running', R: 'waiting for a CPU', D: 'D state', S: 'sleeping', I: 'idle', T: 'stopped', t: 'traced' })[s] || s;

function shotText(s) {
	return `${stateText(s.s)}${s.s === 'run' ? ` on CPU ${s.cpu}` : s.for !== undefined ? ` for ${seconds(s.for)}` : ''}${s.call ? `, in ${s.call}` : ''}` +
		(s.reclaim !== undefined ? `, reclaiming for ${seconds(s.reclaim)}` : '');
}

function showLocks() {
	for (const l of facts.locks.slice(0, 50)) {
		const first = facts.shot[l.waiters[0]], of = l.mmap ? ` of ${threadText(first.t)}` : '';
		const longest = Math.max(...l.waiters.map((w) => facts.shot[w].lockFor ?? facts.shot[w].for ?? 0));
		const box = el('div', { class: 'lock' }, el('h3', {}, el('b', {}, `${count(l.waiters.length)} waiting`), ` for ${l.name}${of} (${l.addr}), the first for ${seconds(longest)}`));

		l.chain.forEach((hop, i) => {
			const shot = hop.shot !== undefined ? facts.shot[hop.shot] : null;
			const line = el('div', { class: 'hop', style: `margin-left:${8 + 22 * i}px` }, i ? 'which waits for: ' : hop.free ? 'next is ' : 'held by ',
				el('b', {}, hop.known ? threadText(hop.t) : 'a reader, unknown'), el('span', { class: 'how' }, ` (${hop.why || hop.how})${shot ? `, ${shotText(shot)}` : ''}`));

			if (hop.p !== undefined && stackNames(hop.p).length)
				line.append(el('details', {}, el('summary', {}, hop.sampled ? `last sample, ${seconds(hop.sampled)} before` : 'stack'), el('pre', {}, stackNames(hop.p).join('\n'))));
			box.append(line);
		});
		box.append(el('details', {}, el('summary', {}, 'who waits'), el('pre', {}, l.waiters.slice(0, 500).map((w) => {
			const s = facts.shot[w];

			return `${threadText(s.t)}  ${s.lock || ''} for ${seconds(s.lockFor ?? s.for ?? 0)}`;
		}).join('\n') + (l.waiters.length > 500 ? `\nand ${count(l.waiters.length - 500)} more` : ''))));
		$('locks').append(box);
	}
	if (!facts.locks.length)
		$('locks').append(el('div', { class: 'empty' }, facts.shot.length ? 'No thread waited for a lock that is known.' : 'This bundle has no stackshot.'));
	else if (facts.locks.length > 50)
		$('locks').append(el('div', { class: 'line' }, `and ${count(facts.locks.length - 50)} more locks; 'stallbox blame' shows all`));
}

// ---- threads ----------------------------------------------------------------------------------
function showShot() {
	const leaf = (r) => stackNames(r.p)[0] || '';
	const columns = [
		{ title: 'thread', left: true, value: (r) => threadText(r.t) },
		{ title: 'state', left: true, value: (r) => stateText(r.s) },
		{ title: 'for', first: true, value: (r) => r.for ?? 0, text: seconds },
		{ title: 'CPU', value: (r) => String(r.cpu) },
		{ title: 'in', left: true, value: leaf },
		{ title: 'system call', left: true, value: (r) => r.call || '' },
		{ title: 'lock', left: true, value: (r) => r.lock ? `${r.lock} for ${seconds(r.lockFor ?? 0)}` : '' },
		{ title: 'reclaiming', value: (r) => r.reclaim ?? 0, text: seconds },
	];
	const states = new Set(facts.shot.map((r) => r.s));
	let only = states.has('D') ? 'D' : '';
	const table = sortable($('shot'), columns, facts.shot.slice(), (r, tr, n) => {
		const open = tr.nextSibling && tr.nextSibling.className === 'detail';

		if (open) {
			tr.nextSibling.remove();
			return;
		}
		tr.after(el('tr', { class: 'detail' }, el('td', { class: 'stack', colspan: n }, stackNames(r.p).join('\n') || 'no stack')));
	});
	const draw = () => {
		const text = $('shot-search').value.toLowerCase();
		const list = facts.shot.filter((r) => (!only || r.s === only) && (!text || threadText(r.t).toLowerCase().includes(text) ||
			stackNames(r.p).some((n) => n.toLowerCase().includes(text))));

		table.set(list);
		$('shot-count').textContent = `${count(list.length)} of ${count(facts.shot.length)}`;
		buttons.forEach((b, i) => b.classList.toggle('on', keys[i] === only));
	};
	const keys = ['', ...['D', 'R', 'run', 'S', 'I', 'T', 't', '?'].filter((s) => states.has(s))];
	const buttons = keys.map((s) => el('button', { onclick: () => { only = s; draw(); } }, s ? stateText(s) : 'all'));

	$('shot-states').append(...buttons.flatMap((b) => [b, ' ']));
	$('shot-search').addEventListener('input', draw);
	$('shot-when').textContent = facts.shotAt === null ? 'none' : `${signed(facts.shotAt)}; a row shows the stack`;
	draw();
}

function showLosses() {
	const list = $('loss-list'), since = facts.lossesSince === null ? '' : `Counted since recording began, ${seconds(-facts.lossesSince)} before the trigger.`;

	if (facts.losses.length)
		list.append(el('div', { class: 'scroll' }, el('table', {}, el('thead', {}, el('tr', {}, el('th', {}, 'count'), el('th', { class: 'l' }, 'of'), el('th', { class: 'l' }, 'cause'), el('th', { class: 'l' }, 'what'))),
			el('tbody', {}, ...facts.losses.map((l) => el('tr', {}, el('td', {}, count(l.count)), el('td', { class: 'l' }, `${l.kind} ${l.unit}`), el('td', { class: 'l' }, l.cause), el('td', { class: 'l' }, l.what)))))),
		el('div', { class: 'line' }, since));
	else
		list.append(el('div', { class: 'empty' }, facts.complete ? 'Nothing was lost.' : 'Unknown: the bundle was cut short.'));
	for (const [what, why] of facts.missing)
		list.append(el('div', { class: 'line' }, `This kernel could not tell: ${what} (${why})`));
}
