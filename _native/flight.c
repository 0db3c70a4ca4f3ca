// SPDX-License-Identifier: MIT
/*
 * Flight and InFlight. See flight.h, and aionvme/driver/flight.py for what every name here means.
 *
 * A task that awaits a flight reaches flight_send() through its coroutines: it gives itself, as a future would, and asyncio's Task
 * calls add_done_callback(). in_flight_wake() calls that callback, in the task's context, which runs the task on the spot.
 * Whatever is rare is left to the host's coroutines wait() and wait_out(), to which a flight hands its task over ("inner").
 */
#include "flight.h"

#include "core.h"

#include <string.h>
#include <structmember.h>

#define SLOT_BITS 16
#define SLOT_MASK ((1u << SLOT_BITS) - 1)

struct flight {
	PyObject_HEAD
	struct in_flight *table;
	struct flight *next; /* among those that landed */
	PyObject *keep, *error, *group, *waiter, *stop;
	PyObject *callback, *context; /* how the task is run */
	PyObject *cancelled;	      /* what cancel() has the task get */
	PyObject *inner;	      /* a coroutine that waits instead */
	Py_buffer view;
	unsigned long long user_data, value;
	int res;
	unsigned timeout_ms, nlb;
	char pending, blocking;
};

PyTypeObject *in_flight_type;
static PyTypeObject *flight_type;

/* Names that are looked up for every command. */
static PyObject *str_run, *str_stage, *str_landed;

static int flight_traverse(struct flight *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(OBJECT(self)));
	Py_VISIT(self->table);
	Py_VISIT(self->keep);
	Py_VISIT(self->error);
	Py_VISIT(self->group);
	Py_VISIT(self->waiter);
	Py_VISIT(self->stop);
	Py_VISIT(self->callback);
	Py_VISIT(self->context);
	Py_VISIT(self->cancelled);
	Py_VISIT(self->inner);
	/* Not the view: who collects garbage must not find out that nobody else holds a buffer in flight. */
	return 0;
}

static int flight_clear(struct flight *self)
{
	Py_CLEAR(self->table);
	Py_CLEAR(self->keep);
	Py_CLEAR(self->error);
	Py_CLEAR(self->group);
	Py_CLEAR(self->waiter);
	Py_CLEAR(self->stop);
	Py_CLEAR(self->callback);
	Py_CLEAR(self->context);
	Py_CLEAR(self->cancelled);
	Py_CLEAR(self->inner);
	PyBuffer_Release(&self->view);
	return 0;
}

static void flight_dealloc(struct flight *self)
{
	PyTypeObject *type = Py_TYPE(OBJECT(self));
	struct in_flight *table = self->table;

	PyObject_GC_UnTrack(self);
	self->table = NULL;
	flight_clear(self);
	/* There are never more of them alive than there were in flight together, as a rule: the next is made of this one. */
	if (table && table->n_spare < table->depth) {
		self->next = table->spare;
		table->spare = self;
		table->n_spare++;
	} else {
		PyObject_GC_Del(self);
	}
	Py_XDECREF(OBJECT(table));
	Py_DECREF(type);
}

static void set(PyObject **field, PyObject *value)
{
	PyObject *old = *field;

	*field = Py_XNewRef(value);
	Py_XDECREF(old);
}

/* The wait is over, and gives res. Where there is an error, each task gets a copy, to which it adds its traceback. */
static PySendResult finish(struct flight *self, PyObject **result)
{
	PyObject *args, *copy;

	*result = NULL;
	if (!self->error) {
		*result = PyLong_FromLong(self->res);
		return *result ? PYGEN_RETURN : PYGEN_ERROR;
	}
	args = PyObject_GetAttrString(self->error, "args");
	copy = args ? PyObject_CallObject(OBJECT(Py_TYPE(self->error)), args) : NULL;
	Py_XDECREF(args);
	if (copy) {
		PyException_SetCause(copy, Py_NewRef(self->error));
		PyErr_SetObject(OBJECT(Py_TYPE(copy)), copy);
		Py_DECREF(copy);
	}
	return PYGEN_ERROR;
}

