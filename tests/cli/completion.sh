#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# Completion scripts, in the shells that they are for.
. "$(dirname "$0")/../lib.sh"

"$STALLBOX" completion bash >"$TEST_TMP/bash"
is "completion bash" $? 0
"$STALLBOX" completion zsh >"$TEST_TMP/_stallbox"
is "completion zsh" $? 0
"$STALLBOX" completion fish >/dev/null 2>"$TEST_TMP/err"
is "no other shell" "$? $(head -n 1 "$TEST_TMP/err")" "2 error: unknown shell 'fish', expected bash or zsh"
"$STALLBOX" completion >/dev/null 2>&1
is "nor none" $? 2
touch "$TEST_TMP/x.stall.pb.zst" "$TEST_TMP/with blank"
mkdir "$TEST_TMP/adir" "$TEST_TMP/the captures"
touch "$TEST_TMP/the captures/kept.stall.pb.zst"
printf '[Storage]\nDirectory=%s\nFallback=\n' "$TEST_TMP/the captures" >"$TEST_TMP/conf"
export STALLBOX
commands=$("$STALLBOX" help | sed -n 's/^  \([a-z-]\+\)  .*/\1/p' | sort)

# completes WORD...: what bash offers for the last word, sorted
completes() {
	(
		cd "$TEST_TMP" || exit
		# shellcheck disable=SC2016
		bash --norc -c '. ./bash || exit
			complete -p stallbox >/dev/null || exit
			stallbox() { "$STALLBOX" "$@" --config ./conf; }
			COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
			_stallbox
			printf "%s\n" "${COMPREPLY[@]}"' - stallbox "$@" | sort
	)
}
options() { "$STALLBOX" "$1" --help | sed -n 's/^  \(--[a-z-]*\).*/\1/p' | sort; }
is "bash: commands" "$(completes '' | grep -v -e ^help$ -e ^--)" "$commands"
is "bash: of those that begin so" "$(completes fre)" freeze
is "bash: nothing begins so" "$(completes nope)" ""
is "bash: and an unknown command has nothing" "$(completes nope --)" ""
for c in $commands; do
	is "bash: options of $c are those of its help" "$(completes "$c" --)" "$(options "$c")"
done
is "bash: bundles are files" "$(completes info x)" x.stall.pb.zst
is "bash: names of bundles, where the configuration says" "$(completes get '')" kept.stall.pb.zst
is "bash: with blanks, too" "$(completes info with)" "with blank"
is "bash: a value that is a file" "$(completes flame --output wi)" "with blank"
is "bash: a value that is a directory" "$(completes list --dir a)" adir
is "bash: a value that may be anything" "$(completes freeze --reason x)" ""
is "bash: shells" "$(completes completion '')" "$(printf 'bash\nzsh')"
is "bash: help of a command" "$(completes help doc)" doctor

command -v zsh >/dev/null || { skip "zsh completes" "no zsh (Debian package zsh)"; finish; }
ok "zsh: the script is one" zsh -n "$TEST_TMP/_stallbox"
# types TEXT: in a zsh of its own with a terminal of its own; what the line has become after TAB
cat >"$TEST_TMP/types.zsh" <<'ZSH'
zmodload zsh/zpty
zpty -b z env TERM=dumb zsh -f -i
z() { zpty -w z "$1" }
z "PS1=; PS2=; unsetopt zle_bracketed_paste prompt_cr prompt_sp; stty rows 200 cols 300; cd $1; fpath=($1 \$fpath)"
z 'stallbox() { "$STALLBOX" "$@" --config ./conf; }'
z 'autoload -Uz compinit; compinit -u -D; zstyle ":completion:*" menu no; LISTMAX=0; setopt no_list_ambiguous no_beep'
z 'shown() { print -r -- "<<$BUFFER>>"; zle kill-buffer }; zle -N shown; bindkey "^X" shown; print be""gin'
got=
until [[ $got == *begin* ]] { zpty -r -t z line && got+=$line || sleep 0.05 }
got=
zpty -w -n z "$2"$'\t\x18'
for ((i = 0; i < 600; i++)) { zpty -r -t z line && got+=$line || sleep 0.05; [[ $got == *'>>'* ]] && break }
print -r -- "$got"
zpty -d z
ZSH
types() { zsh -f "$TEST_TMP/types.zsh" "$TEST_TMP" "$1" | tr -d '\r' | grep -oE '<<.*>>' | tail -n 1; }
is "zsh: a command" "$(types 'stallbox tri')" "<<stallbox triggers >>"
is "zsh: an option" "$(types 'stallbox freeze --rea')" "<<stallbox freeze --reason >>"
is "zsh: a file" "$(types 'stallbox info x.st')" "<<stallbox info x.stall.pb.zst >>"
is "zsh: a name of a bundle" "$(types 'stallbox get ke')" "<<stallbox get kept.stall.pb.zst >>"
is "zsh: a directory as a value" "$(types 'stallbox list --dir ad')" "<<stallbox list --dir adir/>>"
is "zsh: a word" "$(types 'stallbox completion z')" "<<stallbox completion zsh >>"
for c in $commands; do
	got=$(grep -c "^		'$c:" "$TEST_TMP/_stallbox")
	is "zsh: $c is described" "$got" 1
	is "zsh: with the options of its help" "$(sed -n "/^	$c)\$/,/;;/s/^			'\(--[a-z-]*\)\[.*/\1/p" "$TEST_TMP/_stallbox" | sort)" "$(options "$c")"
done
finish
