#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# What make install leaves behind, read by systemd's own tools without a machine to boot: make check-service boots one.
. "$(dirname "$0")/../lib.sh"
cd "$ROOT" || exit 1
D=$TEST_TMP/root UNITS=$TEST_TMP/root/usr/lib/systemd/system
DIRS=(DESTDIR="$D" prefix=/usr sysdir=/usr/lib)

ok "make install fills a directory" make -s install "${DIRS[@]}"
is "no name of a directory is left to fill in" "$(grep -rl '@[a-z]*dir@' "$D" | wc -l)" 0
# Every way to run the agent gives it what the manual page lists; the unit sets priority and limit instead of two.
capabilities() { grep -oE "$1[A-Z_]+" | sed 's/^\(CAP_\)\?/CAP_/' | sort; }
LISTED=$(sed -n '/^\.SH CAPABILITIES/,/^All others/p' recorder/stallboxd.8 | grep '^\.B' | capabilities CAP_)
is "capabilities: doctor looks for those of the manual page" "$(sed -n '/capabilities\[\]/,/^};/p' recorder/doctor.c | capabilities CAP_)" "$LISTED"
is "the unit bounds them" "$(grep ^CapabilityBoundingSet= service/stallboxd.service | capabilities CAP_)" \
	"$(grep -vE 'SYS_NICE|IPC_LOCK' <<<"$LISTED")"
is "the container is given them" "$(sed -n 's/.*--cap-add=\([^ ]*\).*/\1/p' Containerfile | capabilities '')" "$LISTED"
is "the DaemonSet is given them" "$(sed -n 's/.*add: \[\(.*\)\]/\1/p' deploy/kubernetes/base/daemonset.yaml | capabilities '')" "$LISTED"
if ! command -v systemd-analyze >/dev/null; then
	skip "units as systemd reads them" "systemd-analyze is not installed"
	finish
fi
# A warning is no error to it: all that it says is one here. It looks for the programs below the same root, and
# for units of systemd's own.
mkdir -p "$D/etc" "$D/bin" "$D/usr/bin" "$D/usr/lib/systemd"
install -m 0755 /bin/true "$D/bin/kill" # of the system
for unit in "$UNITS"/*.service "$UNITS"/*.socket; do
	[ -e "$unit" ] || continue
	name=${unit##*/}
	said=$(systemd-analyze verify --man=no --recursive-errors=no --root="$D" "$name" 2>&1)
	is "$name: nothing to complain about" "$said" ""
	case $name in
	stallboxd.service) limit=30 ;; # CAP_SYS_ADMIN has to stay
	*.service) limit=15 ;;
	*) continue ;;
	esac
	ok "$name: exposed by $((limit / 10)).$((limit % 10)) at most" systemd-analyze security --no-pager --offline=true \
		--threshold=$limit --root="$D" "$name"
done
if [ "$(id -u)" = 0 ]; then
	is "sysusers.d: read without a complaint" "$(systemd-sysusers --root="$D" 2>&1 | grep -v '^Creating ')" ""
	is "tmpfiles.d: read without a complaint" "$(systemd-tmpfiles --create --root="$D" 2>&1)" ""
	is "bundles belong to the group" "$(stat -c '%a %g' "$D/var/lib/stallbox/captures")" \
		"2750 $(sed -n 's/^stallbox:x:\([0-9]*\):.*/\1/p' "$D/etc/group")"
else
	skip "users and directories" "only root can make them"
fi
ok "the catalog can be read" bash -c "mkdir -p '$D/var/lib/systemd/catalog' && journalctl --root='$D' --update-catalog"
# Each entry of the catalog is one that the agent writes, and the other way round.
is "entries of the catalog" "$(sed -n 's/^-- //p' service/stallbox.catalog | sort)" \
	"$(sed -n 's/^#define .*_ID "\([0-9a-f]*\)"/\1/p' recorder/announce.c | sort)"
ok "make uninstall takes it away" make -s uninstall "${DIRS[@]}"
is "all of it" "$(find "$D" -name '*stallbox*' -not -path '*/etc/*' -not -path '*/var/*' -not -path '*/run/*')" ""

# The token that the gateway's unit makes.
token() { sh service/stallbox-gateway-token "$TEST_TMP/token" && cat "$TEST_TMP/token"; }
first=$(token)
like "a token is made" "$first" '^[0-9a-f]{64}$'
is "for its user alone" "$(stat -c %a "$TEST_TMP/token")" 600
is "once" "$(token)" "$first"
is "and nothing beside it" "$(find "$TEST_TMP" -name 'token?*')" ""

