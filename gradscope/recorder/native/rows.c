/* Rows that are pending, in lists, and numbers in slots. */
#include "core.h"

/* A row is there as a whole or not at all. */
int
add_row(PyObject *rows, PyObject *const *values, Py_ssize_t width)
{
    Py_ssize_t before = PyList_GET_SIZE(rows);
    for (Py_ssize_t place = 0; place < width; place++) {
        if (PyList_Append(rows, values[place]) < 0) {
            PyObject *kind, *value, *trace;
            PyErr_Fetch(&kind, &value, &trace);
            if (PyList_SetSlice(rows, before, PyList_GET_SIZE(rows), NULL) < 0) {
                PyErr_Clear();
            }
            PyErr_Restore(kind, value, trace);
            return -1;
        }
    }
    return 0;
}

void
set_slot(PyObject *object, Py_ssize_t offset, PyObject *value)
{
    PyObject *before = SLOT(object, offset);
    Py_INCREF(value);
    SLOT(object, offset) = value;
    Py_XDECREF(before);
}

long long
number_in(PyObject *object, Py_ssize_t offset)
{
    PyObject *value = SLOT(object, offset);
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a slot that is not set");
        return -1;
    }
    return PyLong_AsLongLong(value);
}

int
set_number(PyObject *object, Py_ssize_t offset, long long value)
{
    PyObject *number = PyLong_FromLongLong(value);
    if (number == NULL) {
        return -1;
    }
    PyObject *before = SLOT(object, offset);
    SLOT(object, offset) = number;
    Py_XDECREF(before);
    return 0;
}

PyObject *
known_by_id(PyObject *known, PyObject *object, int *failed)
{
    PyObject *key = PyLong_FromVoidPtr(object);
    if (key == NULL) {
        *failed = 1;
        return NULL;
    }
    PyObject *found = PyDict_GetItemWithError(known, key);
    Py_DECREF(key);
    *failed = found == NULL && PyErr_Occurred() != NULL;
    return found;
}

int
holds_none(PyObject *value)
{
    PyTypeObject *kind = Py_TYPE(value);
    return Py_IS_TYPE((PyObject *)kind, &PyType_Type) && PySet_Contains(the_boring, (PyObject *)kind) == 1;
}
