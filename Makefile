# SPDX-License-Identifier: BSD-2-Clause
# One non-recursive Makefile; everything generated lands under build/.
#
#   make            programs and BPF objects        V=1  show commands
#   sudo make demo  a real stall, start to picture   SAN=address,undefined
#   sudo make test  every test                       DESTDIR= prefix= for install
#   make help       all targets

prefix     ?= /usr/local
sbindir    ?= $(prefix)/sbin
bindir     ?= $(prefix)/bin
mandir     ?= $(prefix)/share/man
docdir     ?= $(prefix)/share/doc/stallbox
DESTDIR    ?=

B          := build
CC         ?= gcc
CLANG      ?= clang
BPFTOOL    ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
PROTOC_C   ?= protoc-c
CFLAGS     ?= -O2 -g
WARN       := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wformat=2 -Wundef -Wvla -Wno-format-nonliteral -Wno-format-truncation
WERROR     ?=
SAN        ?=
SANFLAGS   := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
CPPFLAGS_  := -D_GNU_SOURCE -I. -isystem $(B)
CFLAGS_    := -std=gnu11 $(WARN) $(WERROR) $(SANFLAGS) -MMD -MP
LIBS       := -lbpf -lelf -lz -lzstd -lprotobuf-c -lm

ifeq ($(V),1)
Q :=
say = @:
else
Q := @
say = @printf '  %-8s %s\n'
endif

