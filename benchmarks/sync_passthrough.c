// SPDX-License-Identifier: MIT
/*
 * Random reads through the synchronous passthrough ioctl, which has one command under way for each thread.
 *
 *   sync_passthrough DEVICE BYTES THREADS SECONDS
 *
 * DEVICE is a namespace's character device. Prints reads a second, and microseconds of processor time for each.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#define MAX_THREADS 256
#define NS_BYTES    (64L << 20)
#define BLOCK	    512

static int fd, nsid;
static unsigned len;
static atomic_bool stop;

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Returns how many reads it made, -1 where one failed. */
static void *reader(void *data)
{
	unsigned seed = (uintptr_t)data + 1;
	void *buffer = aligned_alloc(4096, len);
	long reads = 0;

	while (!stop) {
		struct nvme_passthru_cmd64 cmd = {
			.opcode = 2,
			.nsid = nsid,
			.addr = (uintptr_t)buffer,
			.data_len = len,
			.cdw10 = rand_r(&seed) % (NS_BYTES / len) * (len / BLOCK),
			.cdw12 = len / BLOCK - 1,
		};

		if (ioctl(fd, NVME_IOCTL_IO64_CMD, &cmd)) {
			reads = -1;
			break;
		}
		reads++;
	}
	free(buffer);
	return (void *)reads;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_THREADS];
	struct timespec duration;
	double start, processor, seconds;
	unsigned n;
	long reads = 0;

	if (argc != 5)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	nsid = ioctl(fd, NVME_IOCTL_ID);
	len = atoi(argv[2]);
	n = atoi(argv[3]);
	seconds = atof(argv[4]);
	if (nsid <= 0 || len < BLOCK || !n || n > MAX_THREADS)
		return 2;
	start = now(CLOCK_MONOTONIC);
	processor = now(CLOCK_PROCESS_CPUTIME_ID);
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)i))
			return 1;
	duration.tv_sec = seconds;
	duration.tv_nsec = (seconds - duration.tv_sec) * 1e9;
	nanosleep(&duration, NULL);
	stop = true;
	for (unsigned i = 0; i < n; i++) {
		void *made;

		pthread_join(threads[i], &made);
		if ((long)made < 0)
			return 1;
		reads += (long)made;
	}
	printf("%.1f %.3f\n", reads / (now(CLOCK_MONOTONIC) - start),
	       (now(CLOCK_PROCESS_CPUTIME_ID) - processor) / reads * 1e6);
	return 0;
}