/* Go on with the coroutine that waits instead. */
static PySendResult send_inner(struct flight *self, PyObject *value, PyObject **result)
{
	PyObject *inner = Py_NewRef(self->inner);
	const PySendResult sent = PyIter_Send(inner, value, result);

	Py_DECREF(inner);
	if (sent == PYGEN_NEXT)
		return sent;
	Py_CLEAR(self->inner);
	if (sent == PYGEN_ERROR)
		return sent;
	Py_CLEAR(*result);
	return finish(self, result);
}

/* Hand the task over to a coroutine of the host. */
static PySendResult wait_inside(struct flight *self, PyObject *coroutine, PyObject **result)
{
	*result = NULL;
	self->inner = coroutine;
	return coroutine ? send_inner(self, Py_None, result) : PYGEN_ERROR;
}

static PySendResult flight_send(PyObject *op, PyObject *value, PyObject **result)
{
	struct flight *self = (struct flight *)op;

	if (self->inner)
		return send_inner(self, value, result);
	if (!self->pending)
		return finish(self, result);
	if (self->table->parks)
		return wait_inside(self, PyObject_CallMethod(self->table->host, "wait", "O", self), result);
	self->blocking = true;
	*result = Py_NewRef(op);
	return PYGEN_NEXT;
}

/* The same as the answer of an iterator's method: NULL with an exception set, StopIteration at the end. */
static PyObject *answer(PySendResult sent, PyObject *result)
{
	PyObject *stop;

	if (sent != PYGEN_RETURN)
		return result;
	stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
	if (stop)
		PyErr_SetObject(PyExc_StopIteration, stop);
	Py_XDECREF(stop);
	Py_DECREF(result);
	return NULL;
}

static PyObject *flight_next(PyObject *self)
{
	PyObject *result;
	const PySendResult sent = flight_send(self, Py_None, &result);

	return answer(sent, result);
}

static PyObject *flight_send_method(PyObject *self, PyObject *value)
{
	PyObject *result;
	const PySendResult sent = flight_send(self, value, &result);

	return answer(sent, result);
}

static PyObject *throw_inside(struct flight *self, PyObject *args)
{
	PyObject *method = PyObject_GetAttrString(self->inner, "throw");
	PyObject *result = method ? PyObject_CallObject(method, args) : NULL;
	PySendResult sent;

	Py_XDECREF(method);
	if (result)
		return result;
	Py_CLEAR(self->inner);
	if (!PyErr_ExceptionMatches(PyExc_StopIteration))
		return NULL;
	PyErr_Clear();
	sent = finish(self, &result);
	return answer(sent, result);
}

/* throw(exception), or as of old throw(type, value, traceback) */
static PyObject *flight_throw(struct flight *self, PyObject *args)
{
	PyObject *type, *value = NULL, *traceback = NULL, *exception, *result;
	PySendResult sent;

	if (self->inner)
		return throw_inside(self, args);
	if (!PyArg_ParseTuple(args, "O|OO:throw", &type, &value, &traceback))
		return NULL;
	if (PyExceptionInstance_Check(type))
		exception = Py_NewRef(type);
	else if (value && PyExceptionInstance_Check(value))
		exception = Py_NewRef(value);
	else
		exception = value && value != Py_None ? PyObject_CallFunctionObjArgs(type, value, NULL) :
							PyObject_CallNoArgs(type);
	if (!exception)
		return NULL;
	Py_CLEAR(self->callback);
	if (!self->table->parks && PyObject_IsInstance(exception, self->table->cancelled_error) == 1) {
		sent = wait_inside(self, PyObject_CallMethod(self->table->host, "put_off", "OO", self, exception), &result);
		Py_DECREF(exception);
		return answer(sent, result);
	}
	PyErr_SetObject(OBJECT(Py_TYPE(exception)), exception);
	Py_DECREF(exception);
	return NULL;
}

static PyObject *flight_close(struct flight *self, PyObject *Py_UNUSED(none))
{
	PyObject *inner = self->inner, *closed;

	Py_CLEAR(self->callback);
	if (!inner)
		Py_RETURN_NONE;
	self->inner = NULL;
	closed = PyObject_CallMethod(inner, "close", NULL);
	Py_DECREF(inner);
	return closed;
}

/* Task asks for get_loop() first, and takes the attribute where there is no such method, which costs less. */
static PyObject *flight_loop(struct flight *self, void *Py_UNUSED(closure))
{
	return Py_NewRef(self->table->loop);
}

