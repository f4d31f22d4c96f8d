#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
# The first and last occurrence of each system call of storing a bundle fails; make check-faults does all of them.
cd "$(dirname "$0")/../.." || exit 1
exec tests/campaigns/faults --short
