#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The manifests in deploy/kubernetes as kubectl's kustomize builds them, against Kubernetes' own schema, without a cluster.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/lib.sh"

cp -r "$ROOT/deploy/kubernetes" "$TEST_TMP/k" && cd "$TEST_TMP" || exit 1
cp k/upload/credentials.example k/upload/credentials
for f in namespace serviceaccount daemonset; do
	echo ---
	cat k/base/$f.yaml
done >plain.yaml
run_script kubernetes.js --plain plain.yaml
# Debian 12 has a kubectl with a kustomize of 2019, which knows no patches by path.
if kubectl kustomize --help 2>/dev/null | grep -q -- --output; then
	for k in base upload; do
		ok "$k: kustomize builds it" kubectl kustomize k/$k -o $k.yaml
	done
	run_script kubernetes.js base.yaml upload.yaml
else
	skip "kustomize builds it" "no kubectl of 1.21 or later"
fi

# What is in the files is what the programs take.
for k in base upload; do
	ok "$k: stallbox takes the configuration" "$STALLBOX" check-config --config k/$k/stallbox.conf
done
like "the uploader has what it needs" "$("$BUILD/stallbox-upload" --config k/upload/stallbox.conf --once --status x 2>&1)" \
	'^error: \[Upload\] CredentialsFile: /etc/stallbox-upload/credentials: No such file or directory$'
finish
