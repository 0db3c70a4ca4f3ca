// SPDX-License-Identifier: MIT
/* The native core on real rings: sleeping on the eventfd, waking, and deferred work. */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "check.h"

static char byte;

static int reap(struct aionvme_ring *ring, struct aionvme_cqe *cqes, unsigned max)
{
	unsigned accepted;

	return aionvme_ring_tick(ring, NULL, 0, &accepted, cqes, max);
}

static void submit(struct aionvme_ring *ring, struct aionvme_sqe sqe)
{
	struct aionvme_cqe cqe;
	unsigned accepted;

	CHECK_EQ(aionvme_ring_tick(ring, &sqe, 1, &accepted, &cqe, 1), 0);
	CHECK_EQ(accepted, 1);
}

/* The eventfd becomes readable for a completion while armed and never while disarmed; armed too late, arm says so. */
static void eventfd_protocol(void)
{
	struct aionvme_ring *ring = open_ring(8, 16, false);
	const int event = aionvme_ring_register_eventfd(ring);
	struct aionvme_cqe cqe;
	unsigned files;
	int pipe_fds[2];

	CHECK(event >= 0);
	CHECK_EQ(fcntl(event, F_GETFD), FD_CLOEXEC);
	files = open_files();
	CHECK_EQ(aionvme_ring_register_eventfd(ring), -EBUSY);
	CHECK_EQ(open_files(), files);
	CHECK_EQ(pipe(pipe_fds), 0);

	/* Disarmed from the start: completions, deferred or not, do not show. */
	CHECK_EQ(carry_out(ring, nop(1)).user_data, 1);
	submit(ring, held(2, pipe_fds[0], &byte));
	CHECK_EQ(write(pipe_fds[1], "x", 1), 1);
	CHECK(!readable(event, 20));

	/* That one has completed: arm must not let us sleep, and leaves nothing readable behind. */
	CHECK_EQ(aionvme_ring_arm(ring), 1);
	CHECK(!readable(event, 0));
	CHECK_EQ(reap(ring, &cqe, 1), 1);
	CHECK_EQ(cqe.user_data, 2);
	CHECK_EQ(cqe.res, 1);

	/* Armed with nothing there: not readable before the completion, readable after it, and not after disarming. */
	submit(ring, held(3, pipe_fds[0], &byte));
	CHECK_EQ(aionvme_ring_arm(ring), 0);
	CHECK(!readable(event, 20));
	CHECK_EQ(write(pipe_fds[1], "x", 1), 1);
	CHECK(readable(event, 1000));
	aionvme_ring_disarm(ring);
	CHECK(!readable(event, 0));
	CHECK_EQ(reap(ring, &cqe, 1), 1);
	CHECK_EQ(cqe.user_data, 3);

	/* An unreaped completion in the ring counts as something there, too. */
	submit(ring, held(4, pipe_fds[0], &byte));
	submit(ring, held(5, pipe_fds[0], &byte));
	close(pipe_fds[1]);
	CHECK_EQ(reap(ring, &cqe, 1), 1);
	CHECK_EQ(cqe.res, 0);
	CHECK_EQ(aionvme_ring_arm(ring), 1);
	CHECK_EQ(reap(ring, &cqe, 1), 1);
	CHECK_EQ(aionvme_ring_arm(ring), 0);
	CHECK(!readable(event, 20));
	aionvme_ring_close(ring);
	close(pipe_fds[0]);
}

/*
 * The kernel looks whether it may signal before it signals, so that a signal can come after the disarming, for a completion that
 * was reaped already. A tick with nothing in flight takes it back; otherwise an idle loop would spin on the eventfd for ever.
 */
static void late_signal(void)
{
	struct aionvme_ring *ring = open_ring(8, 16, false);
	const int event = aionvme_ring_register_eventfd(ring);
	struct aionvme_cqe cqe;

	CHECK_EQ(carry_out(ring, nop(1)).res, 0);
	CHECK_EQ(eventfd_write(event, 1), 0); /* what the kernel does, at a moment of our choice */
	CHECK(readable(event, 0));
	CHECK_EQ(reap(ring, &cqe, 1), 0);
	CHECK(!readable(event, 0));
	aionvme_ring_close(ring);
}

static void *write_bytes(void *arg)
{
	const int *fds = arg; /* a turn is asked for through fds[2], and answered through fds[1] */
	unsigned random = 1;
	char go;

	while (read(fds[2], &go, 1) == 1) {
		random = random * 1664525 + 1013904223;
		for (volatile unsigned spin = random >> 22; spin; spin--)
			;
		CHECK_EQ(write(fds[1], "x", 1), 1);
	}
	return NULL;
}

/* A completion that races with the arming is either found by it or signalled: no sleep ever misses its wake-up. */
static void arm_races(void)
{
	struct aionvme_ring *ring = open_ring(8, 16, false);
	const int event = aionvme_ring_register_eventfd(ring);
	int data[2], go[2], fds[3];
	pthread_t thread;

	CHECK_EQ(pipe(data) | pipe(go), 0);
	fds[1] = data[1];
	fds[2] = go[0];
	CHECK_EQ(pthread_create(&thread, NULL, write_bytes, fds), 0);
	for (unsigned i = 0; i < 3000; i++) {
		struct aionvme_cqe cqe;
		int n;

		submit(ring, held(i, data[0], &byte));
		CHECK_EQ(write(go[1], "x", 1), 1);
		do {
			if (!aionvme_ring_arm(ring))
				CHECK(readable(event, 5000));
			aionvme_ring_disarm(ring);
			n = reap(ring, &cqe, 1);
			CHECK(n >= 0);
		} while (!n);
		CHECK_EQ(cqe.user_data, i);
	}
	close(go[1]);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	aionvme_ring_close(ring);
	close(go[0]);
	close(data[0]);
	close(data[1]);
}

/* More deferred work than one enter runs: one tick may give a part of it, but arm does not let us sleep before the rest. */
static void deferred_work(void)
{
	struct aionvme_ring *ring = open_ring(256, 512, false);
	const int event = aionvme_ring_register_eventfd(ring);
	struct aionvme_cqe cqes[256];
	unsigned done = 0, seen[256] = { 0 };
	int pipe_fds[2];

	CHECK_EQ(pipe(pipe_fds), 0);
	for (unsigned i = 0; i < 256; i++)
		submit(ring, held(i, pipe_fds[0], &byte));
	CHECK_EQ(aionvme_ring_arm(ring), 0);
	close(pipe_fds[1]); /* the end of file completes all of them */
	CHECK(readable(event, 1000));
	aionvme_ring_disarm(ring);
	while (done < 256) {
		int n = reap(ring, cqes, 256);

		CHECK(n > 0);
		for (int i = 0; i < n; i++)
			seen[cqes[i].user_data]++;
		done += n;
		CHECK_EQ(aionvme_ring_arm(ring), done < 256);
	}
	for (unsigned i = 0; i < 256; i++)
		CHECK_EQ(seen[i], 1);
	aionvme_ring_close(ring);
	close(pipe_fds[0]);
}

static const struct test_case cases[] = {
	{ "eventfd_protocol", eventfd_protocol },
	{ "late_signal", late_signal },
	{ "arm_races", arm_races },
	{ "deferred_work", deferred_work },
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, COUNT(cases));
}
