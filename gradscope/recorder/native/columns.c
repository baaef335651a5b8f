/* Rows that are pending, made columns: see Table.extend_flat in recording/tables.py and Tape in recorder/tape.py. */
#include "core.h"
#if PY_VERSION_HEX < 0x030B0000
#include <longintrepr.h>
#endif

typedef struct {
    char code;
    Py_ssize_t size;
    long long least, most;
} Kind;

static const Kind kinds[] = {
    {'b', 1, INT8_MIN, INT8_MAX},   {'B', 1, 0, UINT8_MAX},         {'h', 2, INT16_MIN, INT16_MAX},
    {'H', 2, 0, UINT16_MAX},        {'i', 4, INT32_MIN, INT32_MAX}, {'q', 8, INT64_MIN, INT64_MAX},
    {'Q', 8, 0, INT64_MAX},
};

static const Kind *
kind_of(char code)
{
    for (size_t place = 0; place < sizeof(kinds) / sizeof(kinds[0]); place++) {
        if (kinds[place].code == code) {
            return &kinds[place];
        }
    }
    PyErr_SetString(PyExc_TypeError, "numbers of a type that is not known");
    return NULL;
}

/* Whether an int is of one digit, which is read without a call. */
static inline int
is_small(PyObject *number, Py_ssize_t *value)
{
#if PY_VERSION_HEX >= 0x030C0000
    if (!PyUnstable_Long_IsCompact((PyLongObject *)number)) {
        return 0;
    }
    *value = PyUnstable_Long_CompactValue((PyLongObject *)number);
#else
    Py_ssize_t digits = Py_SIZE(number);
    if (digits < -1 || digits > 1) {
        return 0;
    }
    *value = digits * (Py_ssize_t)((PyLongObject *)number)->ob_digit[0];
#endif
    return 1;
}

static inline void
put_number(char *at, const Kind *kind, long long value)
{
    int8_t narrow = (int8_t)value;
    int16_t half = (int16_t)value;
    int32_t whole = (int32_t)value;
    switch (kind->size) {
    case 1:
        memcpy(at, &narrow, 1);
        break;
    case 2:
        memcpy(at, &half, 2);
        break;
    case 4:
        memcpy(at, &whole, 4);
        break;
    default:
        memcpy(at, &value, 8);
    }
}

/* A number that a column of a kind can hold, by its bits; -1 with an error set for another. */
static long long
number_for(const Kind *kind, PyObject *object)
{
    Py_ssize_t small;
    if (PyLong_CheckExact(object) && is_small(object, &small) && small <= kind->most && small >= kind->least) {
        return (long long)small;
    }
    if (kind->code == 'Q') {
        return (long long)PyLong_AsUnsignedLongLong(object);
    }
    long long value = PyLong_AsLongLong(object);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (value < kind->least || value > kind->most) {
        PyErr_SetString(PyExc_OverflowError, "a number that does not fit its column");
        return -1;
    }
    return value;
}

/* One column of the rows in a list, as the bytes of an array: takes the list, the first place, the width of a row and
 * the type of the column's numbers. */
PyObject *
packed_column(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *values;
    Py_ssize_t first, width;
    int code;
    if (!PyArg_ParseTuple(args, "O!nnC", &PyList_Type, &values, &first, &width, &code)) {
        return NULL;
    }
    const Kind *kind = kind_of((char)code);
    if (kind == NULL || first < 0 || width < 1) {
        if (kind != NULL) {
            PyErr_SetString(PyExc_ValueError, "rows of another shape");
        }
        return NULL;
    }
    Py_ssize_t length = PyList_GET_SIZE(values), count = first < length ? (length - first + width - 1) / width : 0;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count * kind->size);
    char *at = bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
    for (Py_ssize_t row = 0; bytes != NULL && row < count; row++, at += kind->size) {
        Py_ssize_t place = first + row * width;
        PyObject *object = place < PyList_GET_SIZE(values) ? PyList_GET_ITEM(values, place) : Py_None;
        Py_INCREF(object);
        long long value = number_for(kind, object);
        Py_DECREF(object);
        if (value == -1 && PyErr_Occurred()) {
            Py_CLEAR(bytes);
        }
        else {
            put_number(at, kind, value);
        }
    }
    return bytes;
}

static int
set_pairs_in(Py_buffer *column, const Kind *kind, PyObject *pairs, Py_ssize_t count)
{
    Py_ssize_t rows = column->len / kind->size;
    for (Py_ssize_t place = 0; place + 1 < count && place + 1 < PyList_GET_SIZE(pairs); place += 2) {
        Py_ssize_t row = PyLong_AsSsize_t(PyList_GET_ITEM(pairs, place));
        long long value = PyErr_Occurred() ? -1 : number_for(kind, PyList_GET_ITEM(pairs, place + 1));
        if (value == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (row < 0 || row >= rows) {
            PyErr_SetString(PyExc_IndexError, "a row that is not there");
            return -1;
        }
        put_number((char *)column->buf + row * kind->size, kind, value);
    }
    return 0;
}

/* Set column[row] = value for so many numbers of a list, in which rows and values alternate. */
PyObject *
set_pairs(PyObject *module, PyObject *args)
{
    (void)module;
    PyObject *array, *pairs;
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "OO!n", &array, &PyList_Type, &pairs, &count)) {
        return NULL;
    }
    Py_buffer column;
    if (PyObject_GetBuffer(array, &column, PyBUF_WRITABLE | PyBUF_FORMAT) < 0) {
        return NULL;
    }
    const Kind *kind = kind_of(column.format == NULL ? 'B' : column.format[0]);
    int failed = kind == NULL || kind->size != column.itemsize || set_pairs_in(&column, kind, pairs, count) < 0;
    PyBuffer_Release(&column);
    if (failed) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a column of another type");
        }
        return NULL;
    }
    Py_RETURN_NONE;
}
