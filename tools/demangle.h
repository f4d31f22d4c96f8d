/* SPDX-License-Identifier: BSD-2-Clause */
/* C++ and Rust names as people write them. Bundles hold them mangled, as they were found. */
#ifndef SB_TOOLS_DEMANGLE_H
#define SB_TOOLS_DEMANGLE_H

/* The readable name without parameters, to be freed; NULL: it is none, or is told to be absurdly
 * long. Names are hostile. */
char *demangle(const char *name);

#endif
