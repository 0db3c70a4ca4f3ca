// SPDX-License-Identifier: MIT
/* The native core on real rings, in adversity: signals, failing entries and system calls, and a long random run. */
#define _GNU_SOURCE /* the names of registers */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <ucontext.h>

#include "check.h"

static volatile sig_atomic_t signals;

static void count_signal(int number)
{
	(void)number;
	signals++;
}

/* Signals that interrupt the system call do not show: every tick succeeds and every command completes once. */
static void signal_storm(void)
{
	const struct itimerval storm = { { 0, 50 }, { 0, 50 } }, calm = { 0 };
	struct sigaction action = { .sa_handler = count_signal }; /* no SA_RESTART */

	CHECK_EQ(sigaction(SIGALRM, &action, NULL), 0);
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);
		struct aionvme_sqe sqes[8];
		struct aionvme_cqe cqes[16];
		uint64_t next = 0, expected = 0;

		CHECK_EQ(setitimer(ITIMER_REAL, &storm, NULL), 0);
		for (signals = 0; signals < 500 || next < 10000;) {
			unsigned accepted;
			int n;

			for (int i = 0; i < 8; i++)
				sqes[i] = nop(next + i);
			n = aionvme_ring_tick(ring, sqes, 8, &accepted, cqes, 16);
			CHECK(n >= 0);
			next += accepted;
			for (int i = 0; i < n; i++)
				CHECK_EQ(cqes[i].user_data, expected++);
		}
		CHECK_EQ(setitimer(ITIMER_REAL, &calm, NULL), 0);
		CHECK_EQ(expected, next);
		aionvme_ring_close(ring);
	}
}

static unsigned interruptions;

/* Stands for the kernel's answer to io_uring_enter: interrupted three times, then what the kernel really says. */
static void answer_enter(int number, siginfo_t *info, void *context)
{
	mcontext_t *machine = &((ucontext_t *)context)->uc_mcontext;
	long ret = -EINTR;
#if defined(__x86_64__)
	const greg_t *regs = machine->gregs;

	if (++interruptions > 3) /* the filter lets a call with another sigset size through */
		ret = syscall(info->si_syscall, regs[REG_RDI], regs[REG_RSI], regs[REG_RDX], regs[REG_R10], NULL, 0);
	machine->gregs[REG_RAX] = ret;
#elif defined(__aarch64__)
	const unsigned long long *regs = machine->regs;

	if (++interruptions > 3)
		ret = syscall(info->si_syscall, regs[0], regs[1], regs[2], regs[3], NULL, 0);
	machine->regs[0] = ret;
#endif
	(void)number;
}

/* EINTR, which a polled ring gets where a signal is pending, is not an answer: the call is made again, and nothing is lost. */
static void interrupted(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { COUNT(filter), filter };
	struct sigaction action = { .sa_sigaction = answer_enter, .sa_flags = SA_SIGINFO };

	CHECK_EQ(sigaction(SIGSYS, &action, NULL), 0);
	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);
		const struct aionvme_sqe sqes[3] = { nop(1), nop(2), nop(3) };
		struct aionvme_cqe cqes[8];
		unsigned accepted;

		interruptions = 0;
		CHECK_EQ(aionvme_ring_tick(ring, sqes, 3, &accepted, cqes, 8), 3);
		CHECK_EQ(interruptions, 4);
		CHECK_EQ(accepted, 3);
		CHECK_EQ(aionvme_ring_queued(ring), 0);
		aionvme_ring_close(ring);
	}
}

/* An entry that the kernel refuses completes with its error, and those after it are submitted all the same. */
static void failing_entry(void)
{
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);
		const struct aionvme_sqe sqes[3] = { nop(1), entry(&(struct io_uring_sqe){ .opcode = 255, .user_data = 2 }), nop(3) };
		struct aionvme_cqe cqes[8];
		unsigned accepted;

		CHECK_EQ(aionvme_ring_tick(ring, sqes, 3, &accepted, cqes, 8), 3);
		for (unsigned i = 0; i < 3; i++) {
			CHECK_EQ(cqes[i].user_data, i + 1);
			CHECK_EQ(cqes[i].res, i == 1 ? -EINVAL : 0);
		}
		aionvme_ring_close(ring);
	}
}

/* From now on io_uring_enter fails with EAGAIN where 5 entries are to be submitted, EBUSY where 6, ENXIO where 3. */
static void break_enter(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 6),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])), /* to_submit, little-endian */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAGAIN),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 6, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EBUSY),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENXIO),
	};
	const struct sock_fprog program = { COUNT(filter), filter };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* EAGAIN and EBUSY leave accepted entries queued for a later tick, and what has completed is still reaped; others fail. */
