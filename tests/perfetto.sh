# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# The perfetto export as `protoc --decode` reads it with Perfetto's public schema. Sourced after tests/lib.sh.

PERFETTO_SCHEMA=$ROOT/tests/consumers/perfetto

decode_perfetto() { # TRACE: as text
	protoc -I "$PERFETTO_SCHEMA" --decode=perfetto.protos.Trace perfetto_trace.proto <"$1"
}
# Lines that protoc prints for fields that the schema does not have.
unknown_fields() { # TEXT
	grep -cE '^ *[0-9]+(:| \{)' "$1"
}
# A line for each event of the bundle that the text holds: kind, begin or moment in ns, microseconds as it says, stack
# in words without marks of its end, ns from begin to end as it is drawn, tid, CPU. Then how many slices do not end,
# and how many ids lead nowhere or to another stack than the words beside them.
perfetto_events() { # TEXT
	awk '
	function name_of(field, iid) {
		if (!((field, iid) in text)) {
			lost++
			return "?"
		}
		return text[field, iid]
	}
	function frames_of(callstack,    frame, k, all, part) {
		if (callstack == "")
			return ""
		if (callstack in stack_words)
			return stack_words[callstack]
		for (k = split(name_of("callstacks", callstack), frame, " "); k > 0; k--) {
			part = name_of("function_names", name_of("frames", frame[k]))
			all = all (all == "" ? "" : " < ") part
		}
		gsub(/ < \[truncated\]/, "", all)
		return stack_words[callstack] = all
	}
	function tid_of(track) { return track in tid ? tid[track] : tid[parent[track]] }
	function end_packet(    kind) {
		for (i = 1; i <= interned; i++)
			text[table[i], id[i]] = name[i]
		if (sample)
			printf "on-cpu\t%s\t\t%s\t\t%s\t%s\n", ts, frames_of(callstack), sample_tid, sample_cpu
		if (described != "" && of != "")
			parent[described] = of
		if (described != "" && of_thread != "")
			tid[described] = of_thread
		if (type == "TYPE_SLICE_BEGIN") {
			open[track]++
		} else if (type == "TYPE_SLICE_END") {
			if (--open[track] < 0)
				lost++
			else if (held[track] != "")
				printf held[track], ts - began[track]
			held[track] = ""
		}
		if (category != "" && (kind = name_of("event_categories", category)) != "sampled") {
			name_of("event_names", event)
			us = words = cpu = ""
			for (i = 1; i <= args; i++) {
				arg = name_of("debug_annotation_names", arg_id[i])
				if (arg == "microseconds")
					us = value[i]
				else if (arg == "cpu")
					cpu = value[i]
				else if (arg == "stack")
					words = name_of("debug_annotation_string_values", value[i])
			}
			gsub(/ < \[truncated\]/, "", words)
			if (frames_of(callstack) != words)
				lost++
			if (type == "TYPE_SLICE_BEGIN") {
				gsub(/%/, "%%", words)
				held[track] = kind "\t" ts "\t" us "\t" words "\t%.0f\t" tid_of(track) "\t" cpu "\n"
				began[track] = ts
			} else {
				printf "%s\t%s\t%s\t%s\t\t%s\t%s\n", kind, ts, us, words, tid_of(track), cpu
			}
		}
		ts = type = category = event = callstack = track = described = of = of_thread = sample_tid = sample_cpu = ""
		sample = interned = args = depth = 0
	}
	/^}$/ { end_packet(); next }
	/\{$/ {
		path[++depth] = $1
		if (depth == 3 && path[2] == "interned_data")
			{
				table[++interned] = $1
				name[interned] = ""
			}
		else if (depth == 3 && $1 == "debug_annotations")
			args++
		else if ($1 == "perf_sample")
			sample = 1
		next
	}
	/^ *\}$/ { depth--; next }
	{
		key = $1
		sub(/^ *[a-z_0-9]*: /, "")
		if (depth == 1 && key == "timestamp:")
			ts = $0
		else if (depth == 2 && key == "type:")
			type = $0
		else if (depth == 2 && key == "category_iids:")
			category = $0
		else if (depth == 2 && key == "name_iid:")
			event = $0
		else if (depth == 2 && key == "callstack_iid:")
			callstack = $0
		else if (depth == 2 && key == "track_uuid:")
			track = $0
		else if (depth == 3 && path[2] == "interned_data" && key == "iid:")
			id[interned] = $0
		else if (depth == 2 && path[2] == "track_descriptor" && key == "uuid:")
			described = $0
		else if (depth == 2 && path[2] == "track_descriptor" && key == "parent_uuid:")
			of = $0
		else if (depth == 3 && path[2] == "track_descriptor" && key == "tid:")
			of_thread = $0
		else if (depth == 2 && path[2] == "perf_sample" && key == "tid:")
			sample_tid = $0
		else if (depth == 2 && path[2] == "perf_sample" && key == "cpu:")
			sample_cpu = $0
		else if (depth == 3 && path[2] == "interned_data" && key == "frame_ids:")
			name[interned] = name[interned] " " $0
		else if (depth == 3 && path[2] == "interned_data" && key == "function_name_id:")
			name[interned] = $0
		else if (depth == 3 && path[2] == "interned_data" && (key == "name:" || key == "str:"))
			name[interned] = substr($0, 2, length($0) - 2)
		else if (depth == 3 && path[3] == "debug_annotations" && key == "name_iid:")
			arg_id[args] = $0
		else if (depth == 3 && path[3] == "debug_annotations")
			value[args] = $0
	}
	END {
		for (t in open)
			n += open[t]
		printf "open slices\t%d\nids that lead nowhere\t%d\n", n, lost
	}' "$1"
}
# The same of the bundle itself; the recorder's own frames on top are in no picture.
bundle_events() { # BUNDLE
	"$STALLBOX" events --json "$1" | jq -r '
		(.kind | . != "on-cpu" and . != "wakeup" and . != "oom") as $span |
		def own: test("^(bpf_prog_|bpf_trace_run|__bpf_trace_|__traceiter_|bpf_trampoline_)");
		((.kstack | until(length == 0 or (.[0] | own | not); .[1:])) + .ustack | join(" < ")) as $stack |
		if .kind == "on-cpu" then [.kind, .ts_ns, "", $stack, ""] else
		[.kind, if $span then .ts_ns - .duration_ns else .ts_ns end, (.duration_ns / 1000 | floor), $stack,
			if $span and .duration_ns > 0 then .duration_ns else "" end]
		end + [.tid, .cpu] | join("\t")'
	printf 'open slices\t0\nids that lead nowhere\t0\n'
}