static PyObject *flight_add_done_callback(struct flight *self, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
	if (n != 1 || !names || PyTuple_Size(names) != 1) {
		PyErr_SetString(PyExc_TypeError, "add_done_callback() takes a callback and its context");
		return NULL;
	}
	set(&self->callback, args[0]);
	set(&self->context, args[1]);
	Py_RETURN_NONE;
}

/* Have the task run on a later pass. */
static int run_later(struct flight *self)
{
	PyObject *callback = self->callback, *call_soon, *args, *named, *handle = NULL;

	self->callback = NULL;
	if (!callback) {
		handle = !self->waiter || self->waiter == Py_None ?
				 Py_NewRef(Py_None) :
				 PyObject_CallMethod(self->table->host, "wake", "O", self);
	} else {
		call_soon = PyObject_GetAttrString(self->table->loop, "call_soon");
		args = PyTuple_Pack(2, callback, self);
		named = Py_BuildValue("{sO}", "context", self->context);
		if (call_soon && args && named)
			handle = PyObject_Call(call_soon, args, named);
		Py_XDECREF(call_soon);
		Py_XDECREF(args);
		Py_XDECREF(named);
		Py_DECREF(callback);
	}
	Py_XDECREF(handle);
	return handle ? 0 : -1;
}

static PyObject *flight_cancel(struct flight *self, PyObject *args, PyObject *named)
{
	static char *names[] = { "msg", NULL };
	PyObject *msg = Py_None, *cancelled;

	if (!PyArg_ParseTupleAndKeywords(args, named, "|O:cancel", names, &msg))
		return NULL;
	if (!self->pending || !self->callback)
		Py_RETURN_FALSE;
	/* anyio knows its own by the message */
	cancelled = msg == Py_None ? PyObject_CallNoArgs(self->table->cancelled_error) :
				     PyObject_CallFunctionObjArgs(self->table->cancelled_error, msg, NULL);
	if (!cancelled)
		return NULL;
	set(&self->cancelled, cancelled);
	Py_DECREF(cancelled);
	return run_later(self) ? NULL : Py_NewRef(Py_True);
}

static PyObject *flight_result(struct flight *self, PyObject *Py_UNUSED(none))
{
	PyObject *cancelled = self->cancelled;

	if (!cancelled)
		Py_RETURN_NONE;
	self->cancelled = NULL;
	PyErr_SetObject(OBJECT(Py_TYPE(cancelled)), cancelled);
	Py_DECREF(cancelled);
	return NULL;
}

/* Run the task now. */
static int run(struct flight *self)
{
	PyObject *callback = self->callback, *done;

	if (!callback)
		return run_later(self);
	self->callback = NULL;
	/* A task looks at the result of what it is run with. That of a future it gets without a call. */
	done = PyObject_CallMethodObjArgs(self->context, str_run, callback, self->table->done, NULL);
	Py_DECREF(callback);
	Py_XDECREF(done);
	return done ? 0 : -1;
}

static PyMemberDef flight_members[] = {
	{ "_asyncio_future_blocking", T_BOOL, offsetof(struct flight, blocking), 0, NULL },
	{ "pending", T_BOOL, offsetof(struct flight, pending), READONLY, NULL },
	{ "nlb", T_UINT, offsetof(struct flight, nlb), 0, NULL },
	{ "res", T_INT, offsetof(struct flight, res), READONLY, NULL },
	{ "value", T_ULONGLONG, offsetof(struct flight, value), READONLY, NULL },
	{ "user_data", T_ULONGLONG, offsetof(struct flight, user_data), READONLY, NULL },
	{ "timeout_ms", T_UINT, offsetof(struct flight, timeout_ms), 0, NULL },
	{ "keep", T_OBJECT, offsetof(struct flight, keep), READONLY, NULL },
	{ "error", T_OBJECT, offsetof(struct flight, error), READONLY, NULL },
	{ "group", T_OBJECT, offsetof(struct flight, group), 0, NULL },
	{ "waiter", T_OBJECT, offsetof(struct flight, waiter), 0, NULL },
	{ "stop", T_OBJECT, offsetof(struct flight, stop), 0, NULL },
	{ NULL },
};

