// SPDX-License-Identifier: MIT
/*
 * Mover, the C twin of aionvme/mover.py: reads, writes and appends of one command, checked, packed and launched in one call.
 *
 * Whatever it cannot judge, it leaves alone: the answer is None then, and the long way through aionvme/prepare.py, which knows every
 * case, carries the command out or says what is wrong with it.
 */
#include "flight.h"

#include "core.h"

#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <string.h>
#include <structmember.h>

#define NLB_MAX 65536
#define FUA	(1u << 30) /* in dword 12 */

enum opcode { WRITE = 0x01, READ = 0x02, ZONE_APPEND = 0x7d };

/* A registered buffer; an array of them in order of address is BufferPool.registered. */
struct chunk {
	uint64_t start, end, buf_index;
};

static PyObject *str_registered;
static PyTypeObject *ndarray_type;

struct mover {
	PyObject_HEAD
	struct in_flight *flights;
	PyObject *queue, *pool;
	struct aionvme_ring *ring; /* to stage on directly, or NULL */
	struct aionvme_sqe header; /* what all its entries have in common */
	uint32_t nsid;
	uint64_t block_bytes, nsze, zsze;
	uint64_t max_read_bytes, max_write_bytes, max_append_bytes; /* of the short way: 0 where there is none */
};

static int mover_traverse(struct mover *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(OBJECT(self)));
	Py_VISIT(self->flights);
	Py_VISIT(self->queue);
	Py_VISIT(self->pool);
	return 0;
}

static int mover_clear(struct mover *self)
{
	Py_CLEAR(self->flights);
	Py_CLEAR(self->queue);
	Py_CLEAR(self->pool);
	return 0;
}

static void mover_dealloc(struct mover *self)
{
	PyTypeObject *type = Py_TYPE(OBJECT(self));

	PyObject_GC_UnTrack(self);
	mover_clear(self);
	PyObject_GC_Del(self);
	Py_DECREF(type);
}

static int mover_init(struct mover *self, PyObject *args, PyObject *Py_UNUSED(named))
{
	unsigned long long ring, block_bytes, nsze, max_read_bytes, max_write_bytes, max_append_bytes, zsze;
	PyObject *flights, *queue, *pool, *port = NULL;
	const char *header;
	Py_ssize_t len;
	int ret = 0;

	if (!PyArg_ParseTuple(args, "O!OOIKKKKKK:Mover", in_flight_type, &flights, &queue, &pool, &self->nsid, &block_bytes, &nsze,
			      &max_read_bytes, &max_write_bytes, &max_append_bytes, &zsze))
		return -1;
	self->block_bytes = block_bytes;
	self->nsze = nsze;
	self->max_read_bytes = max_read_bytes;
	self->max_write_bytes = max_write_bytes;
	self->max_append_bytes = max_append_bytes;
	self->zsze = zsze;
	port = PyObject_GetAttrString(queue, "port");
	if (!port)
		return -1;
	if (port != Py_None) {
		ret = PyArg_ParseTuple(port, "Ky#", &ring, &header, &len) && len == sizeof(self->header) ? 0 : -1;
		if (!ret) {
			self->ring = (struct aionvme_ring *)(uintptr_t)ring;
			memcpy(&self->header, header, sizeof(self->header));
		} else if (!PyErr_Occurred()) {
			PyErr_SetString(PyExc_ValueError, "an entry of another size");
		}
	}
	Py_DECREF(port);
	mover_clear(self);
	self->flights = (struct in_flight *)Py_NewRef(flights);
	self->queue = Py_NewRef(queue);
	self->pool = Py_NewRef(pool);
	return ret;
}

/* A number as plain Python has it, which rules out numpy's and booleans. */
static bool number(PyObject *object, uint64_t *value)
{
	if (!PyLong_CheckExact(object))
		return false;
	*value = PyLong_AsUnsignedLongLong(object);
	if (*value != (uint64_t)-1 || !PyErr_Occurred())
		return true;
	PyErr_Clear();
	return false;
}