static void enter_errors(void)
{
	struct aionvme_sqe sqes[8];
	struct aionvme_cqe cqes[8];
	unsigned accepted;

	for (unsigned i = 0; i < 8; i++)
		sqes[i] = nop(i);
	break_enter();
	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(8, 16, iopoll);

		CHECK_EQ(aionvme_ring_tick(ring, sqes, 2, &accepted, cqes, 1), 1);
		CHECK_EQ(aionvme_ring_tick(ring, sqes, 5, &accepted, cqes, 8), 1); /* EAGAIN; one was left from before */
		CHECK_EQ(accepted, 5);
		CHECK_EQ(aionvme_ring_queued(ring), 5);
		CHECK_EQ(aionvme_ring_tick(ring, sqes + 5, 1, &accepted, cqes, 8), 0); /* EBUSY */
		CHECK_EQ(aionvme_ring_queued(ring), 6);
		CHECK_EQ(aionvme_ring_tick(ring, sqes + 6, 1, &accepted, cqes, 8), 7);
		for (unsigned i = 0; i < 7; i++)
			CHECK_EQ(cqes[i].user_data, i);
		CHECK_EQ(aionvme_ring_tick(ring, sqes, 3, &accepted, cqes, 8), -ENXIO);
		CHECK_EQ(accepted, 3);
		CHECK_EQ(aionvme_ring_queued(ring), 3);
		aionvme_ring_close(ring);
	}
}

/* Batches of random size, reaped by random amounts: every command comes back once, with its own result. */
static void soak(void)
{
	static unsigned char outstanding[1 << 18];
	uint64_t random = 88172645463325252ULL;

	for (int iopoll = 0; iopoll < 2; iopoll++) {
		struct aionvme_ring *ring = open_ring(32, 64, iopoll);
		unsigned next = 0, done = 0, accepted;
		struct aionvme_sqe sqes[64];
		struct aionvme_cqe cqes[64];
		struct io_uring_sqe probe = { .opcode = IORING_OP_NOP, .rw_flags = NOP_INJECT_RESULT | NOP_CQE32, .len = 5 };

		SKIP_UNLESS(carry_out(ring, entry(&probe)).res == 5, "NOP with an injected 32-byte result: Linux 6.18");
		memset(outstanding, 0, sizeof(outstanding));
		while (done < COUNT(outstanding)) {
			unsigned want, max;
			int n;

			random ^= random << 13, random ^= random >> 7, random ^= random << 17;
			want = random % 64;
			max = 1 + (random >> 32) % 64;
			/* Past the completion queue's size now and then, so that overflow is part of it. */
			if (next - done > 96 || next + want > COUNT(outstanding))
				want = next - done ? 0 : COUNT(outstanding) - next;
			for (unsigned i = 0; i < want; i++) {
				const uint64_t id = next + i;
				const struct io_uring_sqe sqe = {
					.opcode = IORING_OP_NOP,
					.rw_flags = NOP_INJECT_RESULT | NOP_CQE32 | (!iopoll && id % 3 ? NOP_TW : 0),
					.len = id * 2654435761U,
					.off = id << 32 | 7,
					.addr = ~id,
					.user_data = ~0ULL - id,
				};

				sqes[i] = entry(&sqe);
			}
			n = aionvme_ring_tick(ring, sqes, want, &accepted, cqes, max);
			CHECK(n >= 0 && n <= (int)max);
			for (unsigned i = 0; i < accepted; i++)
				outstanding[next + i] = 1;
			next += accepted;
			for (int i = 0; i < n; i++) {
				const uint64_t id = ~0ULL - cqes[i].user_data;

				CHECK(id < COUNT(outstanding) && outstanding[id] == 1);
				outstanding[id] = 2;
				CHECK_EQ(cqes[i].res, (int32_t)(uint32_t)(id * 2654435761U));
				CHECK_EQ(cqes[i].big_cqe[0], id << 32 | 7);
				CHECK_EQ(cqes[i].big_cqe[1], ~id);
			}
			done += n;
		}
		CHECK_EQ(next, done);
		CHECK_EQ(aionvme_ring_overflow(ring), 0);
		aionvme_ring_close(ring);
	}
}

static const struct test_case cases[] = {
	{ "signal_storm", signal_storm },
	{ "interrupted", interrupted },
	{ "failing_entry", failing_entry },
	{ "enter_errors", enter_errors },
	{ "soak", soak },
};

int main(int argc, char **argv)
{
	return run_cases(argc, argv, cases, COUNT(cases));
}