static PyGetSetDef flight_getset[] = {
	{ "_loop", (getter)flight_loop, NULL, NULL, NULL },
	{ NULL },
};

static PyMethodDef flight_methods[] = {
	{ "send", flight_send_method, METH_O, NULL },
	{ "throw", (PyCFunction)flight_throw, METH_VARARGS, NULL },
	{ "close", (PyCFunction)flight_close, METH_NOARGS, NULL },
	{ "add_done_callback", (PyCFunction)(void (*)(void))flight_add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL },
	{ "cancel", (PyCFunction)(void (*)(void))flight_cancel, METH_VARARGS | METH_KEYWORDS, NULL },
	{ "result", (PyCFunction)flight_result, METH_NOARGS, NULL },
	{ NULL },
};

static PyType_Slot flight_slots[] = {
	{ Py_tp_doc, "One command, from its submission to its completion." },
	{ Py_tp_traverse, flight_traverse },
	{ Py_tp_clear, flight_clear },
	{ Py_tp_dealloc, flight_dealloc },
	{ Py_tp_iter, PyObject_SelfIter },
	{ Py_tp_iternext, flight_next },
	{ Py_am_await, PyObject_SelfIter },
	{ Py_am_send, flight_send },
	{ Py_tp_members, flight_members },
	{ Py_tp_getset, flight_getset },
	{ Py_tp_methods, flight_methods },
	{ 0, NULL },
};

static PyType_Spec flight_spec = {
	.name = "aionvme._flight.Flight",
	.basicsize = sizeof(struct flight),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = flight_slots,
};

static int in_flight_traverse(struct in_flight *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(OBJECT(self)));
	Py_VISIT(self->queue);
	Py_VISIT(self->host);
	Py_VISIT(self->loop);
	Py_VISIT(self->running);
	Py_VISIT(self->done);
	Py_VISIT(self->cancelled_error);
	for (uint32_t i = 0; i < self->depth; i++)
		Py_VISIT(self->slots[i]);
	for (struct flight *flight = self->first; flight; flight = flight->next)
		Py_VISIT(flight);
	return 0;
}

static int in_flight_clear(struct in_flight *self)
{
	Py_CLEAR(self->queue);
	Py_CLEAR(self->host);
	Py_CLEAR(self->loop);
	Py_CLEAR(self->running);
	Py_CLEAR(self->done);
	Py_CLEAR(self->cancelled_error);
	for (uint32_t i = 0; i < self->depth; i++)
		Py_CLEAR(self->slots[i]);
	while (self->first) {
		struct flight *flight = self->first;

		self->first = flight->next;
		Py_DECREF(OBJECT(flight));
	}
	self->last = NULL;
	return 0;
}

