// SPDX-License-Identifier: BSD-2-Clause
// speedscope.js PROFILE NAME TOTAL LEAF [SHOT]: opens the profile in speedscope and reads from its
// sandwich view what it makes of it.
const fs = require('fs');
const os = require('os');
const path = require('path');
const { open, checks } = require('./browser');

const [profile, name, total, leaf, shot] = process.argv.slice(2);

(async () => {
	const t = checks();
	const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'speedscope.'));

	fs.copyFileSync(profile, path.join(folder, 'profile.json'));
	const b = await open({ '/data/': folder, '/': path.join(__dirname, '../node_modules/speedscope/dist/release') });

	try {
		await b.page.goto('http://stallbox.test/index.html#profileURL=http%3A%2F%2Fstallbox.test%2Fdata%2Fprofile.json');
		await b.page.waitForFunction((n) => document.body.innerText.includes(n), name, { timeout: 20000 });
		await b.page.keyboard.press('3'); // sandwich, heaviest self first
		await b.page.waitForFunction(() => [...document.querySelectorAll('td')].some((td) => /%\)$/.test(td.innerText)));
		const rows = await b.page.$$eval('tr', (list) => list.map((tr) => [...tr.querySelectorAll('td')].map((td) => td.innerText)));
		const profiles = rows.filter((r) => r.length === 3 && /^\d+$/.test(r[0])).map((r) => [r[1], r[2]]);
		const row = rows.find((r) => r.length >= 3 && /%\)$/.test(r[1]));
		t.is('speedscope: total', profiles[0], [name, Number(total).toLocaleString('en-US')]);
		t.is('speedscope: weight of the hottest leaf', row[1].replace(/,/g, '').split(' ')[0], leaf);
		t.is('speedscope: no element of a name', await b.page.$$eval('i, b, script:not([src])', (l) =>
			l.filter((e) => /alert|evil|w</.test(e.textContent)).length), 0);
		if (shot)
			await b.page.screenshot({ path: shot });
		t.is('speedscope: no complaint', b.trouble, []);
		t.is('speedscope: no request leaves', b.requests, []);
	} catch (e) {
		t.ok('speedscope opens the profile', false, e.stack);
	}
	await b.close();
	fs.rmSync(folder, { recursive: true });
	process.exit(t.failed ? 1 : 0);
})();
