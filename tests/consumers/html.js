// SPDX-License-Identifier: BSD-2-Clause
// html.js PAGE TOTALS HOSTILE [SHOT]: drives the page. TOTALS: {"on-cpu": 3000, ...} as fold has them;
// HOSTILE: a name that must stand there as text, or "". Prints the selected range for the caller.
const fs = require('fs');
const { open, checks } = require('./browser');

const [file, totals, hostile, shot] = process.argv.slice(2);

(async () => {
	const t = checks(), want = JSON.parse(totals);
	const b = await open();
	const page = b.page, ask = (f, arg) => page.evaluate(f, arg);

	try {
		await page.goto(`file://${file}`);
		await page.waitForFunction(() => window.stallbox && window.stallbox.ready, null, { timeout: 30000 });
		const picture = await ask(() => window.stallbox.picture);

		console.log(`# first picture after ${Math.round(picture)} ms`);
		for (const [kind, n] of Object.entries(want))
			t.is(`the page's total of ${kind} is fold's`, await ask((k) => window.stallbox.total(k), kind), n);
		for (const table of ['byProcess', 'byThread', 'byCgroup'])
			t.is(`samples in the offender table add up: ${table}`, await ask((name) => window.stallbox.facts[name].reduce((n, r) =>
				n + r[1 + 12] + r[1 + 13 + 12], 0), table), want['on-cpu']);
		t.is('the flame graph shows all samples', (await ask(() => window.stallbox.shown())).sum, want['on-cpu']);

		t.is("the verdict is the report's", await page.$$eval('#findings .finding b', (l) => l.map((e) => e.innerText)), JSON.parse(process.env.VERDICT));

		// A sampled span keeps its length; in each second that it covers it counts for all that it stands for.
		const spans = JSON.parse(fs.readFileSync(process.env.RECLAIM, 'utf8')).map(([end, length, many, pages]) => ({ begin: end - length, end, length, many, pages }));
		const drawn = await ask(() => {
			const u = window.stallbox.charts.map(([chart]) => chart).find((chart) => chart.series.some((line) => line.label === 'reclaimed in them'));

			return { time: window.stallbox.perSecond('reclaim', null, null), pages: u && [u.data[0], u.data[u.series.findIndex((line) => line.label === 'reclaimed in them')]] };
		});
		const tick = 1e-4, wrong = [];
		let seen = 0;

		for (const [what, per] of [['time', () => 1], ['pages', (s) => s.pages / s.length]]) {
			const [x, y] = drawn[what] || [[], []];

			x.forEach((middle, i) => {
				const from = middle - 0.5, to = middle + 0.5;
				let sum = 0, slack = 1e-6;

				if (y[i] === null || y[i] === undefined)
					return;
				for (const s of spans.filter((s) => s.end > from - tick && s.begin < to + tick)) {
					sum += Math.max(0, Math.min(s.end, to) - Math.max(s.begin, from)) * s.many * per(s);
					slack += s.begin > from + tick && s.end < to - tick ? 0 : 1.1 * tick * s.many * per(s);
				}
				seen++;
				if (Math.abs(sum - y[i]) > slack + sum * 1e-4)
					wrong.push([what, middle, y[i], sum, slack]);
			});
		}
		t.is('reclaim of each second, time and pages', wrong, []);
		t.ok('in all seconds', seen >= 2 * (spans[spans.length - 1].end - spans[0].end), seen);
		const many = spans.reduce((n, s) => n + s.many, 0);

		t.ok('the page says what sampled spans stand for', many > spans.length && (await page.locator('#facts-cards').innerText()).includes(
			`${spans.length.toLocaleString('en-US')} reclaim (sampled, stand for ${many.toLocaleString('en-US')})`), many);
		t.is('who holds each lock, or is next', await page.$$eval('#locks .hop', (l) => l.map((e) => e.innerText)
			.filter((text) => !text.startsWith('which waits')).map((text) => [text.slice(0, 8), Number((/(\d+)\/(\d+)/.exec(text) || [0, 0, 0])[2])])), JSON.parse(process.env.CHAINS));
		if (!hostile && want['on-cpu'] < 100000) {
			const read = (name) => fs.readFileSync(process.env[name], 'utf8');
			const stacks = await ask(() => {
				const f = window.stallbox.flame.tree, own = Float64Array.from(f.weights), path = [''], out = [];

				for (let i = 1; i < f.n; i++) {
					own[f.parent[i]] -= f.weights[i];
					path[i] = (f.parent[i] ? `${path[f.parent[i]]};` : '') + f.text(i) + (f.class(i) === 'k' ? '_[k]' : '');
				}
				for (let i = 1; i < f.n; i++) {
					if (own[i])
						out.push(`${path[i]} ${own[i]}`);
				}
				return out;
			});

			t.ok('stacks are drawn', stacks.length > 50, stacks.length);
			t.is("the flame graph has fold's stacks", stacks.sort(), read('FOLDED').trimEnd().split('\n').sort());

			await page.locator('#by button', { hasText: 'thread' }).click();
			const busy = JSON.parse(read('BUSY')), rows = await page.$$eval('#usage tbody tr.pick', (l) => l.map((e) => e.cells[0].innerText));

			t.is('the table has every thread', rows.slice().sort(), Object.keys(busy).sort());
			t.is('the greatest first', rows.map((who) => busy[who]), Object.values(busy).sort((a, b) => b - a));
			await page.locator('#by button', { hasText: 'process' }).click();

			await page.locator('#shot-states button', { hasText: 'all' }).click();
			const leaves = await page.$$eval('#shot tbody tr', (l) => l.map((e) => [Number(/\/(\d+)$/.exec(e.cells[0].innerText)[1]), e.cells[4].innerText]));
			const shot = JSON.parse(read('SHOT')), of = new Map(leaves);

			t.ok('threads of the stackshot have stacks', shot.length > 10, shot.length);
			t.is("a thread's stack, the leaf first", shot.map(([tid]) => [tid, of.get(tid)]), shot.map(([tid, name]) => [tid, `${name}_[k]`]));
		}
		const marks = JSON.parse(process.env.MARKS);

		t.is('warnings of what is not ordinary', await page.locator('#damage .warn').count(), marks.filter((m) => m !== 'sealed').length);
		t.is('the end of the sealed bank is a fact', await page.$$eval('#facts-cards dt', (l) => l.filter((e) => e.innerText.toLowerCase() === 'sealed').length), marks.filter((m) => m === 'sealed').length);

		// Drag over the heat map: from the middle of its second column to the fifth.
		await page.locator('#heatmap').scrollIntoViewIfNeeded();
		const box = await page.locator('#heat canvas').boundingBox();
		const heat = await ask(() => ({ left: window.stallbox.heat.left, cw: window.stallbox.heat.cw }));
		const at = (c) => box.x + heat.left + (c + 0.5) * heat.cw;

		await page.mouse.move(at(1), box.y + 130);
		await page.mouse.down();
		await page.mouse.move(at(4), box.y + 100, { steps: 4 });
		await page.mouse.up();
		const range = await ask(() => [window.stallbox.state.from, window.stallbox.state.to]);
		const inRange = await ask(() => window.stallbox.shown().sum);

		t.ok('a drag selects a range of some seconds', range[0] !== null && range[1] - range[0] > 2.5 && range[1] - range[0] < 3.5, range);
		t.ok('the flame graph is that of the range', inRange > 0 && inRange < want['on-cpu'], inRange);
		console.log(`range ${range[0].toFixed(6)} ${range[1].toFixed(6)} ${inRange} ${await ask(() => window.stallbox.total('off-cpu'))}`);
		t.ok('the title says the range', /to/.test(await page.locator('#flame-what').innerText()));
		if (shot)
			await page.screenshot({ path: shot });

		// Zoom by a click, back by Escape; search.
		const node = await ask(() => {
			const f = window.stallbox.flame, d = 1, [i, x, w] = f.rows[d].reduce((a, c) => c[2] > a[2] ? c : a);

			return { i, x: x + w / 2, y: (f.depth - d + 0.5) * 17 };
		});
		const canvas = page.locator('#flame canvas');

		await canvas.click({ position: { x: node.x, y: node.y } });
		t.is('a click zooms', await ask(() => window.stallbox.flame.zoom), node.i);
		await page.keyboard.press('Escape');
		t.is('Escape goes back', await ask(() => window.stallbox.flame.zoom), 0);
		await canvas.hover({ position: { x: node.x, y: node.y } });
		t.ok('hovering says the share', /%/.test(await page.locator('#tip').innerText()));
		await page.fill('#search', '^kfunc');
		t.ok('search says the matching share', /100.00 % matched/.test(await page.locator('#matched').innerText()), await page.locator('#matched').innerText());
		await page.fill('#search', '(');
		t.is('a broken expression is told', await page.locator('#matched').innerText(), 'not a regular expression');
		await page.fill('#search', '');
		await page.click('#all');
		t.is('back to the whole history', (await ask(() => window.stallbox.shown())).sum, want['on-cpu']);
		for (const kind of Object.keys(want)) {
			if (!want[kind])
				continue;
			await page.click(`#kinds button[data-kind="${kind}"]`);
			if (await page.locator('#state-dr').isVisible())
				await page.uncheck('#state-dr');
			t.is(`the flame graph of ${kind} holds all of it`, (await ask(() => window.stallbox.shown())).sum, want[kind]);
			if (await page.locator('#state-dr').isVisible())
				await page.check('#state-dr');
		}
		await page.click('#usage tr.pick');
		t.ok('an offender selects its process', (await ask(() => window.stallbox.state.process)) >= 0);
		await page.setViewportSize({ width: 800, height: 700 });
		await page.waitForFunction(() => document.querySelector('#flame canvas').clientWidth < 800);

		if (hostile) {
			await page.locator('#shot-states button', { hasText: 'all' }).click();
			t.ok('a hostile name stands there as text', (await page.locator('#shot').innerText()).includes(hostile), hostile);
			t.is('and made no element', await ask(() => document.querySelectorAll('main i:not(.scale):not(.key i), main script, h1 *, #why *, #sub *').length), 0);
		}
		t.is('our scripts only', await ask(() => document.querySelectorAll('script').length), 3);
		t.is('no complaint', b.trouble, []);
		t.is('no request leaves the page', b.requests, []);
	} catch (e) {
		t.ok('the page can be driven', false, `${e.stack}\n${b.trouble.join('\n')}`);
	}
	// Had a name become markup after all, its script would not run.
	const evil = file.replace(/[^/]*$/, 'evil.html');

	fs.writeFileSync(evil, fs.readFileSync(file, 'utf8').replace('<main>', '<main><script>window.evil = 1</script><img src="x" onerror="window.evil = 2">'));
	b.trouble.length = 0;
	await page.goto(`file://${evil}`);
	await page.waitForFunction(() => window.stallbox && window.stallbox.ready);
	t.is('a script that is not ours does not run', await ask(() => window.evil || 0), 0);
	t.ok('the browser says that it refused it', b.trouble.some((m) => /Content Security Policy/.test(m)), b.trouble);
	await b.close();
	process.exit(t.failed ? 1 : 0);
})();
