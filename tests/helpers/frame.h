/* SPDX-License-Identifier: BSD-2-Clause */
/* One frame of a bundle from its plain text, as a writer makes it: with a checksum and its size. */
#ifndef SB_TESTS_HELPERS_FRAME_H
#define SB_TESTS_HELPERS_FRAME_H

#include <zstd.h>

/* Its bytes, or what ZSTD_isError() says of. */
static inline size_t frame_pack(void *to, size_t size, const void *plain, size_t len)
{
	static ZSTD_CCtx *zstd;

	if (!zstd) {
		zstd = ZSTD_createCCtx();
		ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
		ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, 1);
	}
	return ZSTD_compress2(zstd, to, size, plain, len);
}

#endif
