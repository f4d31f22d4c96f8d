#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The package, installed on Debian 12 with its systemd and kernel 6.1 under QEMU: every check of
# tests/service/inside is a check here. Console, journal and bundles are left in build/vm/service.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1
kernel=${KERNEL:-6.1} out=$BUILD/vm/service

if ! image=$(tests/vm/get-image 2>"$TEST_TMP/image") || ! tests/vm/get-kernel "$kernel" >"$TEST_TMP/kernel" 2>&1; then
	skip "the package under systemd in a virtual machine" "no disk or kernel: $(tail -n 1 "$TEST_TMP"/{image,kernel} 2>/dev/null | tail -n 1)"
	finish
fi
ok "the packages are built" debian/make "$BUILD/deb"
rm -rf "$out"
mkdir -p "$out"
cp "$BUILD"/deb/*.deb tests/service/inside tests/lib.sh "$BUILD/tests/helpers/ringcheck" "$BUILD/tests/workloads/dstall" "$out"/
rm -f "$out"/*-dbgsym_*
tests/vm/run --kernel "$kernel" --mem 2G --timeout "${VM_TIMEOUT:-900}" --silent 300 --image "$image" --out "$out" -- \
	bash /out/inside >"$TEST_TMP/out" 2>&1
rc=$?
ok "the machine runs all of them to the end (status $rc)" grep -qE '^1\.\.[0-9]+' "$TEST_TMP/out"
[ "$TEST_FAILED" = 0 ] || sed 's/^/# /' "$TEST_TMP/out" | tail -n 25
while IFS= read -r line; do
	text=${line#* - }
	case $line in
	"not ok"*) fail "$text" "$(grep -A8 -F -- "$line" "$TEST_TMP/out" | tail -n +2 | sed '/^ok\|^not ok/,$d; s/^# //')" ;;
	*"# SKIP"*) skip "${text%% \# SKIP*}" "${text##*\# SKIP }" ;;
	*) pass "$text" ;;
	esac
done < <(grep -E '^(not )?ok\b' "$TEST_TMP/out")
finish