# ---- sources --------------------------------------------------------------
FORMAT_SRC   := $(wildcard format/*.c)
SYMBOLS_SRC  := $(wildcard symbols/*.c)
TRIGGERS_SRC := $(wildcard triggers/*.c)
RECORDER_SRC := $(wildcard recorder/*.c)
TOOLS_SRC    := $(wildcard tools/*.c)
UNIT_SRC     := $(wildcard tests/unit/test_*.c)
WORK_SRC     := $(wildcard tests/workloads/*.c)
HELPER_SRC   := $(wildcard tests/helpers/*.c)
FUZZ_SRC     := $(wildcard tests/fuzz/fuzz_*.c)
BPF_SRC      := $(wildcard bpf/*.bpf.c)

obj = $(patsubst %.c,$(B)/%.o,$(1))
FORMAT_OBJ   := $(call obj,$(FORMAT_SRC)) $(B)/format/capture.pb-c.o
SYMBOLS_OBJ  := $(call obj,$(SYMBOLS_SRC))
TRIGGERS_OBJ := $(call obj,$(TRIGGERS_SRC))
RECORDER_OBJ := $(call obj,$(filter-out recorder/main.c,$(RECORDER_SRC)))
TOOLS_OBJ    := $(call obj,$(filter-out tools/main.c,$(TOOLS_SRC)))

PROGRAMS := $(B)/stallboxd $(B)/stallbox
UNIT     := $(patsubst %.c,$(B)/%,$(UNIT_SRC))
WORK     := $(patsubst %.c,$(B)/%,$(WORK_SRC))
HELPERS  := $(patsubst %.c,$(B)/%,$(HELPER_SRC))
REPLAY   := $(patsubst tests/fuzz/fuzz_%.c,$(B)/tests/fuzz/replay_%,$(FUZZ_SRC))
FUZZERS  := $(patsubst tests/fuzz/fuzz_%.c,$(B)/tests/fuzz/fuzz_%,$(FUZZ_SRC))

# 'make' alone wants every package; demo and test install what is missing first.
.PHONY: all
all: $(PROGRAMS)

# ---- BPF ------------------------------------------------------------------
# Two objects from the same sources: v3 has fetch-atomics (5.12+), v2 does not (5.10) and has
# no timers (5.15) either, whose callbacks 5.10 refuses to load even where they are never reached.
BPF_ARCH   := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
BPF_CFLAGS := -target bpf -O2 -g -Wall -Werror -D__TARGET_ARCH_$(BPF_ARCH) -I. \
	-idirafter /usr/include/$(shell uname -m)-linux-gnu
BPF_HDR    := $(wildcard bpf/*.h)
BPF_V3     := $(patsubst bpf/%.bpf.c,$(B)/bpf/v3/%.bpf.o,$(BPF_SRC))
BPF_V2     := $(patsubst bpf/%.bpf.c,$(B)/bpf/v2/%.bpf.o,$(filter-out bpf/deadline.bpf.c,$(BPF_SRC)))

$(B)/bpf/v3/%.bpf.o: bpf/%.bpf.c $(BPF_HDR)
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -mcpu=v3 -c $< -o $@
$(B)/bpf/v2/%.bpf.o: bpf/%.bpf.c $(BPF_HDR)
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -mcpu=v2 -DSB_NO_FETCH_ATOMICS -c $< -o $@
$(B)/bpf/stallbox_v3.o: $(BPF_V3)
	$(say) BPFLINK $@
	$(Q)$(BPFTOOL) gen object $@ $^
$(B)/bpf/stallbox_v2.o: $(BPF_V2)
	$(say) BPFLINK $@
	$(Q)$(BPFTOOL) gen object $@ $^
$(B)/bpf/stallbox_%.skel.h: $(B)/bpf/stallbox_%.o
	$(say) SKEL $@
	$(Q)$(BPFTOOL) gen skeleton $< name stallbox_$* > $@.tmp && mv $@.tmp $@

# ---- user space -----------------------------------------------------------
$(B)/format/capture.pb-c.c: format/capture.proto
	$(say) PROTOC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(PROTOC_C) --proto_path=format --c_out=$(@D) $<
$(B)/format/capture.pb-c.h: $(B)/format/capture.pb-c.c ;
$(B)/format/capture.pb-c.o: $(B)/format/capture.pb-c.c
	$(say) CC $@
	$(Q)$(CC) $(CFLAGS) $(SANFLAGS) -MMD -MP -c $< -o $@

$(B)/%.o: %.c | $(B)/format/capture.pb-c.h
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_) $(CPPFLAGS) $(CFLAGS_) $(CFLAGS) -c $< -o $@

# Scripts and styles of the pictures become C strings.
$(B)/tools/%.inc: tools/%
	$(say) TEXT $@
	$(Q)mkdir -p $(@D)
	$(Q)sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/' $< > $@
$(B)/tools/flame.o: $(B)/tools/flame.css.inc $(B)/tools/flame.js.inc

# The rules of the verdict, one file each.
RULES := $(sort $(wildcard tools/rules/*.rule))
$(B)/tools/rules.inc: $(RULES)
	$(say) TEXT $@
	$(Q)mkdir -p $(@D)
	$(Q)for f in $(RULES); do echo "{ \"$$f\","; sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/' $$f; echo '},'; done > $@.tmp && mv $@.tmp $@
$(B)/tools/rule.o: $(B)/tools/rules.inc

# The page has one script. Its hash in the page's policy keeps every other one from running.
HTML_JS := $(patsubst %,tools/html/%.js,data flame charts tables page)
$(B)/tools/html/script.js: tools/html/vendor/uPlot.iife.min.js $(HTML_JS)
	$(say) TEXT $@
	$(Q)mkdir -p $(@D)
	$(Q){ cat $<; echo; echo '(() => {'; echo "'use strict';"; cat $(HTML_JS); echo '})();'; } > $@
$(B)/tools/html/script.js.inc: $(B)/tools/html/script.js
	$(Q)sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n"/' $< > $@
$(B)/tools/html/script.hash.inc: $(B)/tools/html/script.js
	$(Q)sha256sum < $< | cut -c1-64 | tr a-f A-F | basenc --base16 -d | base64 -w0 | sed 's/.*/"&"/' > $@
$(B)/tools/cmd_html.o: $(patsubst %,$(B)/tools/html/%.inc,page.css page.html vendor/uPlot.min.css script.js script.hash)

# Names of system calls, from the kernel's headers.
UNISTD_x86_64  := asm/unistd_64.h
UNISTD_generic := asm-generic/unistd.h
$(B)/tools/syscalls-%.inc:
	$(say) TEXT $@
	$(Q)mkdir -p $(@D)
	$(Q)echo '#include <$(UNISTD_$*)>' | $(CC) -E -dM -x c - | \
		sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/[\2] = "\1",/p' > $@.tmp && mv $@.tmp $@
$(B)/tools/syscalls.o: $(B)/tools/syscalls-x86_64.inc $(B)/tools/syscalls-generic.inc

$(call obj,$(RECORDER_SRC)): $(B)/bpf/stallbox_v3.skel.h $(B)/bpf/stallbox_v2.skel.h

$(B)/libformat.a: $(FORMAT_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libsymbols.a: $(SYMBOLS_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libtriggers.a: $(TRIGGERS_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/librecorder.a: $(RECORDER_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libtools.a: $(TOOLS_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/stallboxd: $(B)/recorder/main.o $(B)/librecorder.a $(B)/libtriggers.a $(B)/libsymbols.a $(B)/libformat.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/stallbox: $(B)/tools/main.o $(B)/libtools.a $(B)/libsymbols.a $(B)/libformat.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ -lelf -lz -lzstd -lprotobuf-c -lm

TESTLIBS := $(B)/libtools.a $(B)/librecorder.a $(B)/libtriggers.a $(B)/libsymbols.a $(B)/libformat.a
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(TESTLIBS)
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka
# Tests that run the BPF programs as plain functions.
MODEL_TESTS := $(addprefix $(B)/tests/unit/,test_inflight test_deadline test_offcpu test_ring_model test_sample)
$(MODEL_TESTS): $(B)/tests/unit/model.o
MODEL := $(addsuffix .o,$(MODEL_TESTS)) $(B)/tests/unit/model.o
$(MODEL): CPPFLAGS_ += -Itests/unit/model -D__TARGET_ARCH_$(BPF_ARCH)
$(MODEL): CFLAGS_ += -Wno-attributes -Wno-missing-prototypes -Wno-unused-parameter -Wno-unused-variable \
	-Wno-unused-but-set-variable -Wno-array-bounds -Wno-type-limits
$(B)/tests/helpers/%: $(B)/tests/helpers/%.o $(TESTLIBS)
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
# Workloads are built the way a call chain stays visible: frame pointers, no inlining.
$(B)/tests/workloads/%: tests/workloads/%.c $(wildcard tests/workloads/*.h)
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -I. -std=gnu11 $(WARN) -O1 -g -fno-omit-frame-pointer \
		-fno-optimize-sibling-calls -fno-inline -pthread -o $@ $< -lm

# ---- packages -------------------------------------------------------------
.PHONY: deps deps-test deps-bench vendor
deps:
	$(Q)tests/install-deps build
	$(Q)tests/install-deps browser
deps-test:
	$(Q)tests/install-deps test
# Servers and other tools for make bench. Debian starts the servers that it installs.
deps-bench:
	$(Q)tests/install-deps bench

# The libraries of the HTML page, as package-lock.json pins them. They are kept in the tree: a
# build needs no npm.
vendor:
	$(Q)cd tools/html && npm ci --no-audit --no-fund --loglevel=error
	$(Q)cd tools/html && mkdir -p vendor && cp node_modules/uplot/dist/uPlot.iife.min.js node_modules/uplot/dist/uPlot.min.css vendor/
	$(Q)cp tools/html/node_modules/uplot/LICENSE tools/html/vendor/uPlot.LICENSE

# ---- demo and tests: they call make again once the packages are there ------
.PHONY: demo test check check-root check-vm check-holder check-progress check-limit check-survive check-san check-mutations bench bench-more fuzz tests-bin
demo:
	$(Q)tests/install-deps build
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all $(B)/tests/workloads/reclaim_storm
	$(Q)tests/demo

test:
	$(Q)tests/install-deps test
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all tests-bin
	$(Q)tests/run unit cli golden fuzz browser consumers bpf vm

tests-bin: all $(UNIT) $(WORK) $(HELPERS) $(REPLAY)

# Without root: unit, command line, golden bundles, fuzz corpora, pictures in a browser, exports in their programs.
check: tests-bin
	$(Q)tests/run unit cli golden fuzz browser consumers
# The recorder on this kernel.
check-root: tests-bin
	$(Q)tests/run bpf
# The same inside Debian kernels under QEMU: make check-vm KERNEL=6.1 (or all)
KERNEL ?= all
check-vm: tests-bin
	$(Q)tests/vm/check $(KERNEL)
# How often the holder of a lock is named: RUNS=50 of each kind of stall, half an hour.
check-holder: tests-bin
	$(Q)tests/campaigns/holder
# Do triggers, seals and bundles keep their times on a host that makes hardly any progress? RUNS=30 stalls under each load, ten minutes.
check-progress: tests-bin
	$(Q)tests/campaigns/progress
# The CPU budget in full: an idle recorder, loads within it, every step taken and undone. Five minutes.
check-limit: tests-bin
	$(Q)LONG=1 tests/run bpf/limit
# What the recorder survives, a line each: KILLS=200 random kills among them.
check-survive: tests-bin
	$(Q)tests/survive
# Every reading command and export under sanitizers, in a build of its own.
SAN_B := $(B)/san
check-san:
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) B=$(SAN_B) SAN=address,undefined CFLAGS='-O1 -g' \
		$(SAN_B)/stallbox $(SAN_B)/tests/helpers/make_bundle $(SAN_B)/tests/helpers/make_scene
	$(Q)tests/campaigns/sanitize $(SAN_B)/stallbox $(SAN_B)/tests/helpers
# Can the tests fail? One behaviour at a time is broken in a copy of the tree. ONLY='cli bpf/locks NAME': these alone.
check-mutations: tests-bin
	$(Q)tests/mutations/run $(ONLY)
# What it costs, beside other tools: tables into tests/bench/RESULTS.md, picture into docs/bench.svg. Twelve minutes.
# What deps-bench installs is measured where it is there and said to be missing where it is not.
bench: tests-bin
	$(Q)tests/bench/run
# Each program under six loads, a freeze, reading: Markdown on standard output.
bench-more: tests-bin
	$(Q)tests/bench/programs
	$(Q)tests/bench/freeze
	$(Q)tests/bench/fold

$(B)/tests/fuzz/replay_%: tests/fuzz/fuzz_%.c tests/fuzz/replay.c $(TESTLIBS)
	$(say) LINK $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_) $(CFLAGS_) $(CFLAGS) -o $@ $< tests/fuzz/replay.c $(TESTLIBS) $(LIBS)
# libFuzzer builds everything it calls anew, with sanitizers.
$(B)/tests/fuzz/fuzz_%: tests/fuzz/fuzz_%.c $(FORMAT_SRC) $(SYMBOLS_SRC) $(TRIGGERS_SRC) $(B)/format/capture.pb-c.c
	$(say) FUZZ $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(CPPFLAGS_) -g -O1 -fsanitize=fuzzer,address,undefined -o $@ $< \
		$(FORMAT_SRC) $(SYMBOLS_SRC) $(TRIGGERS_SRC) $(B)/format/capture.pb-c.c -lelf -lz -lzstd -lprotobuf-c -lm
FUZZ_SECONDS ?= 60
fuzz: $(FUZZERS)
	$(Q)for f in $(FUZZERS); do n=$${f##*/fuzz_}; mkdir -p $(B)/corpus/$$n; \
		$$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=512 -timeout=10 $(B)/corpus/$$n tests/fuzz/corpus/$$n || exit 1; done

# ---- hygiene --------------------------------------------------------------
.PHONY: lint check-layers check-headers format help clean install uninstall
check-layers:
	$(Q)tests/check-layers
check-headers:
	$(Q)for h in format/*.h triggers/*.h symbols/*.h recorder/*.h tools/*.h bpf/ring.h bpf/events.h; do \
		$(CC) $(CPPFLAGS_) -std=gnu11 -Wall -Werror -fsyntax-only -x c $$h || exit 1; done
# cppcheck knows nothing of __attribute__((cleanup)): memleak and resourceLeak are left to ASan.
lint: check-layers check-headers
	$(Q)tests/install-deps lint
	$(Q)cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr -I. \
		--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches --suppress=internalAstError:tools/flame.c --suppress=internalAstError:tools/cmd_html.c \
		--suppress=memleak --suppress=resourceLeak '-DLIBBPF_OPTS(type,name,...)=struct type name = {}' \
		format symbols triggers recorder tools
	$(Q)shellcheck -x -P SCRIPTDIR -e SC1091,SC2015 -S warning tests/run tests/survive tests/demo tests/install-deps tests/lib.sh tests/perfetto.sh tests/holders.sh tests/campaigns/holder tests/campaigns/progress tests/campaigns/sanitize tests/mutations/run tests/bench/run tests/bench/freeze tests/bench/fold tests/bench/programs tests/bench/lib.sh tests/bench/loads tests/bench/parts \
		$(wildcard tests/cli/*.sh tests/golden/*.sh tests/browser/*.sh tests/consumers/*.sh tests/bpf/*.sh tests/vm/*)
	$(Q)tests/mutations/run --lint
format:
	$(Q)clang-format -i $(FORMAT_SRC) $(SYMBOLS_SRC) $(TRIGGERS_SRC) $(RECORDER_SRC) $(TOOLS_SRC) \
		$(wildcard */*.h) $(BPF_SRC) $(UNIT_SRC) $(WORK_SRC)

install: all
	install -D -m 0755 $(B)/stallboxd $(DESTDIR)$(sbindir)/stallboxd
	install -D -m 0755 $(B)/stallbox $(DESTDIR)$(bindir)/stallbox
	install -D -m 0644 recorder/stallboxd.8 $(DESTDIR)$(mandir)/man8/stallboxd.8
	install -D -m 0644 tools/stallbox.1 $(DESTDIR)$(mandir)/man1/stallbox.1
	install -D -m 0644 format/FORMAT.md $(DESTDIR)$(docdir)/FORMAT.md
	install -D -m 0644 format/capture.proto $(DESTDIR)$(docdir)/capture.proto
	install -D -m 0644 docs/ndjson.schema.json $(DESTDIR)$(docdir)/ndjson.schema.json
uninstall:
	rm -f $(DESTDIR)$(sbindir)/stallboxd $(DESTDIR)$(bindir)/stallbox \
		$(DESTDIR)$(mandir)/man8/stallboxd.8 $(DESTDIR)$(mandir)/man1/stallbox.1
	rm -rf $(DESTDIR)$(docdir)
clean:
	rm -rf $(B)
help:
	@echo 'all demo test check check-root check-vm KERNEL=x.y|all check-holder check-progress check-limit check-survive check-san check-mutations bench bench-more fuzz lint'
	@echo 'check-layers check-headers format deps deps-test deps-bench vendor install uninstall clean'

-include $(wildcard $(B)/*/*.d $(B)/*/*/*.d)
.SECONDARY:
