// SPDX-License-Identifier: MIT
/* aionvme._flight: the hot path in C, with what aionvme/driver/fast.py takes from it. */
#include "flight.h"

static int exec(PyObject *module)
{
	return flight_types(module) || mover_type(module) ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
	{ Py_mod_exec, exec },
	{ 0, NULL },
};

static struct PyModuleDef definition = {
	.m_base = PyModuleDef_HEAD_INIT,
	.m_name = "aionvme._flight",
	.m_slots = slots,
};

PyMODINIT_FUNC PyInit__flight(void)
{
	return PyModuleDef_Init(&definition);
}
