#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The packages are the same bytes wherever, whenever and by whomever they are built. lintian has no complaint.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1

ok "the packages are built, and lintian is content" debian/make "$TEST_TMP/one"
# Elsewhere, in a longer path; with another mask, language, time zone, home and number of jobs.
mkdir -p "$TEST_TMP/a/much/longer/way/to/it"
git ls-files -z | tar --null -T - -cf - | tar -xf - -C "$TEST_TMP/a/much/longer/way/to/it"
other() {
	cd "$TEST_TMP/a/much/longer/way/to/it" || return
	git init -q . && git add -A && umask 077
	LC_ALL=C.UTF-8 TZ=Asia/Kathmandu HOME=$TEST_TMP DEB_BUILD_OPTIONS=parallel=1 debian/make "$TEST_TMP/two"
}
ok "and once more elsewhere" other
is "they are the same bytes" "$(cd "$TEST_TMP/two" && sha256sum ./*.deb)" "$(cd "$TEST_TMP/one" && sha256sum ./*.deb)"
is "the version is the program's" "$(sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)" "$(sed -n 's/^#define SB_VERSION "\(.*\)"/\1/p' format/base.h)"
# Programs of a package have no right that the unit did not give them.
is "nothing is setuid" "$(for d in "$TEST_TMP"/one/*.deb; do dpkg-deb -c "$d"; done | grep -c '^-[rwx-]*s')" 0
finish
