/* SPDX-License-Identifier: MIT */
/*
 * What the C tests of the core share: checks that end the process, entries, and a look at what the process holds.
 *
 * Flags and offsets the installed headers may be too old for are spelled out, as <linux/io_uring.h> of Linux 6.18 has them.
 */
#ifndef AIONVME_TESTS_CHECK_H
#define AIONVME_TESTS_CHECK_H

#include <dirent.h>
#include <fcntl.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

#define NOP_INJECT_RESULT (1U << 0) /* res = sqe->len */
#define NOP_TW (1U << 4) /* complete by deferred work */
#define NOP_CQE32 (1U << 5) /* big_cqe[0] = sqe->off, big_cqe[1] = sqe->addr */

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);         \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		const long long got_ = (long long)(got), want_ = (long long)(want);                \
		if (got_ != want_) {                                                               \
			fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #got, \
				got_, want_);                                                      \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* The kernel lacks what a case needs: say what, and end with the exit code that means "skipped". */
#define SKIP_UNLESS(cond, lacking)                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			puts(lacking);                                                             \
			exit(77);                                                                  \
		}                                                                                  \
	} while (0)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct test_case {
	const char *name;
	void (*run)(void);
};

/* main() of a test program: run the cases named on the command line, or list them all. 2 where a name is not known. */
static inline int run_cases(int argc, char **argv, const struct test_case *cases, unsigned n)
{
	unsigned known = 0;

	for (unsigned i = 0; i < n; i++) {
		if (argc < 2)
			puts(cases[i].name);
		for (int arg = 1; arg < argc; arg++) {
			if (!strcmp(argv[arg], cases[i].name)) {
				cases[i].run();
				known++;
			}
		}
	}
	return known == (unsigned)argc - 1 ? 0 : 2;
}

static inline struct aionvme_ring *open_ring(unsigned entries, unsigned cq_entries, bool iopoll)
{
	struct aionvme_ring *ring = NULL;
	int ret = -ENOMEM;

	/* What an ordinary user may lock is given back some time after a ring closes: with many of them, wait for it. */
	for (int i = 0; i < 5000 && ret == -ENOMEM; i++) {
		if (i)
			usleep(1000);
		ret = aionvme_ring_open(entries, cq_entries, iopoll, &ring);
	}
	CHECK_EQ(ret, 0);
	CHECK(ring);
	return ring;
}

static inline struct aionvme_sqe entry(const struct io_uring_sqe *sqe)
{
	struct aionvme_sqe out = { 0 };

	memcpy(out.bytes, sqe, sizeof(*sqe));
	return out;
}

static inline struct aionvme_sqe nop(uint64_t user_data)
{
	return entry(&(struct io_uring_sqe){ .opcode = IORING_OP_NOP, .user_data = user_data });
}

/* A command that stays in the kernel until somebody writes to the pipe (res 1) or closes its other end (res 0). */
static inline struct aionvme_sqe held(uint64_t user_data, int pipe_fd, void *byte)
{
	return entry(&(struct io_uring_sqe){ .opcode = IORING_OP_READ,
					     .fd = pipe_fd,
					     .addr = (uintptr_t)byte,
					     .len = 1,
					     .user_data = user_data });
}

/* Submit one entry and tick until its completion is there. */
static inline struct aionvme_cqe carry_out(struct aionvme_ring *ring, struct aionvme_sqe sqe)
{
	struct aionvme_cqe cqe;
	unsigned accepted, n = 1;
	int ret;

	do {
		ret = aionvme_ring_tick(ring, &sqe, n, &accepted, &cqe, 1);
		CHECK(ret >= 0);
		n -= accepted;
	} while (!ret);
	return cqe;
}

static inline bool readable(int fd, int timeout_ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int ret;

	do
		ret = poll(&pfd, 1, timeout_ms);
	while (ret < 0 && errno == EINTR);
	return ret == 1;
}

static inline unsigned open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* How many mappings of io_uring files the process has; the address of the one at @offset goes to @found, where not NULL. */
static inline unsigned ring_mappings(unsigned long offset, void **found)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned n = 0;

	CHECK(maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, at;

		if (!strstr(line, "[io_uring]"))
			continue;
		n++;
		CHECK_EQ(sscanf(line, "%lx-%*x %*s %lx", &start, &at), 2);
		if (found && at == offset)
			*found = (void *)start;
	}
	fclose(maps);
	return n;
}

#endif
