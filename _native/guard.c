// SPDX-License-Identifier: MIT
/*
 * CRC-16/T10-DIF, sixteen bytes at a time.
 *
 * table[k][b] is the CRC of the byte b with k bytes of zeroes behind it. A CRC is linear: that of sixteen bytes is the sum of what
 * each of them comes to at its distance from the end, once the CRC so far has been added to the first two.
 */
#include "guard.h"

#define POLYNOMIAL 0x8bb7
#define SLICE	   16

static uint16_t table[SLICE][256];

/* At load time: no thread can come before it, and none need ask. */
__attribute__((constructor)) static void fill_table(void)
{
	for (unsigned byte = 0; byte < 256; byte++) {
		uint16_t crc = byte << 8;

		for (int bit = 0; bit < 8; bit++)
			crc = crc << 1 ^ (crc & 0x8000 ? POLYNOMIAL : 0);
		table[0][byte] = crc;
	}
	for (int k = 1; k < SLICE; k++)
		for (unsigned byte = 0; byte < 256; byte++)
			table[k][byte] = table[k - 1][byte] << 8 ^ table[0][table[k - 1][byte] >> 8];
}

static uint16_t add(uint16_t crc, const uint8_t *bytes, uint32_t len)
{
	for (; len >= SLICE; len -= SLICE, bytes += SLICE) {
		uint16_t sum = table[15][bytes[0] ^ crc >> 8] ^ table[14][bytes[1] ^ (crc & 0xff)];

#pragma GCC unroll 16
		for (int i = 2; i < SLICE; i++)
			sum ^= table[SLICE - 1 - i][bytes[i]];
		crc = sum;
	}
	while (len--)
		crc = crc << 8 ^ table[0][crc >> 8 ^ *bytes++];
	return crc;
}

void aionvme_guards(const uint8_t *data, uint64_t data_stride, uint32_t data_len, const uint8_t *metadata,
		    uint64_t metadata_stride, uint32_t metadata_len, uint32_t n, uint16_t *guards)
{
	for (uint32_t i = 0; i < n; i++)
		guards[i] = add(add(0, data + i * data_stride, data_len), metadata + i * metadata_stride, metadata_len);
}
