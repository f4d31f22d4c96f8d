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
# A line for each event of the bundle that the text holds: kind, begin or moment in ns, microseconds, stack in
# words without marks of its end. Then how many slices do not end, and how many ids lead nowhere.
perfetto_events() { # TEXT
	awk '
	function name_of(field, iid) {
		if (!((field, iid) in text)) {
			lost++
			return "?"
		}
		return text[field, iid]
	}
	function end_packet(    kind) {
		for (i = 1; i <= interned; i++)
			text[table[i], id[i]] = name[i]
		if (sample) {
			printf "on-cpu\t%s\t\t\n", ts
			if (callstack != "" && !((CALLSTACKS, callstack) in text))
				lost++
		}
		if (type == "TYPE_SLICE_BEGIN")
			open[track]++
		else if (type == "TYPE_SLICE_END" && --open[track] < 0)
			lost++
		if (category != "" && (kind = name_of("event_categories", category)) != "sampled") {
			name_of("event_names", event)
			us = words = ""
			for (i = 1; i <= args; i++) {
				arg = name_of("debug_annotation_names", arg_id[i])
				if (arg == "microseconds")
					us = value[i]
				else if (arg == "stack")
					words = name_of("debug_annotation_string_values", value[i])
			}
			gsub(/ < \[truncated\]/, "", words)
			if ((callstack == "") != (words == "") || callstack != "" && !((CALLSTACKS, callstack) in text))
				lost++
			printf "%s\t%s\t%s\t%s\n", kind, ts, us, words
		}
		ts = type = category = event = callstack = track = ""
		sample = interned = args = depth = 0
	}
	BEGIN { CALLSTACKS = "callstacks" }
	/^}$/ { end_packet(); next }
	/\{$/ {
		path[++depth] = $1
		if (depth == 3 && path[2] == "interned_data")
			table[++interned] = $1
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
		if .kind == "on-cpu" then "on-cpu\t\(.ts_ns)\t\t" else
		"\(.kind)\t\(if $span then .ts_ns - .duration_ns else .ts_ns end)\t\(.duration_ns / 1000 | floor)\t\(.kstack + .ustack | join(" < ") | sub("^bpf_prog_\\w+ < bpf_trace_run\\d+ < "; ""))"
		end'
	printf 'open slices\t0\nids that lead nowhere\t0\n'
}
