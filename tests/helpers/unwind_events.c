// SPDX-License-Identifier: BSD-2-Clause
/*
 * What elfutils' libdwfl says of the events that a recorder on the same host takes user stacks of:
 * each time a thread leaves the CPU to wait, and each interrupt of a sampling timer.
 *
 *     unwind_events SECONDS PID >STACKS      says "recording" and "recorded" on standard error
 *
 * The kernel's own perf copies the user registers and up to 64 KiB of the stack at these moments,
 * in the tracepoints sched:sched_switch and timer:hrtimer_expire_entry; what is copied is unwound
 * afterwards, while the process is still there, whose mappings are taken for what they were. A line
 * for each executable one, and for each event:
 *
 *     code START END
 *     off-cpu|on-cpu TID NS end|copy|below|ERROR ADDRESS...
 *
 * NS: CLOCK_MONOTONIC. copy: the unwinder asked for a word of that stack which is not in the copy;
 * below: for one below the stack pointer, where a register that was taken from the stack a moment
 * ago is still looked for. ERROR: libdwfl's, with '_' for spaces. Threads that begin meanwhile are
 * not there. Exits with 77 and says why where the kernel lacks what it takes.
 */
#include <dirent.h>
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TRACEFS	    "/sys/kernel/tracing"
#define MAX_FRAMES  512
#define MAX_STREAMS 256
#define MAX_SAMPLES 6000
#define BUFFER	    (8u << 20) /* bytes for each event of each thread: 128 copies */
#define COPY	    65528u     /* bytes of stack: a record is no longer than 64 KiB */
#define REGISTERS   17	       /* of DWARF: 16 and the instruction pointer */

/* Where perf has the registers of DWARF (arch/x86/include/uapi/asm/perf_regs.h). */
static const uint8_t perf_register[REGISTERS] = {0,  3,	 2,  1,	 4,  5,	 6,  7, 16,
						 17, 18, 19, 20, 21, 22, 23, 8};

struct stream {
	const char *kind;
	int fd;
	uint8_t *buffer;
};

struct sample {
	const char *kind;
	pid_t tid;
	uint64_t ts_ns;
	uint64_t reg[REGISTERS];
	uint64_t stack_bytes;
	uint8_t *stack;
};

struct mapping {
	uint64_t start, end;
	bool writable;
};

static struct {
	struct stream stream[MAX_STREAMS];
	size_t n_streams;
	struct sample sample[MAX_SAMPLES];
	size_t n_samples;
	uint64_t lost;
	struct mapping mapping[8192];
	size_t n_mappings;
	pid_t pid;
	int mem;
	const struct sample *now; /* that is unwound */
	bool beyond, below; /* of the copy; the stack pointer */
	size_t n;
	uint64_t pc[MAX_FRAMES];
} x;

__attribute__((format(printf, 2, 3))) static _Noreturn void give_up(int status, const char *format,
								    ...)
{
	va_list ap;

	va_start(ap, format);
	fprintf(stderr, "unwind_events: ");
	vfprintf(stderr, format, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	exit(status);
}

/* ---- recording -------------------------------------------------------------------------- */

static uint64_t id_of(const char *event)
{
	char path[128];
	uint64_t id;
	FILE *f;

	snprintf(path, sizeof(path), TRACEFS "/events/%s/id", event);
	f = fopen(path, "r");
	if (!f || fscanf(f, "%" SCNu64, &id) != 1)
		give_up(77, "no tracepoint %s: %s", event, strerror(errno));
	fclose(f);
	return id;
}

/* Where the kernel's function begins, that a sampling timer runs. */
static uint64_t kernel_address(const char *name)
{
	FILE *f = fopen("/proc/kallsyms", "r");
	uint64_t address = 0, at;
	char line[512], symbol[256];

	while (f && !address && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 " %*c %255s", &at, symbol) == 2 &&
		    !strcmp(symbol, name))
			address = at;
	}
	if (f)
		fclose(f);
	if (!address)
		give_up(77, "no %s in /proc/kallsyms", name);
	return address;
}

