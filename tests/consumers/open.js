// SPDX-License-Identifier: BSD-2-Clause
// open.js PAGE: the page opens without a complaint.
const { open, checks } = require('./browser');

(async () => {
	const t = checks(), b = await open();

	try {
		await b.page.goto(`file://${process.argv[2]}`);
		await b.page.waitForFunction(() => window.stallbox && window.stallbox.ready, null, { timeout: 30000 });
		t.ok('the page opens', true);
	} catch (e) {
		t.ok('the page opens', false, e.stack);
	}
	t.is('no complaint', b.trouble, []);
	t.is('no request leaves the page', b.requests, []);
	await b.close();
	process.exit(t.failed ? 1 : 0);
})();
