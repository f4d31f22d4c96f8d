// SPDX-License-Identifier: BSD-2-Clause
// schema.js SCHEMA FILE [--lines]: validates a JSON file, or each line of it. Says what is wrong.
const fs = require('fs');
const Ajv = require('ajv');

const [schema, file, lines] = process.argv.slice(2);
const validate = new Ajv({ allErrors: false, strict: false }).compile(JSON.parse(fs.readFileSync(schema, 'utf8')));
const text = fs.readFileSync(file, 'utf8');
const records = lines ? text.trimEnd().split('\n') : [text];
let bad = 0;

records.forEach((line, i) => {
	if (validate(JSON.parse(line)))
		return;
	if (bad++ < 5)
		console.log(`record ${i + 1}: ${JSON.stringify(validate.errors.slice(-3))}: ${line.slice(0, 300)}`);
});
console.log(`${records.length} records, ${bad} bad`);
process.exit(bad ? 1 : 0);