static void in_flight_dealloc(struct in_flight *self)
{
	PyTypeObject *type = Py_TYPE(OBJECT(self));

	PyObject_GC_UnTrack(self);
	in_flight_clear(self);
	while (self->spare) {
		struct flight *flight = self->spare;

		self->spare = flight->next;
		PyObject_GC_Del(flight);
	}
	PyMem_Free(self->slots);
	PyMem_Free(self->vacant);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static PyObject *future_done(PyObject *loop)
{
	PyObject *future = PyObject_CallMethod(loop, "create_future", NULL);
	PyObject *set = future ? PyObject_CallMethod(future, "set_result", "O", Py_None) : NULL;

	if (!set)
		Py_CLEAR(future);
	Py_XDECREF(set);
	return future;
}

static int in_flight_init(struct in_flight *self, PyObject *args, PyObject *Py_UNUSED(named))
{
	PyObject *queue, *host, *number = NULL, *parks = NULL, *asyncio = NULL;
	long depth = -1;

	if (!PyArg_ParseTuple(args, "OO:InFlight", &queue, &host))
		return -1;
	if (self->slots) {
		PyErr_SetString(PyExc_TypeError, "it is initialised already");
		return -1;
	}
	set(&self->queue, queue);
	set(&self->host, host);
	self->loop = PyObject_GetAttrString(host, "loop");
	self->running = PyObject_GetAttrString(host, "running");
	parks = PyObject_GetAttrString(host, "parks");
	number = PyObject_GetAttrString(queue, "depth");
	asyncio = PyImport_ImportModule("asyncio");
	if (asyncio)
		self->cancelled_error = PyObject_GetAttrString(asyncio, "CancelledError");
	if (number)
		depth = PyLong_AsLong(number);
	self->parks = parks && PyObject_IsTrue(parks);
	if (!PyErr_Occurred() && !self->parks)
		self->done = future_done(self->loop);
	Py_XDECREF(parks);
	Py_XDECREF(number);
	Py_XDECREF(asyncio);
	if (PyErr_Occurred())
		return -1;
	if (depth < 1 || depth > (long)SLOT_MASK) {
		PyErr_SetString(PyExc_ValueError, "the queue's depth is none");
		return -1;
	}
	self->slots = PyMem_Calloc(depth, sizeof(*self->slots));
	self->vacant = PyMem_Calloc(depth, sizeof(*self->vacant));
	if (!self->slots || !self->vacant) {
		PyErr_NoMemory();
		return -1;
	}
	self->depth = depth;
	self->free = depth;
	self->open = true;
	for (self->n_vacant = 0; self->n_vacant < self->depth; self->n_vacant++)
		self->vacant[self->n_vacant] = self->depth - 1 - self->n_vacant;
	return 0;
}

static Py_ssize_t in_flight_length(struct in_flight *self)
{
	return self->depth - self->n_vacant;
}

static PyObject *in_flight_flights(struct in_flight *self, PyObject *Py_UNUSED(none))
{
	PyObject *list = PyList_New(0);

	for (uint32_t i = 0; list && i < self->depth; i++)
		if (self->slots[i] && PyList_Append(list, (PyObject *)self->slots[i]))
			Py_CLEAR(list);
	return list;
}

int in_flight_admits(const struct in_flight *self)
{
	PyObject *running;

	if (!self->open || self->free <= 0 || !self->n_vacant)
		return 0;
	if (self->waking && self->waking == PyThread_get_thread_ident())
		return 1; /* which saves asyncio's look-up, a system call before Python 3.12 */
	running = PyObject_CallNoArgs(self->running);
	if (!running)
		return -1;
	Py_DECREF(running); /* our own loop lives as long as we do */
	return running == self->loop;
}

static struct flight *new_flight(struct in_flight *self)
{
	struct flight *flight = self->spare;

	if (flight) {
		self->spare = flight->next;
		self->n_spare--;
		PyObject_Init(OBJECT(flight), flight_type);
	} else {
		flight = PyObject_GC_New(struct flight, flight_type);
		if (!flight)
			return NULL;
	}
	memset((char *)flight + sizeof(PyObject), 0, sizeof(*flight) - sizeof(PyObject));
	PyObject_GC_Track(flight);
	return flight;
}

PyObject *flight_launch(struct in_flight *self, PyObject *keep, Py_buffer *view, uint64_t *user_data)
{
	struct flight *flight;
	uint32_t slot;

	if (!self->turn_due) {
		PyObject *kicked = PyObject_CallMethod(self->host, "kick", NULL);

		if (!kicked)
			return NULL;
		Py_DECREF(kicked);
		self->turn_due = true;
	}
	flight = new_flight(self);
	if (!flight)
		return NULL;
	/* Python code may have run in both: a finalizer, say, that closed the queue. */
	if (!self->open) {
		Py_DECREF(OBJECT(flight));
		return NULL;
	}
	slot = self->vacant[--self->n_vacant];
	self->slots[slot] = flight;
	Py_INCREF(OBJECT(self));
	flight->table = self;
	flight->keep = Py_NewRef(keep);
	if (view)
		flight->view = *view;
	flight->pending = true;
	flight->user_data = *user_data = (uint64_t)++self->submitted << SLOT_BITS | slot;
	return Py_NewRef(OBJECT(flight));
}

void flight_set_nlb(PyObject *flight, unsigned nlb)
{
	((struct flight *)flight)->nlb = nlb;
}

static PyObject *in_flight_launch(struct in_flight *self, PyObject *const *args, Py_ssize_t n)
{
	PyObject *flight, *number, *staged = NULL;
	uint64_t user_data;

	if (n != 3) {
		PyErr_SetString(PyExc_TypeError, "launch() takes an entry, a buf_index and what to keep");
		return NULL;
	}
	flight = flight_launch(self, args[2], NULL, &user_data);
	if (!flight && !PyErr_Occurred())
		PyErr_SetString(PyExc_RuntimeError, "the queue was closed while a command was being submitted");
	if (!flight)
		return NULL;
	number = PyLong_FromUnsignedLongLong(user_data);
	if (number)
		staged = PyObject_CallMethodObjArgs(self->queue, str_stage, number, args[0], args[1], NULL);
	if (!staged)
		Py_CLEAR(flight);
	Py_XDECREF(number);
	Py_XDECREF(staged);
	return flight;
}

/* Tell the group of a flight, which is not in flight any more. */
static int tell(const struct flight *flight, int res)
{
	PyObject *number, *told;

	if (!flight->group || flight->group == Py_None)
		return 0;
	number = PyLong_FromLong(res);
	told = number ? PyObject_CallMethodObjArgs(flight->group, str_landed, number, NULL) : NULL;
	Py_XDECREF(number);
	Py_XDECREF(told);
	return told ? 0 : -1;
}

/* Put a flight, with a reference to it, among those whose tasks are to be run. */
static void landed(struct in_flight *self, struct flight *flight)
{
	if (self->last)
		self->last->next = flight;
	else
		self->first = flight;
	self->last = flight;
}

/* Take one completion in; the flight's reference moves from its slot to the list of those that landed. */
static int land_one(struct in_flight *self, const struct aionvme_cqe *cqe)
{
	const uint32_t slot = cqe->user_data & SLOT_MASK;
	struct flight *flight = slot < self->depth ? self->slots[slot] : NULL;
	PyObject *keep;
	Py_buffer view;
	int ret;

	if (!flight || flight->user_data != cqe->user_data) {
		PyErr_Format(PyExc_LookupError, "a completion that nobody asked for, user_data %llu",
			     (unsigned long long)cqe->user_data);
		return -1;
	}
	self->slots[slot] = NULL;
	self->vacant[self->n_vacant++] = slot;
	flight->res = cqe->res;
	flight->value = cqe->big_cqe[0];
	flight->pending = false;
	/* Letting go of memory can run Python code, and that anything: all is in order by then. */
	keep = flight->keep;
	view = flight->view;
	flight->keep = NULL;
	memset(&flight->view, 0, sizeof(flight->view));
	landed(self, flight);
	Py_INCREF(OBJECT(flight));
	Py_XDECREF(keep);
	PyBuffer_Release(&view);
	ret = tell(flight, flight->res);
	Py_DECREF(OBJECT(flight));
	return ret;
}

static PyObject *in_flight_land(struct in_flight *self, PyObject *completions)
{
	Py_buffer view;
	long n = 0;

	if (PyObject_GetBuffer(completions, &view, PyBUF_SIMPLE))
		return NULL;
	while (n < view.len / (Py_ssize_t)sizeof(struct aionvme_cqe) && !land_one(self, (struct aionvme_cqe *)view.buf + n))
		n++;
	PyBuffer_Release(&view);
	return PyErr_Occurred() ? NULL : PyLong_FromLong(n);
}

static PyObject *in_flight_wake(struct in_flight *self, PyObject *Py_UNUSED(none))
{
	int ret = 0;

	self->waking = PyThread_get_thread_ident();
	while (self->first && !ret) {
		struct flight *flight = self->first;

		self->first = flight->next;
		flight->next = NULL;
		if (!self->first)
			self->last = NULL;
		ret = run(flight);
		Py_DECREF(OBJECT(flight));
	}
	self->waking = 0;
	return ret ? NULL : Py_NewRef(Py_None);
}

static PyObject *in_flight_ticket(struct in_flight *self, PyObject *Py_UNUSED(none))
{
	struct flight *flight = new_flight(self);

	if (!flight)
		return NULL;
	Py_INCREF(OBJECT(self));
	flight->table = self;
	flight->pending = true;
	return OBJECT(flight);
}

static PyObject *in_flight_settle(struct in_flight *self, PyObject *ticket)
{
	if (!PyObject_TypeCheck(ticket, flight_type)) {
		PyErr_SetString(PyExc_TypeError, "not a ticket");
		return NULL;
	}
	((struct flight *)ticket)->pending = false;
	landed(self, (struct flight *)Py_NewRef(ticket));
	Py_RETURN_NONE;
}

static int fail_one(struct flight *flight, PyObject *error)
{
	PyObject *type, *value, *traceback;

	set(&flight->error, error);
	flight->pending = false;
	if (!tell(flight, 0))
		return run_later(flight);
	/* The task is told all the same. */
	PyErr_Fetch(&type, &value, &traceback);
	if (run_later(flight))
		PyErr_Clear();
	PyErr_Restore(type, value, traceback);
	return -1;
}

static PyObject *in_flight_fail_one(struct in_flight *Py_UNUSED(self), PyObject *const *args, Py_ssize_t n)
{
	if (n != 2 || !PyObject_TypeCheck(args[0], flight_type)) {
		PyErr_SetString(PyExc_TypeError, "fail_one() takes a flight and an error");
		return NULL;
	}
	return fail_one((struct flight *)args[0], args[1]) ? NULL : Py_NewRef(Py_None);
}

static PyObject *in_flight_fail(struct in_flight *self, PyObject *error)
{
	PyObject *type = NULL, *value = NULL, *traceback = NULL;

	for (uint32_t i = 0; i < self->depth; i++) {
		struct flight *flight = self->slots[i];

		if (!flight)
			continue;
		self->slots[i] = NULL;
		self->vacant[self->n_vacant++] = i;
		/* What goes wrong with one is raised when all have been ended. */
		if (fail_one(flight, error)) {
			if (type)
				PyErr_Clear();
			else
				PyErr_Fetch(&type, &value, &traceback);
		}
		Py_DECREF(OBJECT(flight));
	}
	if (!type)
		Py_RETURN_NONE;
	PyErr_Restore(type, value, traceback);
	return NULL;
}

static PyMemberDef in_flight_members[] = {
	{ "free", T_LONGLONG, offsetof(struct in_flight, free), 0, NULL },
	{ "submitted", T_ULONGLONG, offsetof(struct in_flight, submitted), READONLY, NULL },
	{ "open", T_BOOL, offsetof(struct in_flight, open), 0, NULL },
	{ "turn_due", T_BOOL, offsetof(struct in_flight, turn_due), 0, NULL },
	{ NULL },
};

static PyMethodDef in_flight_methods[] = {
	{ "flights", (PyCFunction)in_flight_flights, METH_NOARGS, NULL },
	{ "launch", (PyCFunction)(void (*)(void))in_flight_launch, METH_FASTCALL, NULL },
	{ "land", (PyCFunction)in_flight_land, METH_O, NULL },
	{ "wake", (PyCFunction)in_flight_wake, METH_NOARGS, NULL },
	{ "ticket", (PyCFunction)in_flight_ticket, METH_NOARGS, NULL },
	{ "settle", (PyCFunction)in_flight_settle, METH_O, NULL },
	{ "fail", (PyCFunction)in_flight_fail, METH_O, NULL },
	{ "fail_one", (PyCFunction)(void (*)(void))in_flight_fail_one, METH_FASTCALL, NULL },
	{ NULL },
};

static PyType_Slot in_flight_slots[] = {
	{ Py_tp_doc, "The commands in flight on one queue." },
	{ Py_tp_init, in_flight_init },
	{ Py_tp_traverse, in_flight_traverse },
	{ Py_tp_clear, in_flight_clear },
	{ Py_tp_dealloc, in_flight_dealloc },
	{ Py_sq_length, in_flight_length },
	{ Py_tp_members, in_flight_members },
	{ Py_tp_methods, in_flight_methods },
	{ 0, NULL },
};

static PyType_Spec in_flight_spec = {
	.name = "aionvme._flight.InFlight",
	.basicsize = sizeof(struct in_flight),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = in_flight_slots,
};

int flight_types(PyObject *module)
{
	str_run = PyUnicode_InternFromString("run");
	str_stage = PyUnicode_InternFromString("stage");
	str_landed = PyUnicode_InternFromString("landed");
	if (!str_run || !str_stage || !str_landed)
		return -1;
	flight_type = (PyTypeObject *)PyType_FromSpec(&flight_spec);
	in_flight_type = (PyTypeObject *)PyType_FromSpec(&in_flight_spec);
	if (!flight_type || !in_flight_type || PyModule_AddType(module, flight_type) || PyModule_AddType(module, in_flight_type))
		return -1;
	return 0;
}