static void open_stream(const char *kind, uint64_t id, const char *filter, pid_t tid)
{
	struct perf_event_attr a = {.type = PERF_TYPE_TRACEPOINT,
				    .size = sizeof(a),
				    .config = id,
				    .sample_period = 1,
				    .sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME |
						   PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
				    .sample_stack_user = COPY,
				    .use_clockid = 1,
				    .clockid = CLOCK_MONOTONIC};
	struct stream *s = &x.stream[x.n_streams];
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (x.n_streams == MAX_STREAMS)
		give_up(1, "more than %d threads", MAX_STREAMS / 2);
	for (size_t i = 0; i < REGISTERS; i++)
		a.sample_regs_user |= 1ULL << perf_register[i];
	s->kind = kind;
	s->fd = (int)syscall(SYS_perf_event_open, &a, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (s->fd < 0 && errno == ESRCH)
		return; /* the thread has ended */
	if (s->fd < 0)
		give_up(77, "perf event of thread %d: %s", tid, strerror(errno));
	if (ioctl(s->fd, PERF_EVENT_IOC_SET_FILTER, filter) < 0)
		give_up(77, "filter '%s': %s", filter, strerror(errno));
	s->buffer = mmap(NULL, page + BUFFER, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (s->buffer == MAP_FAILED)
		give_up(1, "buffer of %u bytes: %s", BUFFER, strerror(errno));
	x.n_streams++;
}

static void open_streams(void)
{
	uint64_t switches = id_of("sched/sched_switch"),
		 timers = id_of("timer/hrtimer_expire_entry");
	char path[64], sampler[64];
	struct dirent *e;
	DIR *d;

	snprintf(sampler, sizeof(sampler), "function == 0x%" PRIx64,
		 kernel_address("perf_swevent_hrtimer"));
	snprintf(path, sizeof(path), "/proc/%d/task", x.pid);
	d = opendir(path);
	if (!d)
		give_up(1, "%s: %s", path, strerror(errno));
	while ((e = readdir(d))) {
		pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);

		if (!tid)
			continue;
		open_stream("off-cpu", switches, "prev_state != 0", tid);
		open_stream("on-cpu", timers, sampler, tid);
	}
	closedir(d);
}

static void take_sample(const char *kind, const uint8_t *record)
{
	const uint64_t *word = (const void *)(record + sizeof(struct perf_event_header));
	uint64_t size, at = 0, mask = 0;
	struct sample *s = &x.sample[x.n_samples];

	if (x.n_samples == MAX_SAMPLES ||
	    !word[2]) { /* no user registers: a thread of the kernel's */
		x.lost += x.n_samples == MAX_SAMPLES;
		return;
	}
	s->kind = kind;
	s->tid = (pid_t)(word[0] >> 32);
	s->ts_ns = word[1];
	word += 3;
	for (size_t i = 0; i < REGISTERS; i++)
		mask |= 1ULL << perf_register[i];
	for (size_t bit = 0; bit < 64; bit++) {
		if (!(mask >> bit & 1))
			continue;
		for (size_t i = 0; i < REGISTERS; i++) {
			if (perf_register[i] == bit)
				s->reg[i] = word[at];
		}
		at++;
	}
	size = word[at];
	word += at + 1;
	s->stack_bytes = size ? word[size / 8] : 0;
	s->stack = malloc(s->stack_bytes + 1);
	if (!s->stack)
		give_up(1, "no memory for %zu copies", x.n_samples);
	memcpy(s->stack, word, s->stack_bytes);
	x.n_samples++;
}

static void drain(const struct stream *s)
{
	static uint64_t record[65536 / 8];
	struct perf_event_mmap_page *page = (void *)s->buffer;
	const uint8_t *data = s->buffer + page->data_offset;
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), tail = page->data_tail;

	while (tail < head) {
		uint64_t at = tail % BUFFER,
			 len = ((const struct perf_event_header *)(const void *)(data + at))->size;
		uint64_t first = len < BUFFER - at ? len : BUFFER - at;
		const struct perf_event_header *h = (const void *)record;

		memcpy(record, data + at, first);
		memcpy((uint8_t *)record + first, data, len - first);
		if (h->type == PERF_RECORD_SAMPLE)
			take_sample(s->kind, (const uint8_t *)record);
		else if (h->type == PERF_RECORD_LOST)
			x.lost += record[2];
		tail += len;
	}
	__atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void record(double seconds)
{
	uint64_t until = now_ns() + (uint64_t)(seconds * 1e9);

	fprintf(stderr, "recording\n");
	do {
		usleep(5000);
		for (size_t i = 0; i < x.n_streams; i++)
			drain(&x.stream[i]);
	} while (now_ns() < until);
	for (size_t i = 0; i < x.n_streams; i++) {
		ioctl(x.stream[i].fd, PERF_EVENT_IOC_DISABLE, 0);
		drain(&x.stream[i]);
	}
	fprintf(stderr, "recorded\n");
}

/* ---- unwinding -------------------------------------------------------------------------- */

static void read_mappings(void)
{
	char path[64], line[4096 + 256], flags[8];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mem", x.pid);
	x.mem = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", x.pid);
	f = fopen(path, "r");
	if (!f)
		give_up(1, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), f) &&
	       x.n_mappings < sizeof(x.mapping) / sizeof(*x.mapping)) {
		struct mapping *m = &x.mapping[x.n_mappings];

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &m->start, &m->end, flags) != 3)
			continue;
		m->writable = flags[1] == 'w';
		if (flags[2] == 'x')
			printf("code %" PRIx64 " %" PRIx64 "\n", m->start, m->end);
		x.n_mappings++;
	}
	fclose(f);
}

