// SPDX-License-Identifier: BSD-2-Clause
// kubernetes.js [--plain] FILE...: the objects of YAML files, checked without a cluster. Kubernetes' OpenAPI schema as TypeScript
// types (kubernetes-types) refuses unknown fields and values of another type; what the recorder's manifests promise
// beyond that is looked up in them. --plain: as they are in the tree, before kustomize has given images a version.
const fs = require('fs');
const path = require('path');
const ts = require('typescript');
const yaml = require('yaml');

const plain = process.argv[2] === '--plain', files = process.argv.slice(plain ? 3 : 2);

const say = (good, what, why) => {
	console.log(`${good ? 'ok' : 'not ok'} - ${what}`);
	if (!good && why)
		console.log(why);
};
const objectsOf = (file) => yaml.parseAllDocuments(fs.readFileSync(file, 'utf8')).map((d) => {
	if (d.errors.length)
		throw d.errors[0];
	return d.toJS();
});

// What the compiler says against these objects, one line for each complaint.
function complaints(objects) {
	const name = path.join(__dirname, 'manifest.ts');
	const source = objects.map((o, i) => {
		const [group, version] = o.apiVersion.includes('/') ? o.apiVersion.split('/') : ['core', o.apiVersion];
		return `const o${i}: import('kubernetes-types/${group.split('.')[0]}/${version}').${o.kind} = ${JSON.stringify(o, null, 1)};`;
	}).join('\n');
	const options = { noEmit: true, strict: true, module: ts.ModuleKind.CommonJS, moduleResolution: ts.ModuleResolutionKind.Node10, types: [] };
	const host = ts.createCompilerHost(options);
	const get = host.getSourceFile;
	host.getSourceFile = (f, ...rest) => f === name ? ts.createSourceFile(f, source, rest[0]) : get(f, ...rest);
	return ts.getPreEmitDiagnostics(ts.createProgram([name], options, host)).map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n'));
}

function checkPod(file, spec) {
	const inside = (c) => `${file}: ${c.name}`;
	const volumes = new Set(spec.volumes.map((v) => v.name));

	for (const c of spec.containers) {
		const s = c.securityContext;

		say(!s.privileged && s.allowPrivilegeEscalation === false && s.readOnlyRootFilesystem && s.capabilities.drop.join() === 'ALL',
		    `${inside(c)} is given no more than it names`);
		say(c.name === 'stallboxd' ? s.capabilities.add.length > 0 : !s.capabilities.add && s.runAsNonRoot && s.seccompProfile.type === 'RuntimeDefault',
		    `${inside(c)}: ${c.name === 'stallboxd' ? 'it alone has capabilities' : 'no capability, no root'}`);
		say(c.volumeMounts.every((m) => volumes.has(m.name)), `${inside(c)}: every mount has its volume`);
		say(c.resources.limits.memory && !c.resources.limits.cpu, `${inside(c)}: memory is bounded, CPU not throttled`);
		if (!plain)
			say(/^.+:.+$/.test(c.image) && !c.image.endsWith(':latest'), `${inside(c)}: the image has a version`);
	}
	say(spec.containers.filter((c) => c.livenessProbe).length >= 2, `${file}: recorder and gateway are probed`);
	say(spec.tolerations.some((t) => t.operator === 'Exists' && !t.key && !t.effect), `${file}: every node is tolerated`);
	say(spec.priorityClassName === 'system-node-critical' && spec.automountServiceAccountToken === false, `${file}: priority, and no token`);
}

for (const file of files) {
	const objects = objectsOf(file), kinds = objects.map((o) => o.kind).sort();
	const wrong = complaints(objects);
	const set = objects.find((o) => o.kind === 'DaemonSet');

	say(wrong.length === 0, `${file}: ${kinds.join(', ')} follow Kubernetes' schema`, wrong.join('\n'));
	checkPod(file, set.spec.template.spec);
	// The check can fail:
	for (const [what, spoil] of [['a field that there is none of', (s) => { s.priorityClass = 'x'; }],
				     ['a number for a text', (s) => { s.containers[0].image = 7; }],
				     ['a container without a name', (s) => { delete s.containers[0].name; }]]) {
		const copy = structuredClone(set);

		spoil(copy.spec.template.spec);
		say(complaints([copy]).length > 0, `${file}: ${what} would be refused`);
	}
}