/* Whether it may be a masked array, as which numpy.ma's are known without importing that. */
static bool may_be_masked(PyObject *buffer)
{
	PyTypeObject *type = Py_TYPE(buffer);

	return type != ndarray_type && PyType_IsSubtype(type, ndarray_type) && PyObject_HasAttrString(OBJECT(type), "filled");
}

/* Whether a format (PEP 3118) has Python objects in it. Names of fields, between colons, are not looked at. */
static bool has_objects(const char *format)
{
	while (format && *format && *format != 'O') {
		if (*format == ':')
			format = strchr(format + 1, ':');
		if (format)
			format++;
	}
	return !format || *format;
}

/* A contiguous piece of memory without Python objects in it. Their formats are asked for only where an item could be one. */
static bool get_view(PyObject *buffer, bool writable, Py_buffer *view)
{
	const int flags = writable ? PyBUF_WRITABLE : PyBUF_SIMPLE;
	bool objects;

	if (PyObject_GetBuffer(buffer, view, flags)) {
		PyErr_Clear();
		return false;
	}
	if (view->itemsize == 1)
		return true;
	PyBuffer_Release(view);
	if (PyObject_GetBuffer(buffer, view, flags | PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)) {
		PyErr_Clear();
		return false;
	}
	objects = view->format && has_objects(view->format);
	if (objects)
		PyBuffer_Release(view);
	return !objects;
}

enum { NONE = -1, NOT_NOW = -2, FAILED = -3 };

