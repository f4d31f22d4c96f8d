#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Bundles by the names that list gives: where the agent keeps them, or the configuration says, in /etc, /run and /var/lib
# of this test's own.
if [ -z "${OWN_MOUNTS:-}" ]; then
	root=$([ "$(id -u)" = 0 ] || echo -r)
	if ! why=$(unshare $root -m true 2>&1); then
		echo "1..0 # SKIP no mount namespace: $why"
		exit 77
	fi
	OWN_MOUNTS=1 exec unshare $root -m "$0"
fi
tree=$(cd "$(dirname "$0")/../.." && pwd)
exec 9<"$tree"
for d in /etc /run /var/lib; do
	mount -t tmpfs none $d || exit 1
	case $tree in $d/*) mkdir -p "$tree" && mount --bind /proc/self/fd/9 "$tree" ;; esac
done
exec 9<&-
. "$tree/tests/lib.sh"

A=h-20261120T233350.042Z-a.stall.pb.zst
B=h-20261120T233350.042Z-b.stall.pb.zst
CONF=/etc/stallbox/stallbox.conf
SOCKET=$TEST_TMP/agent.sock
cd "$TEST_TMP" || exit 1
mkdir -p /etc/stallbox /var/lib/stallbox/captures /run/stallbox/captures
printf '%s\n' 'ffffffff81000000 T _text' 'ffffffff81001000 T do_one' 'ffffffff81002000 T do_two' 'ffffffff81003000 T the_end' >kallsyms
"$BUILD/tests/helpers/make_unnamed" unnamed boot x 0 ffffffff81001010 ffffffff81002020
# put DIRECTORY NAME
put() { mkdir -p "$1" && cp unnamed "$1/$2"; }
names() { "$STALLBOX" list --json | jq -r '.directory + "/" + .file' | sort; }
fold() { "$STALLBOX" fold --kind on-cpu "$1" | sed 's/ [0-9]*$//'; }
# each COMMAND NAME...
each() {
	local n
	for n in "${@:2}"; do "$STALLBOX" "$1" "$n" || return; done
}
named='prog;do_two_[k];do_one_[k]'

# ---- neither an agent nor a configuration ----
put /var/lib/stallbox/captures $A
put /run/stallbox/captures $B
is "list: the defaults" "$(names)" "/run/stallbox/captures/$B
/var/lib/stallbox/captures/$A"
for c in info report verify fold html; do
	ok "$c finds a name of either" each "$c" $A $B
done
ok "recover, too" "$STALLBOX" recover -o recovered $B
ok "and makes the bundle of it" cmp recovered unnamed
ok "symbolize: a copy" "$STALLBOX" symbolize --kallsyms kallsyms -o copy $A
is "has names" "$(fold copy)" "$named"
ok "of what is as it was" cmp unnamed /var/lib/stallbox/captures/$A
ok "symbolize: where it lies" "$STALLBOX" symbolize --kallsyms kallsyms $A
is "adds them there" "$(fold /var/lib/stallbox/captures/$A)" "$named"
put . $A
is "a file of that name here goes first" "$(fold $A | grep -c do_two)" 0
rm $A
is "what nobody has is not found" "$("$STALLBOX" verify none.stall.pb.zst 2>&1; echo $?)" "error: 'none.stall.pb.zst': No such file or directory
3"
is "a directory of no name is none" "$("$STALLBOX" list '' 2>&1; echo $?)" "error: cannot list '': No such file or directory
3"
is "nor is one of a name too long" "$("$STALLBOX" list "/$(printf '%04096d' 0)" 2>&1 | sed "s/00*'/'/")" "error: cannot list '/': File name too long"

# ---- the configuration ----
put /var/lib/elsewhere $B
printf '[Recorder]\nSocket=%s\n[Storage]\nDirectory=/var/lib/elsewhere\nFallback=\n' "$SOCKET" >$CONF
is "list: the configured directory" "$(names)" "/var/lib/elsewhere/$B"
ok "get, too" "$STALLBOX" get -o got $B
is "no agent answers on the configured socket" "$("$STALLBOX" status 2>&1 | head -n 1)" "error: no agent answers on '$SOCKET': No such file or directory"
printf '[Storage]\nDirectory=elsewhere\n' >$CONF
is "a configuration that is wrong is not used" "$(names 2>err)" "/run/stallbox/captures/$B
/var/lib/stallbox/captures/$A"
is "and it is said, once" "$(cat err)" "warning: the configuration is wrong: nothing of it is used here
hint: 'stallbox check-config' tells every error"

# ---- an agent ----
printf '[Recorder]\nSocket=%s\n' "$SOCKET" >$CONF
put kept/first $A
put kept/second $B
spawn python3 "$ROOT/tests/gateway/stub_agent.py" "$SOCKET" "$TEST_TMP/kept"
wait_for 30 test -S "$SOCKET"
is "status asks on the configured socket" "$("$STALLBOX" status --json | jq -r .state)" recording
is "list: where it keeps them" "$(names)" "$TEST_TMP/kept/first/$A
$TEST_TMP/kept/second/$B"
rm -r kept/first
echo no directory >kept/first
ok "the first directory cannot be read: get goes on to the other" "$STALLBOX" get --socket "$SOCKET" -o got2 $B
ok "so does info" "$STALLBOX" info $B
is "of what is not there either it says why" "$("$STALLBOX" get $A 2>&1; echo $?)" "error: cannot read '$A': Not a directory
1"
ok "and delete" "$STALLBOX" delete --socket "$SOCKET" $B
is "deletes it there" "$(ls kept/second)" ""
rm kept/first
put kept/first $A
is "delete: one that is not there, and nothing is deleted" "$("$STALLBOX" delete --dir kept/first $A $B 2>&1; echo $?; ls kept/first)" \
	"error: cannot delete '$B': there is no such bundle
3
$A"
is "else all are" "$("$STALLBOX" delete --dir kept/first $A; ls kept/first)" "deleted $A"
finish
