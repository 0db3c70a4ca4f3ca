/* SPDX-License-Identifier: MIT */
/* The commands in flight on one queue, as Python objects: the C twin of aionvme/driver/flight.py, which says what they are. */
#ifndef AIONVME_FLIGHT_H
#define AIONVME_FLIGHT_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#define OBJECT(pointer) ((PyObject *)(pointer))

struct flight;

struct in_flight {
	PyObject_HEAD
	PyObject *queue, *host;
	PyObject *loop, *running; /* of the host: looked up once */
	PyObject *done;		  /* a future of the loop's own kind, done, for tasks to look at */
	PyObject *cancelled_error;
	struct flight **slots, *first, *last; /* the last two: landed, to be woken */
	uint32_t *vacant;
	uint32_t depth, n_vacant;
	unsigned long waking; /* the thread that is inside of wake(), and so on the loop; 0 otherwise */
	struct flight *spare; /* dead ones, for the next to come */
	uint32_t n_spare;
	long long free;
	unsigned long long submitted;
	char parks, open, turn_due;
};

extern PyTypeObject *in_flight_type;

/*
 * in_flight_admits() - Whether the caller may take a place and launch a command at once: see Host.running.
 *
 * Return: 1, 0, or -1 with an exception set.
 */
int in_flight_admits(const struct in_flight *table);

/*
 * flight_launch() - A new flight in a slot of its own, with a turn to come. The caller has taken a place, and stages it.
 * @keep: What must stay alive until the command has completed; a reference of its own is taken.
 * @view: Moved into the flight, which releases it then, or NULL.
 *
 * Return: a new reference, or NULL with @view untouched: with an exception set, or without where the queue was closed meanwhile.
 */
PyObject *flight_launch(struct in_flight *table, PyObject *keep, Py_buffer *view, uint64_t *user_data);

/* flight_set_nlb() - Note how many blocks it moves, for messages. */
void flight_set_nlb(PyObject *flight, unsigned nlb);

/* flight_types() - Add the types of this file to a module. 0, or -1 with an exception set. */
int flight_types(PyObject *module);

/* mover_type() - The same for that of mover.c. */
int mover_type(PyObject *module);

#endif
