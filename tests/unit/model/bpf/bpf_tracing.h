/* SPDX-License-Identifier: BSD-2-Clause */
#pragma once

#define BPF_PROG(name, ...) name(unsigned long long *ctx, ##__VA_ARGS__)
