// SPDX-License-Identifier: BSD-2-Clause

// A chain of Go functions whose innermost one asks the runtime, which answers on the thread's own
// stack, or calls C, which waits there, or runs until the runtime's signal interrupts it, or calls a
// function that keeps no frame: for tests of walks that go from one stack to the other.
package main

/*
#include <unistd.h>
static void hold(int us) { for (;;) us ? usleep(us) : pause(); }
*/
import "C"

import (
	"os"
	"runtime"
)

var stats runtime.MemStats

//go:noinline
func leaf(n *uint64) {
	for *n != 1 {
		*n += 2
	}
}

//go:noinline
func inner(mode string) {
	if mode == "c" {
		C.hold(0)
	}
	if mode == "c-again" {
		C.hold(20000)
	}
	if mode == "leaf" {
		leaf(&stats.Sys)
	}
	for mode == "spin" {
		stats.Sys++
	}
	for {
		runtime.ReadMemStats(&stats)
	}
}

//go:noinline
func outer(mode string) {
	inner(mode)
	stats.Sys++
}

// In init(), so that it is the first thread.
func init() {
	runtime.LockOSThread()
}

func main() {
	outer(os.Args[1])
	stats.Sys++
}
