# SPDX-License-Identifier: BSD-2-Clause
# One non-recursive Makefile; everything generated lands under build/.
#
#   make            programs and BPF objects        V=1  show commands
#   sudo make demo  a real stall, start to picture   SAN=address,undefined
#   sudo make test  every test                       DESTDIR= prefix= for install
#   make help       all targets            EH_FRAME=no  without unwind/ (see NOTICE)
#                                          LIBDW=no     without source lines and inlined functions

prefix     ?= /usr/local
sbindir    ?= $(prefix)/sbin
bindir     ?= $(prefix)/bin
mandir     ?= $(prefix)/share/man
sysconfdir ?= /etc
docdir     ?= $(prefix)/share/doc/stallbox
bashdir    ?= $(prefix)/share/bash-completion/completions
zshdir     ?= $(prefix)/share/zsh/site-functions
libexecdir ?= $(prefix)/libexec/stallbox
# Where systemd looks; a prefix of one's own below it is for DESTDIR= and packages.
sysdir     ?= $(prefix)/lib
unitdir    ?= $(sysdir)/systemd/system
DESTDIR    ?=

B          := build
define newline


endef
CC         ?= gcc
CLANG      ?= clang
BPFTOOL    ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
PROTOC_C   ?= protoc-c
CFLAGS     ?= -O2 -g
WARN       := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wformat=2 -Wundef -Wvla -Wno-format-nonliteral -Wno-format-truncation
WERROR     ?=
SAN        ?=
EH_FRAME   ?= yes
CHECK_AGAIN ?= no
LIBDW      ?= $(if $(wildcard /usr/include/elfutils/libdw.h),yes,no)
SANFLAGS   := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
CPPFLAGS_  := -D_GNU_SOURCE -I. -isystem $(B)
CPPFLAGS_  += $(if $(filter-out no,$(EH_FRAME)),-DSB_EH_FRAME)
CPPFLAGS_  += $(if $(filter-out no,$(CHECK_AGAIN)),-DSB_CHECK_AGAIN)
CPPFLAGS_  += $(if $(filter-out no,$(LIBDW)),-DSB_LIBDW)
CFLAGS_    := -std=gnu11 $(WARN) $(WERROR) $(SANFLAGS) -MMD -MP
LIBS       := -lbpf -lcap-ng -lelf -llzma -lz -lzstd -lprotobuf-c -lm
DWLIB      := $(if $(filter-out no,$(LIBDW)),-ldw)
GATEWAY_LIBS := -lmicrohttpd -lgnutls -ljansson
TOOLLIBS   := $(DWLIB) -lelf -llzma -lz -lzstd -lprotobuf-c -l:libiberty.a -lm
UPLOAD_LIBS := -lcurl -lcrypto

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
CONFIG_SRC   := $(filter-out config/generate.c,$(wildcard config/*.c))
UNWIND_SRC   := $(wildcard unwind/*.c)
RECORDER_SRC := $(wildcard recorder/*.c)
TOOLS_SRC    := $(wildcard tools/*.c)
GATEWAY_SRC  := $(wildcard gateway/*.c)
UPLOAD_SRC   := $(wildcard upload/*.c)
UNIT_SRC     := $(wildcard tests/unit/test_*.c)
WORK_SRC     := $(wildcard tests/workloads/*.c)
COMMAND_SRC  := $(shell sed -n 's/^\tCOMMAND.\([a-z_]*\),.*/tests\/workloads\/\1.c/p' tests/workloads/command/main.c)
HELPER_SRC   := $(wildcard tests/helpers/*.c)
FUZZ_SRC     := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC    := $(filter-out tests/bench/count.c,$(wildcard tests/bench/*.c))
BPF_SRC      := $(wildcard bpf/*.bpf.c)
TEST_BPF_SRC := $(wildcard tests/bpf/*.bpf.c)
ifeq ($(EH_FRAME),no)
UNWIND_SRC   :=
RECORDER_SRC := $(filter-out recorder/mappings%.c recorder/unwinder_%.c recorder/images.c recorder/readers.c recorder/sideband.c,$(RECORDER_SRC))
UNIT_SRC     := $(filter-out tests/unit/test_cfi%.c tests/unit/test_unwind_%.c tests/unit/test_mappings.c tests/unit/test_known.c tests/unit/test_readers.c tests/unit/test_sideband.c,$(UNIT_SRC))
HELPER_SRC   := $(filter-out tests/helpers/unwind_%.c,$(HELPER_SRC))
FUZZ_SRC     := $(filter-out tests/fuzz/fuzz_elf_cfi.c tests/fuzz/fuzz_sideband.c,$(FUZZ_SRC))
BENCH_SRC    := $(filter-out tests/bench/unwind_%.c tests/bench/sideband_%.c,$(BENCH_SRC))
TEST_BPF_SRC := $(filter-out tests/bpf/unwind_%.c,$(TEST_BPF_SRC))
endif

obj = $(patsubst %.c,$(B)/%.o,$(1))
FORMAT_OBJ   := $(call obj,$(FORMAT_SRC)) $(B)/format/capture.pb-c.o
SYMBOLS_OBJ  := $(call obj,$(SYMBOLS_SRC))
TRIGGERS_OBJ := $(call obj,$(TRIGGERS_SRC))
CONFIG_OBJ   := $(call obj,$(CONFIG_SRC))
UNWIND_OBJ   := $(call obj,$(UNWIND_SRC))
RECORDER_OBJ := $(call obj,$(filter-out recorder/main.c,$(RECORDER_SRC)))
TOOLS_OBJ    := $(call obj,$(filter-out tools/main.c,$(TOOLS_SRC)))
UPLOAD_OBJ   := $(call obj,$(filter-out upload/main.c,$(UPLOAD_SRC)))
GATEWAY_OBJ  := $(call obj,$(filter-out gateway/main.c,$(GATEWAY_SRC)))

PROGRAMS := $(B)/stallboxd $(B)/stallbox $(B)/stallbox-gateway $(B)/stallbox-upload $(B)/stallbox-workload
GENERATED := $(B)/config/stallbox.conf $(B)/config/stallbox.conf.5
UNIT     := $(patsubst %.c,$(B)/%,$(UNIT_SRC))
WORK     := $(patsubst %.c,$(B)/%,$(WORK_SRC))
HELPERS  := $(patsubst %.c,$(B)/%,$(HELPER_SRC))
BENCHES  := $(patsubst %.c,$(B)/%,$(BENCH_SRC))
TEST_BPF := $(patsubst %.bpf.c,$(B)/%.bpf.o,$(TEST_BPF_SRC))
REPLAY   := $(patsubst tests/fuzz/fuzz_%.c,$(B)/tests/fuzz/replay_%,$(FUZZ_SRC))
FUZZERS  := $(patsubst tests/fuzz/fuzz_%.c,$(B)/tests/fuzz/fuzz_%,$(FUZZ_SRC))

# 'make' alone wants every package; demo and test install what is missing first.
.PHONY: all
all: $(PROGRAMS) $(GENERATED)

# ---- BPF ------------------------------------------------------------------
# Two objects from the same sources: v3 has fetch-atomics (5.12+), v2 does not (5.10) and has
# no timers (5.15) either, whose callbacks 5.10 refuses to load even where they are never reached, and
# no walk by tables (bpf_task_pt_regs(), 5.15).
BPF_ARCH   := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m)))
BPF_CFLAGS := -target bpf -O2 -g -ffile-prefix-map=$(CURDIR)=. -Wall -Werror -D__TARGET_ARCH_$(BPF_ARCH) -I. \
	-idirafter /usr/include/$(shell uname -m)-linux-gnu
BPF_HDR    := $(wildcard bpf/*.h) unwind/layout.h unwind/walk.h
BPF_EH     := $(if $(filter-out no,$(EH_FRAME)),-DSB_EH_FRAME)
# For bpf/found_again: each stack that is found again is walked all the same, and what differs is counted.
BPF_CFLAGS += $(if $(filter-out no,$(CHECK_AGAIN)),-DSB_CHECK_AGAIN)
BPF_V3     := $(patsubst bpf/%.bpf.c,$(B)/bpf/v3/%.bpf.o,$(BPF_SRC))
BPF_V2     := $(patsubst bpf/%.bpf.c,$(B)/bpf/v2/%.bpf.o,$(filter-out bpf/deadline.bpf.c,$(BPF_SRC)))

$(B)/bpf/v3/%.bpf.o: bpf/%.bpf.c $(BPF_HDR)
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -mcpu=v3 $(BPF_EH) -c $< -o $@
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
$(B)/libconfig.a: $(CONFIG_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libunwindtables.a: $(UNWIND_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/librecorder.a: $(RECORDER_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libtools.a: $(TOOLS_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libupload.a: $(UPLOAD_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/libgateway.a: $(GATEWAY_OBJ)
	$(say) AR $@
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/stallboxd: $(B)/recorder/main.o $(B)/librecorder.a $(B)/libconfig.a $(B)/libtriggers.a $(B)/libsymbols.a $(B)/libunwindtables.a $(B)/libformat.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/stallbox: $(B)/tools/main.o $(B)/libtools.a $(B)/libconfig.a $(B)/libtriggers.a $(B)/libsymbols.a $(B)/libunwindtables.a $(B)/libformat.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(TOOLLIBS)
$(B)/stallbox-upload: $(B)/upload/main.o $(B)/libupload.a $(B)/libconfig.a $(B)/libtriggers.a $(B)/libformat.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(UPLOAD_LIBS) -lzstd -lprotobuf-c -lm

$(B)/stallbox-gateway: $(B)/gateway/main.o $(B)/libgateway.a $(B)/libconfig.a $(B)/libtriggers.a $(B)/libformat.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(GATEWAY_LIBS) -lzstd -lprotobuf-c -lm

# What the table of keys says, as a file to be edited and as a manual page.
$(B)/config/generate: $(B)/config/generate.o $(B)/libconfig.a $(B)/libtriggers.a
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ -lm
$(B)/config/stallbox.conf: $(B)/config/generate
	$(say) TEXT $@
	$(Q)$< conf > $@.tmp && mv $@.tmp $@
$(B)/config/stallbox.conf.5: config/stallbox.conf.5.in $(B)/config/generate
	$(say) TEXT $@
	$(Q)$(B)/config/generate man > $(@D)/keys.man
	$(Q)sed -e '/^@KEYS@$$/r $(@D)/keys.man' -e '/^@KEYS@$$/d' $< > $@.tmp && mv $@.tmp $@

TESTLIBS := $(B)/libupload.a $(B)/libgateway.a $(B)/libtools.a $(B)/librecorder.a $(B)/libconfig.a $(B)/libtriggers.a $(B)/libsymbols.a $(B)/libunwindtables.a $(B)/libformat.a
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(TESTLIBS)
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) $(DWLIB) -l:libiberty.a -lcmocka
$(addprefix $(B)/tests/unit/test_,counters gateway_captures gateway_connections gateway_metrics gateway_request gateway_survey): LIBS += $(GATEWAY_LIBS)
$(B)/tests/unit/test_upload: LIBS += $(UPLOAD_LIBS)
# Tests that run the BPF programs as plain functions.
MODEL_TESTS := $(addprefix $(B)/tests/unit/,test_inflight test_deadline test_offcpu test_ring_model test_sample test_ustack)
$(MODEL_TESTS): $(B)/tests/unit/model.o
MODEL := $(addsuffix .o,$(MODEL_TESTS)) $(B)/tests/unit/model.o
$(MODEL): CPPFLAGS_ += -USB_EH_FRAME -Itests/unit/model -D__TARGET_ARCH_$(BPF_ARCH)
$(MODEL): CFLAGS_ += -Wno-attributes -Wno-missing-prototypes -Wno-unused-parameter -Wno-unused-variable \
	-Wno-unused-but-set-variable -Wno-array-bounds -Wno-type-limits
# The truth about call frame information is elfutils'.
$(B)/tests/unit/test_cfi $(B)/tests/unit/test_unwind_go_walk $(B)/tests/unit/test_unwind_walk \
	$(B)/tests/unit/test_unwind_servers $(B)/tests/helpers/unwind_events: LIBS += -ldw
$(B)/tests/helpers/flips: LIBS += $(DWLIB) -l:libiberty.a
$(B)/tests/helpers/%: $(B)/tests/helpers/%.o $(TESTLIBS)
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
# Counts what a load reads, from inside of it: LD_PRELOAD.
$(B)/tests/bench/count.so: tests/bench/count.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu11 $(WARN) -O2 -g -fPIC -shared -o $@ $< -ldl
$(B)/tests/bench/%: $(B)/tests/bench/%.o $(TESTLIBS)
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)
$(B)/tests/bpf/%.bpf.o: tests/bpf/%.bpf.c $(wildcard unwind/*.h)
	$(say) BPF $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -mcpu=v2 -c $< -o $@
# Workloads are built the way a call chain stays visible: frame pointers, no inlining.
$(B)/tests/workloads/%: tests/workloads/%.c $(wildcard tests/workloads/*.h)
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -I. -std=gnu11 $(WARN) -O1 -g -fno-omit-frame-pointer \
		-fno-optimize-sibling-calls -fno-inline -pthread -o $@ $< -lm

# Some of them are commands of a program that is installed.
$(B)/workload/%.o: tests/workloads/%.c $(wildcard tests/workloads/*.h)
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -D_GNU_SOURCE -DSTALLBOX_WORKLOAD -I. -std=gnu11 $(WARN) $(WERROR) -O1 -g -fno-omit-frame-pointer \
		-fno-optimize-sibling-calls -fno-inline -pthread -c -o $@ $<
$(B)/stallbox-workload: $(patsubst tests/workloads/%.c,$(B)/workload/%.o,$(COMMAND_SRC)) $(B)/workload/command/main.o
	$(say) LINK $@
	$(Q)$(CC) -pthread $(LDFLAGS) -o $@ $^ -lm

# A known call chain the way most programs are built, without frame pointers, and with them; every optimization.
PROG     := $(foreach o,0 1 2 3,$(B)/tests/programs/chain_O$(o) $(B)/tests/programs/chain_fp_O$(o)) $(B)/tests/programs/plugin.so $(B)/tests/programs/jit
$(B)/tests/programs/chain_O%: tests/programs/chain.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu11 $(WARN) -O$* -fomit-frame-pointer -fno-optimize-sibling-calls -o $@ $<
$(B)/tests/programs/chain_fp_O%: tests/programs/chain.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu11 $(WARN) -O$* -fno-omit-frame-pointer -fno-optimize-sibling-calls -o $@ $<
$(B)/tests/programs/jit: tests/programs/jit.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu11 $(WARN) -O2 -fomit-frame-pointer -o $@ $<
$(B)/tests/programs/plugin.so: tests/programs/plugin.c
	$(say) CC $@
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) -O2 -fomit-frame-pointer -fno-optimize-sibling-calls -shared -fPIC -o $@ $<

# ---- packages -------------------------------------------------------------
.PHONY: deps deps-test deps-bench deps-fuzz deps-upload vendor
deps:
	$(Q)tests/install-deps build
	$(Q)tests/install-deps browser
deps-test:
	$(Q)tests/install-deps test
# Servers and other tools for make bench. Debian starts the servers that it installs.
deps-bench:
	$(Q)tests/install-deps bench

deps-fuzz:
	$(Q)tests/install-deps fuzz

# Ceph's object store, which the tests of stallbox-upload deliver to.
deps-upload:
	$(Q)tests/install-deps upload

# The libraries of the HTML page, as package-lock.json pins them. They are kept in the tree: a
# build needs no npm.
vendor:
	$(Q)cd tools/html && npm ci --no-audit --no-fund --loglevel=error
	$(Q)cd tools/html && mkdir -p vendor && cp node_modules/uplot/dist/uPlot.iife.min.js node_modules/uplot/dist/uPlot.min.css vendor/
	$(Q)cp tools/html/node_modules/uplot/LICENSE tools/html/vendor/uPlot.LICENSE

# ---- demo and tests: they call make again once the packages are there ------
.PHONY: demo test check check-root check-vm check-peers check-holder check-incidents check-progress check-limit check-gateway check-upload check-survive check-service check-faults check-power check-disk check-storm check-flips check-soak check-san check-san-root check-all check-mutations bench bench-more fuzz tests-bin
demo:
	$(Q)tests/install-deps build
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all $(B)/tests/workloads/reclaim_storm
	$(Q)tests/demo

# Of the recorder's tests those that ask what it does and not how soon: they pass on an emulated CPU as they are.
WHAT_NOT_WHEN := $(addprefix bpf/,command_lines control disk frozen_spool gateway hygiene names privileges ready refuse reload requests)
test:
	$(Q)tests/install-deps test
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all tests-bin
	$(Q)tests/run cli browser service/units $(WHAT_NOT_WHEN) beside vm either unit consumers upload gateway golden fuzz before bpf incidents

tests-bin: all $(UNIT) $(WORK) $(PROG) $(HELPERS) $(REPLAY) $(BENCHES) $(TEST_BPF) $(B)/tests/bench/count.so

# Without root: unit, command line, golden bundles, fuzz corpora, pictures in a browser, exports in their programs.
check: tests-bin
	$(Q)tests/run unit cli gateway golden fuzz browser consumers
# The recorder on this kernel.
check-root: tests-bin
	$(Q)tests/run bpf
# The same inside Debian kernels under QEMU: make check-vm KERNEL=6.1 (6.1+all: with its variants; all: every kernel so, hours). Writes
# tests/vm/kernels.tsv and README's tables of it.
KERNEL ?= all
check-vm: tests-bin
	$(Q)tests/vm/check $(KERNEL); rc=$$?; tests/vm/table --write; exit $$rc
# What other tools have in hand in the same two stalls, in the kernel 6.1 under QEMU: README's table of it. Eight minutes.
check-peers: tests-bin
	$(Q)tests/vm/peers
# How often the holder of a lock is named: RUNS=50 of each kind of stall, half an hour.
check-holder: tests-bin
	$(Q)tests/campaigns/holder
# Stalls made on purpose under an agent with the default configuration, and what the bundle says of each. LONG=1: also
# while ps hangs, beside 300 runnable threads a CPU, and with the disk of the captures frozen; a quarter of an hour.
check-incidents: tests-bin
	$(Q)LONG=$(LONG) tests/run incidents
# Do triggers, seals and bundles keep their times on a host that makes hardly any progress? RUNS=30 stalls under each load, ten minutes.
check-progress: tests-bin
	$(Q)tests/campaigns/progress
# The CPU budget in full: an idle recorder, loads within it, every step taken and undone. Five minutes.
check-limit: tests-bin
	$(Q)LONG=1 tests/run bpf/limit
# Uploads in full: the store is away for a minute, an endpoint is silent for as long as we are patient.
check-upload: tests-bin deps-upload
	$(Q)LONG=1 tests/run upload
# The gateway under attack, each for half a minute.
check-gateway: tests-bin
	$(Q)LONG=1 tests/run gateway/load
# What the recorder survives, a line each: KILLS=200 random kills among them.
check-survive: tests-bin
	$(Q)tests/survive
# Every system call of storing a bundle fails, every occurrence, in every way; two minutes. The short form is cli/faults.
check-faults: tests-bin
	$(Q)tests/campaigns/faults
# The power goes at CUTS moments while bundles are stored, in a machine of its own; four minutes.
check-power: tests-bin
	$(Q)tests/campaigns/power $(or $(CUTS),200)
# A thousand hits a minute for ten minutes; bpf/trigger_storm does twenty seconds.
check-storm: tests-bin
	$(Q)STORM_SECONDS=600 tests/run bpf/trigger_storm
# Every bit of a golden bundle the other way, every length that it can be cut to, through every subcommand; an hour of CPU time.
check-flips: tests-bin
	$(Q)LONG=1 TEST_LIMIT=10800 tests/run cli/flips
# Disks fail while the recorder runs: bpf/disk, with a hundred triggers each way for their times.
check-disk: tests-bin
	$(Q)LONG=1 tests/run bpf/disk
# The packages, and the service that they install, in a machine of its own. Ten minutes.
check-service: tests-bin
	$(Q)tests/install-deps service
	$(Q)tests/run service/units service/deb service/boot
# Under sanitizers, in builds of their own. ASan and UBSan: every reading command and export on damaged bundles, the unit
# tests, command lines, golden bundles, corpora and the gateway. TSan: what has threads. Fifteen minutes.
SAN_B := $(B)/san
TSAN_B := $(B)/tsan
SAN_MAKE = $(MAKE) --no-print-directory -j$(shell nproc) B=$(SAN_B) SAN=address,undefined CFLAGS='-O1 -g -fno-sanitize-recover=undefined'
TSAN_MAKE = $(MAKE) --no-print-directory -j$(shell nproc) B=$(TSAN_B) SAN=thread CFLAGS='-O1 -g -Wno-tsan'
check-san: all
	$(Q)$(SAN_MAKE) all tests-bin
	$(Q)$(TSAN_MAKE) all tests-bin
	$(Q)tests/campaigns/sanitize $(SAN_B)/stallbox $(SAN_B)/tests/helpers
	$(Q)tests/campaigns/sanitized address $(SAN_B) unit cli golden fuzz gateway/requests gateway/access
	$(Q)tests/campaigns/sanitized thread $(TSAN_B) unit gateway/requests gateway/access
# The agent under sanitizers: its tests in the same builds. What they measure of memory and time is not promised there.
SAN_ROOT := $(addprefix bpf/,records control triggers conditions requests export locks reclaim names survive series freeze_path)
check-san-root: all
	$(Q)$(SAN_MAKE) all tests-bin
	$(Q)$(TSAN_MAKE) all tests-bin
	$(Q)tests/campaigns/sanitized address $(SAN_B) $(SAN_ROOT)
	$(Q)tests/campaigns/sanitized thread $(TSAN_B) $(addprefix bpf/,records control triggers)
# A flood of switches, execs and reclaim for SOAK_MINUTES (30): memory, descriptors, and every record accounted for.
check-soak: tests-bin
	$(Q)tests/campaigns/soak
# The long form of everything, a line each with its result and its time; hours. ONLY='check-san fuzz': these alone.
# Called again with the same tree it goes on with what has not ended well.
check-all: tests-bin
	$(Q)tests/campaigns/all $(ONLY)
# Can the tests fail? One behaviour at a time is broken in a copy of the tree. ONLY='cli bpf/locks NAME': these alone.
check-mutations: tests-bin deps-test deps-upload
	$(Q)tests/mutations/run $(ONLY)
# What it costs, beside other tools: tables into tests/bench/RESULTS.md, picture into docs/bench.svg. Fifty minutes.
# What deps-bench installs is measured where it is there and said to be missing where it is not.
bench: tests-bin
	$(Q)tests/bench/run
# Each program under six loads, a freeze, reading: Markdown on standard output.
bench-more: tests-bin
	$(Q)tests/bench/programs
	$(Q)tests/bench/freeze
	$(Q)tests/bench/fold
	$(Q)tests/bench/user_stacks
	$(Q)$(foreach b,$(filter %/unwind_tables %/sideband_storm,$(BENCHES)),$(b) &&) true

# A target links what it calls; replay.c runs it over its corpus, libFuzzer over what it finds.
FUZZ_LIBS = $(LIBS) $(DWLIB) $(GATEWAY_LIBS) $(UPLOAD_LIBS) -l:libiberty.a
$(B)/tests/fuzz/replay_%: $(B)/tests/fuzz/fuzz_%.o $(B)/tests/fuzz/replay.o $(TESTLIBS)
	$(say) LINK $@
	$(Q)$(CC) $(SANFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(FUZZ_LIBS)
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(TESTLIBS)
	$(say) FUZZ $@
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(FUZZ_LIBS)
.PHONY: fuzzers
fuzzers: $(FUZZERS)
# libFuzzer wants everything that it calls built for it, in a build of its own. FUZZ=name: that target alone.
FUZZ_B := $(B)/fuzz
FUZZ_SECONDS ?= 60
FUZZ_MAKE := $(MAKE) --no-print-directory B=$(FUZZ_B) CC=$(CLANG) SAN=fuzzer-no-link,address,undefined \
	WARN=-Wno-unknown-warning-option CFLAGS='-O1 -g -fno-sanitize-recover=undefined'
fuzz: deps-fuzz
	$(Q)$(FUZZ_MAKE) -j$(shell nproc) fuzzers
	$(Q)tests/campaigns/fuzz $(FUZZ_B) $(FUZZ_SECONDS) $(FUZZ)

# ---- Debian packages: build/deb/*.deb, the same bytes wherever and whenever they are made -----
deb:
	$(Q)tests/install-deps deb
	$(Q)debian/make $(B)/deb

# ---- hygiene --------------------------------------------------------------
.PHONY: lint check-layers check-headers check-spdx format help clean install uninstall deb
check-layers:
	$(Q)tests/check-layers
check-headers:
	$(Q)for h in format/*.h triggers/*.h config/*.h symbols/*.h $(filter-out unwind/walk.h,$(wildcard unwind/*.h)) recorder/*.h tools/*.h gateway/*.h upload/*.h bpf/ring.h bpf/events.h; do \
		$(CC) $(CPPFLAGS_) -std=gnu11 -Wall -Werror -fsyntax-only -x c $$h || exit 1; done
check-spdx:
	$(Q)tests/check-spdx
# cppcheck knows nothing of __attribute__((cleanup)): memleak and resourceLeak are left to ASan.
lint: check-layers check-headers check-spdx
	$(Q)tests/install-deps lint
	$(Q)cppcheck -q --std=c11 --error-exitcode=1 --inline-suppr -I. \
		--suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches --suppress=internalAstError:tools/flame.c --suppress=internalAstError:tools/cmd_html.c \
		--suppress=memleak --suppress=resourceLeak '-DLIBBPF_OPTS(type,name,...)=struct type name = {}' \
		format symbols triggers config unwind recorder tools gateway upload
	$(Q)shellcheck -x -P SCRIPTDIR -e SC1091,SC2015 -S warning tests/run tests/survive tests/demo tests/install-deps tests/lib.sh tests/perfetto.sh tests/holders.sh tests/campaigns/holder tests/campaigns/progress tests/campaigns/sanitize tests/mutations/run tests/bench/run tests/bench/freeze tests/bench/fold tests/bench/programs tests/bench/user_stacks tests/bench/lib.sh tests/bench/loads tests/bench/parts \
		tests/service/inside tests/check-spdx service/stallboxd-stopped service/stallbox-gateway-token debian/make $(filter-out %.tsv,$(wildcard tests/incidents/*.sh tests/service/*.sh tests/upload/*.sh tests/gateway/*.sh tests/cli/*.sh tests/golden/*.sh tests/browser/*.sh tests/consumers/*.sh tests/bpf/*.sh tests/vm/*))
	$(Q)tests/mutations/run --lint
# And what takes five minutes: clang-tidy, gcc -fanalyzer, every script, spelling. Suppressions, each with its reason: tests/lint.
.PHONY: lint-all
lint-all: lint $(B)/format/capture.pb-c.h $(addprefix $(B)/,bpf/stallbox_v3.skel.h bpf/stallbox_v2.skel.h tools/rules.inc \
	tools/flame.css.inc tools/flame.js.inc)
	$(Q)tests/lint/run $(B)
format:
	$(Q)clang-format -i $(FORMAT_SRC) $(SYMBOLS_SRC) $(TRIGGERS_SRC) $(CONFIG_SRC) $(UNWIND_SRC) $(RECORDER_SRC) $(TOOLS_SRC) $(GATEWAY_SRC) $(UPLOAD_SRC) \
		$(wildcard */*.h) $(BPF_SRC) $(UNIT_SRC) $(WORK_SRC)

# FILE:DIRECTORY[:NAME]. Scripts and units learn the directories of this installation.
INSTALL_PROGRAMS := $(B)/stallboxd:$(sbindir) $(B)/stallbox-gateway:$(sbindir) $(B)/stallbox-upload:$(sbindir) $(B)/stallbox:$(bindir) $(B)/stallbox-workload:$(bindir)
INSTALL_DATA := recorder/stallboxd.8:$(mandir)/man8 service/stallboxd.service.8:$(mandir)/man8 tools/stallbox.1:$(mandir)/man1 \
	tests/workloads/command/stallbox-workload.1:$(mandir)/man1 \
	upload/stallbox-upload.8:$(mandir)/man8 gateway/stallbox-gateway.8:$(mandir)/man8 service/stallbox-gateway.service.8:$(mandir)/man8 \
	$(B)/config/stallbox.conf.5:$(mandir)/man5 gateway/stallbox-alerts.yml:$(docdir) \
	service/stallbox-upload.service:$(unitdir) service/stallbox-gateway.service:$(unitdir) service/stallbox-gateway.socket:$(unitdir) \
	format/FORMAT.md:$(docdir) format/capture.proto:$(docdir) NOTICE:$(docdir) docs/ndjson.schema.json:$(docdir) docs/control.schema.json:$(docdir) \
	service/stallboxd.service:$(unitdir) service/stallbox.sysusers:$(sysdir)/sysusers.d:stallbox.conf \
	service/stallbox.tmpfiles:$(sysdir)/tmpfiles.d:stallbox.conf service/stallbox.catalog:$(sysdir)/systemd/catalog
INSTALL_SCRIPTS := service/stallboxd-stopped:$(libexecdir) service/stallbox-gateway-token:$(libexecdir)
part = $(word $(2),$(subst :, ,$(1)))
installed = $(DESTDIR)$(call part,$(1),2)/$(or $(call part,$(1),3),$(notdir $(call part,$(1),1)))
install: all
	$(foreach f,$(INSTALL_PROGRAMS),install -D -m 0755 $(call part,$(f),1) $(call installed,$(f))$(newline))
	$(foreach f,$(INSTALL_DATA),install -D -m 0644 $(call part,$(f),1) $(call installed,$(f))$(newline))
	$(foreach f,$(INSTALL_SCRIPTS),install -D -m 0755 $(call part,$(f),1) $(call installed,$(f))$(newline))
	test -e $(DESTDIR)$(sysconfdir)/stallbox/stallbox.conf || \
		install -D -m 0644 $(B)/config/stallbox.conf $(DESTDIR)$(sysconfdir)/stallbox/stallbox.conf
	sed -i -e 's|@sbindir@|$(sbindir)|g' -e 's|@libexecdir@|$(libexecdir)|g' \
		$(foreach f,$(INSTALL_SCRIPTS) $(filter %.service:$(unitdir),$(INSTALL_DATA)),$(call installed,$(f)))
	mkdir -p $(DESTDIR)$(bashdir) $(DESTDIR)$(zshdir)
	$(B)/stallbox completion bash > $(DESTDIR)$(bashdir)/stallbox
	$(B)/stallbox completion zsh > $(DESTDIR)$(zshdir)/_stallbox
uninstall:
	rm -f $(foreach f,$(INSTALL_PROGRAMS) $(INSTALL_DATA) $(INSTALL_SCRIPTS),$(call installed,$(f))) \
		$(DESTDIR)$(bashdir)/stallbox $(DESTDIR)$(zshdir)/_stallbox
	rm -rf $(DESTDIR)$(docdir)
	-rmdir $(DESTDIR)$(libexecdir)
clean:
	rm -rf $(B)
help:
	@echo 'all demo test check check-root check-vm KERNEL=x.y|all check-peers check-holder check-incidents check-progress check-limit check-gateway check-upload check-survive check-service check-faults check-power check-disk check-storm check-flips check-soak check-san check-san-root check-all check-mutations bench bench-more fuzz lint lint-all'
	@echo 'check-layers check-headers format deps deps-test deps-bench deps-upload vendor install uninstall deb clean'

# Not of what was unpacked there: Debian has directories by the name of init.d.
-include $(wildcard $(B)/*/*.d) $(filter-out $(B)/tools/%,$(wildcard $(B)/*/*/*.d))
.SECONDARY:
