// SPDX-License-Identifier: BSD-2-Clause

// Functions of Go that only call each other, over and over: without a frame, with a small and with a large one, with several ways
// out, and one that calls itself. For a test that follows each of their instructions.
package main

import "runtime"

var sum int

//go:noinline
func leaf(n int) int {
	return n*3 + 1
}

//go:noinline
func small(n int) int {
	return leaf(n) + leaf(n+1)
}

//go:noinline
func large(n int) int {
	var v [40]int
	for i := range v {
		v[i] = n - i
	}
	v[n&31] = small(n)
	return v[(n+1)&31]
}

//go:noinline
func ways(n int) int {
	if n&1 == 0 {
		return small(n)
	}
	if n&2 == 0 {
		return large(n) + 1
	}
	return leaf(n)
}

//go:noinline
func deep(n int) int {
	if n == 0 {
		return ways(5)
	}
	return deep(n-1) + 1
}

// In init(), so that it is the first thread.
func init() {
	runtime.LockOSThread()
}

func main() {
	for i := 0; ; i++ {
		sum += ways(i) + deep(i&3)
	}
}
