/* SPDX-License-Identifier: BSD-2-Clause */
/* In the model no kernel is read: every field is 0. */
#pragma once

#define BPF_CORE_READ(...)		   0
#define BPF_CORE_READ_INTO(to, ...)	   model_zero((to), sizeof(*(to)))
#define bpf_core_field_exists(...)	   1
#define BPF_CORE_READ_BITFIELD_PROBED(s, f) ((s)->f)
#define bpf_core_field_offset(...)	   0
#define bpf_core_enum_value_exists(...)	   0
#define bpf_core_enum_value(...)	   0
