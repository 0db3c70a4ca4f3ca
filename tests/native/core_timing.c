// SPDX-License-Identifier: MIT
/* The native core's clockwork on real rings: recorded latencies, counted polls, lingering. */
#include <pthread.h>
#include <time.h>

#include "check.h"

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static uint64_t total(const struct aionvme_latencies *latencies)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < AIONVME_LATENCY_BUCKETS; i++)
		n += latencies->counts[i];
	return n;
}

/* Buckets go up by one, start a nanosecond after each other, hold all 64 bits, and are never wider than a 128th of their start. */
static void buckets(void)
{
	uint64_t start = 0;

	for (unsigned i = 0; i < AIONVME_LATENCY_BUCKETS; i++) {
		const uint64_t width = i < 256 ? 1 : 1ULL << (i / 128 - 1);

		CHECK_EQ(aionvme_latency_bucket(start), i);
		CHECK_EQ(aionvme_latency_bucket(start + width - 1), i);
		CHECK(i < 128 || width <= start / 128);
		start += width;
	}
	CHECK_EQ(start, 0); /* 2^64 */
	CHECK_EQ(aionvme_latency_bucket(UINT64_MAX), AIONVME_LATENCY_BUCKETS - 1);
}

/* Each entry that is submitted while it is recorded is counted once, with the time it took; those in flight before are not. */
static void latencies(void)
{
	static struct aionvme_latencies seen;
	struct aionvme_ring *ring = open_ring(8, 16, false);
	struct aionvme_sqe sqes[8];
	struct aionvme_cqe cqes[8];
	unsigned accepted;
	int pipes[2], done;
	uint64_t start, end;
	char byte;

	memset(&seen, 0, sizeof(seen));
	CHECK_EQ(pipe(pipes), 0);
	sqes[0] = held(0, pipes[0], &byte);
	CHECK_EQ(aionvme_ring_tick(ring, sqes, 1, &accepted, cqes, 8), 0);
	CHECK_EQ(aionvme_ring_record(ring, &seen), 0);
	/* The upper bits are the caller's. */
	sqes[1] = held(7ULL << AIONVME_SLOT_BITS | 1, pipes[0], &byte);
	sqes[2] = held(9ULL << AIONVME_SLOT_BITS | 2, pipes[0], &byte);
	start = now_ns();
	CHECK_EQ(aionvme_ring_tick(ring, sqes + 1, 2, &accepted, cqes, 8), 0);
	usleep(20000);
	CHECK_EQ(write(pipes[1], "abc", 3), 3);
	for (done = 0; done < 3;)
		done += aionvme_ring_tick(ring, NULL, 0, &accepted, cqes + done, 8 - done);
	end = now_ns();
	CHECK_EQ(total(&seen), 2);
	CHECK(seen.max_ns >= 20000000 && seen.max_ns <= end - start);
	CHECK(seen.total_ns >= 2 * 20000000 && seen.total_ns <= 2 * (end - start));
	CHECK(seen.counts[aionvme_latency_bucket(seen.max_ns)] >= 1);

	/* What is not a slot is not recorded; nor is anything once that has ended. */
	CHECK_EQ(carry_out(ring, nop(8)).user_data, 8);
	CHECK_EQ(carry_out(ring, nop(3)).user_data, 3);
	CHECK_EQ(total(&seen), 3);
	CHECK_EQ(aionvme_ring_record(ring, NULL), 0);
	CHECK_EQ(carry_out(ring, nop(3)).user_data, 3);
	CHECK_EQ(total(&seen), 3);
	aionvme_ring_close(ring);
	close(pipes[0]);
	close(pipes[1]);
}

/* Batches are recorded, entry by entry, with the latencies that their completions have; entries filled in place are as well. */
static void latencies_of_batches(void)
{
	static struct aionvme_latencies seen;
	static struct aionvme_completion completions[1000];

	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);
		struct aionvme_batch batch = { .entry = nop(0), .n = COUNT(completions), .completions = completions };
		struct aionvme_cqe cqe;
		uint64_t sum = 0, most = 0;
		unsigned accepted, singles = 0;

		memset(&seen, 0, sizeof(seen));
		CHECK_EQ(aionvme_ring_record(ring, &seen), 0);
		CHECK_EQ(aionvme_ring_add_batch(ring, &batch), 0);
		while (batch.completed < batch.n) {
			struct aionvme_sqe *sqe = aionvme_ring_next_sqe(ring);

			CHECK(sqe);
			*sqe = nop(5);
			CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 1);
			CHECK_EQ(cqe.user_data, 5);
			singles++;
		}
		CHECK_EQ(total(&seen), COUNT(completions) + singles);
		for (unsigned i = 0; i < COUNT(completions); i++) {
			sum += completions[i].latency_ns;
			most = completions[i].latency_ns > most ? completions[i].latency_ns : most;
		}
		CHECK(seen.total_ns >= sum);
		CHECK(seen.max_ns >= most);
		aionvme_ring_close(ring);
	}
}

/* A ring that is not polled counts no polls; one whose commands complete in their submission needs none. */
static void polls(void)
{
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);
		struct aionvme_polls found;
		unsigned accepted;
		struct aionvme_cqe cqe;

		for (unsigned i = 0; i < 100; i++) {
			CHECK_EQ(carry_out(ring, nop(i)).user_data, i);
			CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
		}
		found = aionvme_ring_polls(ring);
		CHECK_EQ(found.polls + found.empty + found.spared, 0);
		aionvme_ring_close(ring);
	}
}