# What a unit may take covers what the programs allow the processes that they start.
bytes() { echo $(($(sed -n "s/^#define $2 (\([0-9]*\)ULL << \([0-9]*\)).*/\1 << \2/p" "$1"))); }
max_of() { numfmt --from=iec "$(sed -n 's/^MemoryMax=//p' "service/$1.service")"; }
needs=$(($(bytes gateway/render.h RENDER_MEMORY) + $(bytes gateway/render.h RENDER_PAGE)))
between "the gateway has room for a page" "$(max_of stallbox-gateway)" $((needs + (64 << 20))) $((needs * 2))
needs=$(($(bytes upload/pyroscope.c EXPORT_MEMORY_BYTES) + $(bytes upload/pyroscope.c PROFILE_BYTES)))
between "the uploader has room for a profile" "$(max_of stallbox-upload)" $((needs + (32 << 20))) $((needs * 2))
limit_of() { awk -v name="$2" '$2 == "name:" { at = $3 == name } at && /limits:/ { found = 1 } found && /memory:/ { print $2; exit }' "deploy/kubernetes/$1/daemonset.yaml"; }
is "a pod's gateway has as much" "$(numfmt --from=iec-i "$(limit_of base gateway)")" "$(max_of stallbox-gateway)"
is "a pod's uploader has as much" "$(numfmt --from=iec-i "$(limit_of upload upload)")" "$(max_of stallbox-upload)"
mounts=$(awk '$2 == "name:" && match($0, /[^ ]/) == 9 { at = $3 == "upload" } at && /mountPath:/ { print $2 }' deploy/kubernetes/upload/daemonset.yaml)
for dir in $(sed -n 's/.*preset = "\(\/[a-z/]*\)\/captures".*/\1/p' config/table.c); do
	is "and sees the bundles below $dir" "$(grep -c "^$dir\$" <<<"$mounts")" 1
done

# The image: each library that a program wants is of a package that it gets.
if command -v dpkg-query >/dev/null; then
	for p in stallboxd stallbox stallbox-gateway stallbox-upload; do
		missing=
		for lib in $(objdump -p "$BUILD/$p" | awk '/NEEDED/ { print $2 }'); do
			package=$(dpkg-query -S "*/$lib" | sed 's/:.*//' | sort -u | head -n 1)
			[ "$package" = libc6 ] || grep -qw -- "$package" Containerfile || missing+=" $package"
		done
		is "the image has what $p is linked with" "$missing" ""
	done
	ok "and certificates to trust" grep -qw ca-certificates Containerfile
else
	skip "what the image has" "dpkg is not installed"
fi
ok "no build and no credentials go into it" sh -c "grep -qx build .containerignore && grep -qx deploy/kubernetes/upload/credentials .containerignore"

# The command that removes what is pinned where the unit is being stopped.
mkdir "$TEST_TMP/bin"
printf '#!/bin/sh\necho "7 stallboxd.service $JOB running"\n' >"$TEST_TMP/bin/systemctl"
printf '#!/bin/sh\necho "$@" >>%s/ran\n[ "$*" != "--unload" ] || exit ${STATUS:-0}\n' "$TEST_TMP" >"$TEST_TMP/bin/stallboxd"
chmod +x "$TEST_TMP"/bin/*
sed "s|@sbindir@|$TEST_TMP/bin|g" service/stallboxd-stopped >"$TEST_TMP/stopped"
stopped() { # JOB [STATUS of --unload]: what it ran
	rm -f "$TEST_TMP/ran"
	JOB=$1 STATUS=${2:-0} PATH=$TEST_TMP/bin:$PATH sh "$TEST_TMP/stopped" stallboxd.service >/dev/null
	tr '\n' ';' <"$TEST_TMP/ran" 2>/dev/null
}
is "a stop removes what is pinned" "$(stopped stop)" "--unload;"
is "with the configuration wrong, too" "$(stopped stop 78)" "--unload;--unload --config /dev/null;"
is "a restart does not" "$(stopped restart 2>/dev/null)" ""
is "a start that failed does not" "$(stopped start 2>/dev/null)" ""
is "a crash does not" "$(stopped '' 2>/dev/null)" ""
finish
