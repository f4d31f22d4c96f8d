/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands in for libbpf's header of this name, so that a unit test can include the BPF
 * programs themselves and run them as plain functions: a "CPU" is a thread that sets
 * model_cpu, a map is memory that the test hands out in model_lookup().
 */
#pragma once

#include <stdint.h>
#include <string.h>
#include <time.h>

#define SEC(name)
#define __uint(name, val) int(*name)[val]
#define __type(name, val) __typeof__(val) *name
#define __weak		  __attribute__((weak))
#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#define __noinline	  __attribute__((noinline))
#define barrier()	  __asm__ volatile("" ::: "memory")

/* The test gives model_lookup(); for the others model.c has what does nothing. */
extern _Thread_local uint32_t model_cpu;
extern _Thread_local uint64_t model_pid_tgid;
void *model_lookup(const void *map, uint32_t key);
/* Frames for bpf_get_stack() and its like: bytes written. */
long model_stack(void *buf, uint32_t bytes, uint64_t flags);
/* Called where the agent would be woken. */
void model_hit(const void *hit);
/* Called where a timer would be set: nanoseconds from now. */
void model_timer(const void *timer, uint64_t ns);

static inline uint64_t model_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline long model_zero(void *to, size_t size)
{
	memset(to, 0, size);
	return 0;
}

static inline long model_read(void *to, size_t size, const void *from)
{
	memcpy(to, from, size);
	return 0;
}

static inline long model_callback(const void *fn)
{
	(void)fn;
	return 0;
}

static inline long model_start(const void *timer, uint64_t ns)
{
	model_timer(timer, ns);
	return 0;
}

#define bpf_map_lookup_elem(map, key)		   model_lookup((map), *(const uint32_t *)(key))
#define bpf_get_smp_processor_id()		   model_cpu
#define bpf_ktime_get_ns()			   model_now()
#define bpf_get_current_pid_tgid()		   model_pid_tgid
#define bpf_get_current_comm(buf, size)		   memset((buf), 0, (size))
#define bpf_get_current_task()			   0
#define bpf_get_stack(ctx, buf, size, flags)	   model_stack((buf), (size), (flags))
#define bpf_get_task_stack(task, buf, size, flags) model_stack((buf), (size), (flags))
#define bpf_probe_read_kernel(to, size, from)	   model_read((to), (size), (from))
#define bpf_probe_read_user(to, size, from)	   (-14)
#define barrier_var(x)				   ((void)(x))
#define bpf_get_current_task_btf()		   ((void *)0)
#define bpf_task_pt_regs(task)			   ((uintptr_t)0)
#define bpf_probe_read_kernel_str(to, size, from)  memset((to), 0, (size))
#define bpf_ringbuf_output(map, data, size, flags) model_hit(data)
#define bpf_timer_init(timer, map, clock)	   ((void)(map))
#define bpf_timer_set_callback(timer, fn)	   model_callback((const void *)(fn))
#define bpf_timer_start(timer, ns, flags)	   model_start((timer), (ns))
#define bpf_timer_cancel(timer)			   ((void)(timer))