static void *write_soon(void *fd)
{
	usleep(5000);
	CHECK_EQ(write(*(int *)fd, "a", 1), 1);
	return NULL;
}

/* Lingering ends with a completion, or in vain when its time is over; after that it is not tried for a while, longer each time. */
static void linger(void)
{
	struct aionvme_ring *ring = open_ring(8, 16, false);
	struct aionvme_cqe cqe;
	struct aionvme_sqe sqe;
	unsigned accepted, calls = 0;
	pthread_t writer;
	int pipes[2];
	char byte;

	CHECK_EQ(pipe(pipes), 0);
	sqe = held(1, pipes[0], &byte);
	CHECK_EQ(aionvme_ring_tick(ring, &sqe, 1, &accepted, &cqe, 1), 0);
	CHECK_EQ(pthread_create(&writer, NULL, write_soon, &pipes[1]), 0);
	CHECK_EQ(aionvme_ring_linger(ring, 10000000000ULL), 1);
	CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 1);
	CHECK_EQ(pthread_join(writer, NULL), 0);

	CHECK_EQ(aionvme_ring_tick(ring, &sqe, 1, &accepted, &cqe, 1), 0);
	for (unsigned vain = 1; vain <= 8; vain++) {
		const unsigned skipped = 1U << (vain - 1 < 6 ? vain - 1 : 6);
		uint64_t start = now_ns();

		/* Those that are skipped take no time. */
		for (calls = 0; vain > 1 && calls < skipped; calls++)
			CHECK_EQ(aionvme_ring_linger(ring, 10000000000ULL), 0);
		CHECK(now_ns() - start < 1000000000);
		start = now_ns();
		CHECK_EQ(aionvme_ring_linger(ring, 2000000), 0);
		CHECK(now_ns() - start >= 2000000);
	}
	CHECK_EQ(write(pipes[1], "a", 1), 1);
	while (!aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1))
		;
	aionvme_ring_close(ring);
	close(pipes[0]);
	close(pipes[1]);
}

static void *write_slowly(void *fd)
{
	for (int i = 0; i < 200; i++) {
		usleep(i % 2 ? 150 : 400);
		CHECK_EQ(write(*(int *)fd, "a", 1), 1);
	}
	return NULL;
}

/*
 * Lingering goes on with a batch by itself, and never sends its caller to sleep over what could be submitted: here each command is
 * submitted when the one before it has completed, at times around the end of the lingering.
 */
static void linger_over_batch(void)
{
	struct aionvme_ring *ring = open_ring(1, 2, false);
	struct aionvme_completion completions[200];
	struct aionvme_batch batch = { .n = COUNT(completions), .completions = completions };
	unsigned accepted, ticks = 0;
	struct aionvme_cqe cqe;
	pthread_t writer;
	int pipes[2];
	char byte;

	CHECK(aionvme_ring_register_eventfd(ring) >= 0);
	CHECK_EQ(pipe(pipes), 0);
	batch.entry = held(0, pipes[0], &byte);
	CHECK_EQ(aionvme_ring_add_batch(ring, &batch), 0);
	CHECK_EQ(pthread_create(&writer, NULL, write_slowly, &pipes[1]), 0);
	while (batch.completed < batch.n) {
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
		ticks++;
		if (!aionvme_ring_queued(ring) && !aionvme_ring_linger(ring, 1000) && batch.completed < batch.n) {
			CHECK_EQ(aionvme_ring_queued(ring), 0);
			usleep(100);
		}
	}
	CHECK_EQ(pthread_join(writer, NULL), 0);
	CHECK(ticks < 2000);
	for (unsigned i = 0; i < batch.n; i++)
		CHECK_EQ(completions[i].status, 1);
	aionvme_ring_close(ring);
	close(pipes[0]);
	close(pipes[1]);
}

/* What completes makes room, which is used at once: many commands a lingering, though only one may be in flight. */
static void linger_refills(void)
{
	static const struct __kernel_timespec soon = { .tv_nsec = 10000 };
	struct aionvme_ring *ring = open_ring(1, 2, false);
	struct aionvme_completion completions[200];
	struct aionvme_batch batch = { .n = COUNT(completions), .completions = completions };
	unsigned accepted, lingerings = 0;
	struct aionvme_cqe cqe;

	batch.entry = entry(&(struct io_uring_sqe){ .opcode = IORING_OP_TIMEOUT, .addr = (uintptr_t)&soon, .len = 1 });
	CHECK_EQ(aionvme_ring_add_batch(ring, &batch), 0);
	while (batch.completed < batch.n) {
		CHECK_EQ(aionvme_ring_tick(ring, NULL, 0, &accepted, &cqe, 1), 0);
		if (batch.completed < batch.n)
			lingerings += aionvme_ring_linger(ring, 0);
	}
	CHECK(lingerings < COUNT(completions) / 3);
	for (unsigned i = 0; i < batch.n; i++)
		CHECK_EQ(completions[i].error, ETIME);
	aionvme_ring_close(ring);
}

static const struct test_case cases[] = {
	{ "buckets", buckets }, { "latencies", latencies }, { "latencies_of_batches", latencies_of_batches },
	{ "polls", polls },	{ "linger", linger },   { "linger_over_batch", linger_over_batch },
	{ "linger_refills", linger_refills },
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, COUNT(cases));
}
