/* SPDX-License-Identifier: MIT */
#ifndef AIONVME_GUARD_H
#define AIONVME_GUARD_H

#include <stdint.h>

/**
 * aionvme_guards() - Guards of logical blocks
 * @data:		data of the first block
 * @data_stride:	bytes from one block's data to the next one's
 * @data_len:		bytes of data in a block
 * @metadata:		metadata of the first block, of which the guard covers the start
 * @metadata_stride:	bytes from one block's metadata to the next one's
 * @metadata_len:	bytes of metadata that the guard covers, may be 0
 * @n:			number of blocks
 * @guards:		what they come to, in the processor's byte order
 *
 * The guard of a block is CRC-16/T10-DIF: polynomial 8BB7h, from 0, highest bit first (NVM Command Set Specification 1.0, section
 * 5.2.1.1).
 */
void aionvme_guards(const uint8_t *data, uint64_t data_stride, uint32_t data_len, const uint8_t *metadata,
		    uint64_t metadata_stride, uint32_t metadata_len, uint32_t n, uint16_t *guards);

#endif