/* The registered buffer that holds all of a piece of memory, or NONE, or NOT_NOW where Python has to look after them first. */
static int find_chunk(const struct mover *self, uint64_t addr, uint64_t len)
{
	PyObject *registered = PyObject_GetAttr(self->pool, str_registered);
	const struct chunk *chunks;
	Py_ssize_t size, low = 0, high;
	int buf_index = NONE;
	char *bytes;

	if (registered == Py_None) {
		Py_DECREF(registered);
		return NOT_NOW;
	}
	if (!registered || PyBytes_AsStringAndSize(registered, &bytes, &size)) {
		Py_XDECREF(registered);
		return FAILED;
	}
	chunks = (const struct chunk *)bytes;
	high = size / (Py_ssize_t)sizeof(*chunks);
	while (low < high) {
		const Py_ssize_t middle = low + (high - low) / 2;

		if (chunks[middle].start <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low && addr + len <= chunks[low - 1].end)
		buf_index = chunks[low - 1].buf_index;
	Py_DECREF(registered);
	return buf_index;
}

/* Hand a command to its queue: straight into the ring where there is room, otherwise as Python would. */
static int stage(const struct mover *self, uint64_t user_data, const struct nvme_uring_cmd *cmd, int buf_index)
{
	struct io_uring_sqe *sqe = self->ring ? (struct io_uring_sqe *)aionvme_ring_next_sqe(self->ring) : NULL;
	PyObject *staged;

	if (!sqe) {
		staged = PyObject_CallMethod(self->queue, "stage", "Ky#i", (unsigned long long)user_data, (const char *)cmd,
					     (Py_ssize_t)sizeof(*cmd), buf_index);
		Py_XDECREF(staged);
		return staged ? 0 : -1;
	}
	memcpy(sqe, &self->header, sizeof(self->header));
	sqe->user_data = user_data;
	if (buf_index >= 0) {
		sqe->uring_cmd_flags |= IORING_URING_CMD_FIXED;
		sqe->buf_index = buf_index;
	}
	memcpy((uint8_t *)sqe + offsetof(struct io_uring_sqe, cmd), cmd, sizeof(*cmd));
	return 0;
}

static uint64_t max_bytes(const struct mover *self, uint64_t opcode)
{
	if (opcode == READ)
		return self->max_read_bytes;
	return opcode == WRITE ? self->max_write_bytes : self->max_append_bytes;
}

/* launch(opcode, slba, nlb or None for as many as the buffer has, buffer, fua) */
static PyObject *mover_launch(struct mover *self, PyObject *const *args, Py_ssize_t n)
{
	struct nvme_uring_cmd cmd = { 0 };
	uint64_t opcode, slba, nlb, len, user_data;
	PyObject *flight;
	Py_buffer view;
	int buf_index, fua, admitted;

	if (n != 5 || !self->flights || !number(args[0], &opcode)) {
		PyErr_SetString(PyExc_TypeError, "launch() takes an opcode, slba, nlb, a buffer and fua");
		return NULL;
	}
	if (!number(args[1], &slba) || PyUnicode_Check(args[3]) || may_be_masked(args[3]))
		Py_RETURN_NONE;
	fua = PyObject_IsTrue(args[4]);
	if (fua < 0)
		return NULL;
	if (!get_view(args[3], opcode == READ, &view))
		Py_RETURN_NONE;
	len = view.len;
	nlb = len / self->block_bytes;
	if (args[2] == Py_None ? opcode == READ : !number(args[2], &nlb))
		goto no;
	if (nlb < 1 || nlb > NLB_MAX || nlb * self->block_bytes != len || slba > self->nsze || nlb > self->nsze - slba ||
	    len > max_bytes(self, opcode) ||
	    (opcode == ZONE_APPEND && (!self->zsze || slba % self->zsze)))
		goto no;
	buf_index = find_chunk(self, (uintptr_t)view.buf, len);
	if (buf_index == NOT_NOW)
		goto no;
	if (buf_index == FAILED)
		goto failed;
	cmd.opcode = opcode;
	cmd.nsid = self->nsid;
	cmd.addr = (uintptr_t)view.buf;
	cmd.data_len = len;
	cmd.cdw10 = slba;
	cmd.cdw11 = slba >> 32;
	cmd.cdw12 = (nlb - 1) | (fua ? FUA : 0);
	/* Last, because all of the above may run Python code. */
	admitted = in_flight_admits(self->flights);
	if (admitted < 0)
		goto failed;
	if (!admitted)
		goto no;
	self->flights->free--;
	flight = flight_launch(self->flights, args[3], &view, &user_data);
	if (!flight) {
		self->flights->free++;
		if (PyErr_Occurred())
			goto failed;
		goto no;
	}
	flight_set_nlb(flight, nlb);
	if (stage(self, user_data, &cmd, buf_index))
		Py_CLEAR(flight); /* the table has it all the same */
	return flight;

failed:
	PyBuffer_Release(&view);
	return NULL;
no:
	PyBuffer_Release(&view);
	Py_RETURN_NONE;
}

static PyMethodDef mover_methods[] = {
	{ "launch", (PyCFunction)(void (*)(void))mover_launch, METH_FASTCALL, NULL },
	{ NULL },
};

static PyType_Slot mover_slots[] = {
	{ Py_tp_doc, "Reads, writes and appends of one command." },
	{ Py_tp_init, mover_init },
	{ Py_tp_traverse, mover_traverse },
	{ Py_tp_clear, mover_clear },
	{ Py_tp_dealloc, mover_dealloc },
	{ Py_tp_methods, mover_methods },
	{ 0, NULL },
};

static PyType_Spec mover_spec = {
	.name = "aionvme._flight.Mover",
	.basicsize = sizeof(struct mover),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = mover_slots,
};

int mover_type(PyObject *module)
{
	PyObject *type = PyType_FromSpec(&mover_spec);
	const int ret = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
	PyObject *numpy = PyImport_ImportModule("numpy");

	ndarray_type = numpy ? (PyTypeObject *)PyObject_GetAttrString(numpy, "ndarray") : NULL;
	Py_XDECREF(numpy);
	str_registered = PyUnicode_InternFromString("registered");

	Py_XDECREF(type);
	return ndarray_type && str_registered ? ret : -1;
}
