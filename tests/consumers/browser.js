// SPDX-License-Identifier: BSD-2-Clause
// Headless Chromium for the tests. Pages come from local folders under http://stallbox.test/;
// every other request is refused and remembered, as is all that a page complains about.
const fs = require('fs');
const path = require('path');
const { chromium } = require('playwright-core');

const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm',
	'.json': 'application/json', '.png': 'image/png', '.woff2': 'font/woff2' };
const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';

// folders: path prefix -> folder. Returns { page, trouble, requests, close() }.
async function open(folders = {}, options = {}) {
	const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
	const context = await browser.newContext({ viewport: { width: 1400, height: 1000 }, ...options });
	const page = await context.newPage();
	const trouble = [], requests = [];

	await context.route('**/*', (route) => {
		const url = new URL(route.request().url());
		const prefix = Object.keys(folders).find((p) => url.pathname.startsWith(p));

		if (url.protocol === 'file:' || url.protocol === 'data:' || url.protocol === 'blob:')
			return route.continue();
		if (url.host === 'stallbox.test' && prefix !== undefined) {
			const file = path.join(folders[prefix], url.pathname.slice(prefix.length) || 'index.html');

			if (fs.existsSync(file) && fs.statSync(file).isFile())
				return route.fulfill({ body: fs.readFileSync(file), contentType: types[path.extname(file)] || 'text/plain' });
			if (url.pathname === '/favicon.ico')
				return route.fulfill({ status: 204 });
		}
		requests.push(url.href);
		return route.abort();
	});
	page.on('console', (m) => { if (m.type() === 'error') trouble.push(`console: ${m.text()}`); });
	page.on('pageerror', (e) => trouble.push(`error: ${e.stack || e.message}`));
	page.on('dialog', (d) => { trouble.push(`dialog: ${d.message()}`); d.dismiss(); });
	return { page, trouble, requests, close: () => browser.close() };
}

// TAP beside the shell's: one line per check, numbers are given by the caller's count.
function checks() {
	const state = { failed: 0 };

	state.is = (what, got, want) => {
		const ok = JSON.stringify(got) === JSON.stringify(want);

		console.log(ok ? `ok - ${what}` : `not ok - ${what}\n# got:      ${JSON.stringify(got)}\n# expected: ${JSON.stringify(want)}`);
		state.failed += ok ? 0 : 1;
	};
	state.ok = (what, ok, detail = '') => {
		console.log(ok ? `ok - ${what}` : `not ok - ${what}\n# ${String(detail).split('\n').join('\n# ')}`);
		state.failed += ok ? 0 : 1;
	};
	return state;
}

module.exports = { open, checks };