static const struct mapping *mapping_of(uint64_t address)
{
	for (size_t i = 0; i < x.n_mappings; i++) {
		if (address >= x.mapping[i].start && address < x.mapping[i].end)
			return &x.mapping[i];
	}
	return NULL;
}

/* The copy, and besides only what does not change. */
static bool memory_read(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *ret, void *arg)
{
	const struct mapping *m = mapping_of(address);
	uint64_t sp = x.now->reg[7];

	(void)dwfl;
	(void)arg;
	if (address - sp < x.now->stack_bytes &&
	    x.now->stack_bytes - (address - sp) >= sizeof(*ret)) {
		memcpy(ret, x.now->stack + (address - sp), sizeof(*ret));
		return true;
	}
	if (!m || m->writable) {
		if (m && sp >= m->start && sp < m->end)
			*(address < sp ? &x.below : &x.beyond) = true;
		return false;
	}
	return pread(x.mem, ret, sizeof(*ret), (off_t)address) == sizeof(*ret);
}

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
	(void)dwfl;
	(void)arg;
	if (*thread_arg)
		return 0;
	*thread_arg = &x;
	return x.now->tid;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
	(void)arg;
	return dwfl_thread_state_registers(thread, 0, REGISTERS, x.now->reg);
}

static int take_frame(Dwfl_Frame *frame, void *arg)
{
	Dwarf_Addr pc;

	(void)arg;
	if (x.n == MAX_FRAMES || !dwfl_frame_pc(frame, &pc, NULL))
		return DWARF_CB_ABORT;
	x.pc[x.n++] = pc;
	return DWARF_CB_OK;
}

static void unwind_all(void)
{
	static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
						 .find_debuginfo = dwfl_standard_find_debuginfo};
	static const Dwfl_Thread_Callbacks of_copy = {.next_thread = next_thread,
						      .memory_read = memory_read,
						      .set_initial_registers = set_registers};
	Dwfl *dwfl = dwfl_begin(&callbacks);
	char why[128];
	int r;

	read_mappings();
	if (!dwfl || dwfl_linux_proc_report(dwfl, x.pid) || dwfl_report_end(dwfl, NULL, NULL) ||
	    !dwfl_attach_state(dwfl, NULL, x.pid, &of_copy, NULL))
		give_up(1, "libdwfl: %s", dwfl_errmsg(-1));
	for (size_t i = 0; i < x.n_samples; i++) {
		x.now = &x.sample[i];
		x.n = 0;
		x.beyond = x.below = false;
		r = dwfl_getthread_frames(dwfl, x.now->tid, take_frame, NULL);
		snprintf(why, sizeof(why), "%s",
			 x.beyond  ? "copy" :
			 x.below   ? "below" :
			 r	   ? dwfl_errmsg(-1) :
				     "end");
		for (char *c = why; *c; c++)
			*c = *c == ' ' ? '_' : *c;
		printf("%s %d %" PRIu64 " %s", x.now->kind, x.now->tid, x.now->ts_ns, why);
		for (size_t j = 0; j < x.n; j++)
			printf(" %" PRIx64, x.pc[j]);
		printf("\n");
	}
	dwfl_end(dwfl);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		give_up(2, "expected SECONDS and a process");
#ifndef __x86_64__
	give_up(77, "only the registers of x86-64 are known here");
#endif
	x.pid = (pid_t)strtol(argv[2], NULL, 10);
	open_streams();
	record(atof(argv[1]));
	unwind_all();
	fprintf(stderr, "lost %" PRIu64 "\n", x.lost);
	return fflush(stdout) ? 1 : 0;
}
