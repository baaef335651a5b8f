/* Tensors and storages that are met for the first time, and those that have died: see recorder/state/identity.py and
 * recorder/state/tensor_states.py, whose rules these are. */
#include "core.h"

static int
forget(PyObject *known, PyObject *key)
{
    if (PyDict_DelItem(known, key) < 0) {
        if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
            return -1;
        }
        PyErr_Clear();
    }
    return 0;
}

static int
bury_one(Core *core, PyObject *gone)
{
    int is_tensor = Py_TYPE(gone) == (PyTypeObject *)the_Seen;
    PyObject *key = SLOT(gone, is_tensor ? Seen_key : SeenStorage_key);
    if (key == NULL) { /* an interrupt came while it was being entered */
        return 0;
    }
    PyObject *row = SLOT(gone, is_tensor ? Seen_row : SeenStorage_row);
    PyObject *died[] = {row, SLOT(core->tape, Tape_op_count)};
    if (forget(is_tensor ? core->tensors : core->storages, key) < 0) {
        return -1;
    }
    if (is_tensor) {
        PyObject *leaves = SLOT(core->identity, Identity_leaves);
        if (PyDict_GET_SIZE(leaves)) {
            PyObject *leaf = PyDict_GetItemWithError(leaves, row);
            if (leaf == NULL ? PyErr_Occurred() != NULL : leaf == gone && PyDict_DelItem(leaves, row) < 0) {
                return -1;
            }
        }
    }
    return add_row(is_tensor ? core->tensor_deaths : core->storage_deaths, died, 2);
}

int
bury(Core *core)
{
    if (PyDict_GET_SIZE(SLOT(core->identity, Identity_alike_tensors)) ||
        PyDict_GET_SIZE(SLOT(core->identity, Identity_alike_storages))) {
        PyObject *done = PyObject_CallOneArg(the_python_bury, core->identity);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    Py_ssize_t count;
    while ((count = PyList_GET_SIZE(core->dead)) > 0) {
        PyObject *gone = PyList_GET_ITEM(core->dead, count - 1);
        Py_SET_SIZE(core->dead, count - 1); /* its reference is ours */
        int failed = bury_one(core, gone) < 0;
        Py_DECREF(gone);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

static size_t
place_of_layout(PyObject *shape, PyObject *stride, PyObject *dtype)
{
    size_t at = (size_t)dtype >> 4;
    PyObject *sizes[] = {shape, stride};
    for (int which = 0; which < 2; which++) {
        for (Py_ssize_t dim = 0; dim < PyTuple_GET_SIZE(sizes[which]); dim++) {
            PyObject *size = PyTuple_GET_ITEM(sizes[which], dim);
            if (!PyLong_CheckExact(size)) {
                return LAYOUTS; /* a symbol */
            }
            at = at * 1000003 + (size_t)PyLong_AsLongLong(size) + 1;
        }
    }
    return at % LAYOUTS;
}

static int
is_same(PyObject *one, PyObject *other)
{
    return one != NULL && PyObject_RichCompareBool(one, other, Py_EQ) == 1;
}

/* What the table knows of a layout, looked up without a hash where it was met before; borrowed. */
static PyObject *
layout_of(Core *core, PyObject *shape, PyObject *stride, PyObject *dtype, PyObject *device)
{
    size_t at = PyTuple_Check(shape) && PyTuple_Check(stride) ? place_of_layout(shape, stride, dtype) : LAYOUTS;
    KnownLayout *known = at == LAYOUTS ? NULL : &core->known_layouts[at];
    if (known != NULL && known->dtype == dtype && is_same(known->shape, shape) && is_same(known->stride, stride) &&
        is_same(known->device, device)) {
        return known->layout;
    }
    PyObject *key = PyErr_Occurred() ? NULL : PyTuple_Pack(5, shape, stride, dtype, device, Py_None);
    PyObject *found = key == NULL ? NULL : PyDict_GetItemWithError(core->layouts, key);
    if (known != NULL && found != NULL) {
        Py_INCREF(shape);
        Py_XSETREF(known->shape, shape);
        Py_INCREF(stride);
        Py_XSETREF(known->stride, stride);
        Py_INCREF(device);
        Py_XSETREF(known->device, device);
        known->dtype = dtype; /* there is one for each, as long as torch is there */
        known->layout = found;
    }
    Py_XDECREF(key);
    return found;
}

/* The row of a tensor's layout and its bytes, as they are known (borrowed); NULL without an error: they are not. */
static PyObject *
known_layout(Core *core, PyObject *tensor)
{
    PyObject *parts[4] = {NULL, NULL, NULL, NULL};
    PyObject *found = NULL;
    if ((parts[0] = ask_of(&ask_shape, tensor)) != NULL && (parts[1] = ask_of(&ask_stride, tensor)) != NULL &&
        (parts[2] = ask_of(&ask_dtype, tensor)) != NULL && (parts[3] = ask_of(&ask_device, tensor)) != NULL) {
        found = layout_of(core, parts[0], parts[1], parts[2], parts[3]);
    }
    for (int place = 0; place < 4; place++) {
        Py_XDECREF(parts[place]);
    }
    return found;
}

/* Whether a question about a tensor is answered with yes; -1 for an error. */
static int
is_so(Ask *ask, PyObject *tensor)
{
    PyObject *answer = ask_of(ask, tensor);
    int is_it = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(answer);
    return is_it;
}

/* What is asked of a tensor before anything is noted of it. */
typedef struct {
    PyObject *storage, *version, *layout; /* the last is borrowed: layouts are kept */
    PyObject *known;                      /* of the storage; NULL: it is new */
    int is_view, has_dims;                /* the second is asked of new storages of saved tensors alone */
    PyObject *nbytes, *pointer; /* of a new storage */
} Asked;

static void
clear_asked(Asked *asked)
{
    Py_CLEAR(asked->storage);
    Py_CLEAR(asked->version);
    Py_CLEAR(asked->known);
    Py_CLEAR(asked->nbytes);
    Py_CLEAR(asked->pointer);
}

static int
ask_new_storage(PyObject *tensor, Asked *asked)
{
    asked->nbytes = ask_of(&ask_storage_nbytes, asked->storage);
    if (asked->nbytes == NULL || !PyLong_CheckExact(asked->nbytes)) {
        return 0;
    }
    PyObject *is_cow = PyObject_CallOneArg(the_is_copied_on_write, tensor);
    if (is_cow == NULL) {
        return 0;
    }
    int is_shared = is_cow != Py_False;
    Py_DECREF(is_cow);
    if (is_shared) {
        asked->pointer = ZERO;
        Py_INCREF(ZERO);
    }
    else {
        asked->pointer = ask_of(&ask_storage_data_ptr, asked->storage);
    }
    return asked->pointer != NULL && PyLong_CheckExact(asked->pointer);
}

/* 1: all is known; 0: it is for Python to ask (an error may be set). */
static int
ask_tensor(Core *core, PyObject *tensor, Asked *asked)
{
    int failed;
    asked->storage = ask_of(&ask_untyped_storage, tensor);
    if (asked->storage == NULL) {
        return 0;
    }
    asked->layout = known_layout(core, tensor);
    if (asked->layout == NULL || !PyTuple_CheckExact(asked->layout)) {
        return 0;
    }
    asked->version = ask_of(&ask_version, tensor);
    if (asked->version == NULL || !PyLong_CheckExact(asked->version)) {
        return 0;
    }
    asked->known = known_by_id(core->storages, asked->storage, &failed);
    if (asked->known == NULL) {
        return !failed && ask_new_storage(tensor, asked);
    }
    Py_INCREF(asked->known);
    if (Py_TYPE(asked->known) != (PyTypeObject *)the_SeenStorage) {
        return 0;
    }
    asked->is_view = is_so(&ask_is_view, tensor);
    return asked->is_view >= 0;
}

static PyObject *
new_reference(PyObject *kind, PyObject *object, PyObject *entomb)
{
    PyObject *arguments[] = {object, entomb};
    return PyObject_Vectorcall(kind, arguments, 2, NULL);
}

static int
note_storage(Core *core, PyObject *reference, Asked *asked, PyObject *op, long flags, PyObject *first)
{
    PyObject *tape = core->tape, *row = SLOT(tape, Tape_storage_count), *key;
    long long next = PyLong_AsLongLong(row);
    if (next == -1 && PyErr_Occurred()) {
        return -1;
    }
    set_slot(reference, SeenStorage_row, row);
    set_slot(reference, SeenStorage_first, first);
    set_slot(reference, SeenStorage_nbytes, asked->nbytes);
    PyObject *values[] = {op, asked->nbytes, asked->pointer, NONE_ROW, flags & EXTERNAL ? ONE : ZERO};
    if (add_row(core->storage_rows, values, 5) < 0 || set_number(tape, Tape_storage_count, next + 1) < 0) {
        return -1;
    }
    key = id_of(asked->storage);
    if (key == NULL) {
        return -1;
    }
    set_slot(reference, SeenStorage_key, key);
    int failed = PyDict_SetItem(core->storages, key, reference);
    Py_DECREF(key);
    return failed;
}

/* Whether a view is one of another tensor, or both are views of the same; -1 for an error. */
static int
is_view_beside(PyObject *view, PyObject *other)
{
    PyObject *base = ask_of(&ask_base, view);
    int found = base == NULL ? -1 : base == other;
    if (!found && (found = is_so(&ask_is_view, other)) == 1) {
        PyObject *its_base = ask_of(&ask_base, other);
        found = its_base == NULL ? -1 : its_base == base;
        Py_XDECREF(its_base);
    }
    Py_XDECREF(base);
    return found;
}

static int
note_alias_in_python(Core *core, PyObject *tensor, PyObject *seen, PyObject *known, PyObject *inputs)
{
    static PyObject *name;
    if (name == NULL && (name = PyUnicode_InternFromString("_note_alias")) == NULL) {
        return -1;
    }
    PyObject *arguments[] = {core->identity, tensor, seen, known, inputs};
    PyObject *noted = PyObject_VectorcallMethod(name, arguments, 5, NULL);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 0;
}

/* What is known of the tensor that another one is an alias of, and that tensor (a new reference); NULL where Python must
 * look (an error may be set). */
static PyObject *
base_of(Core *core, PyObject *known, PyObject *inputs, PyObject **tensor)
{
    long long storage = number_in(known, SeenStorage_row);
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(inputs); place++) {
        int failed;
        *tensor = PyTuple_GET_ITEM(inputs, place);
        PyObject *seen = known_by_id(core->tensors, *tensor, &failed);
        if (seen != NULL && number_in(seen, Seen_storage) == storage) {
            Py_INCREF(*tensor);
            return seen;
        }
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    PyObject *first = SLOT(known, SeenStorage_first);
    if (first == NULL || Py_TYPE(first) != (PyTypeObject *)the_Seen) {
        return NULL;
    }
    Py_INCREF(first);
    *tensor = PyObject_CallNoArgs(first);
    Py_DECREF(first); /* its storage has it */
    if (*tensor == Py_None) {
        Py_CLEAR(*tensor);
    }
    return *tensor == NULL ? NULL : first;
}

/* Keep what a tensor is an alias of; only of views is it known that they share a counter. */
static int
note_alias(Core *core, PyObject *tensor, PyObject *seen, Asked *asked, PyObject *inputs)
{
    if (!asked->is_view || !PyTuple_CheckExact(inputs)) {
        return note_alias_in_python(core, tensor, seen, asked->known, inputs);
    }
    PyObject *other, *base = base_of(core, asked->known, inputs, &other), *offset = NULL;
    if (base == NULL) {
        return PyErr_Occurred() ? -1 : note_alias_in_python(core, tensor, seen, asked->known, inputs);
    }
    Py_INCREF(base);
    int is_plain = Py_TYPE(other) == (PyTypeObject *)the_Tensor || Py_TYPE(other) == (PyTypeObject *)the_Parameter;
    int is_beside = is_plain ? is_view_beside(tensor, other) : 0;
    if (is_beside == 1 && (offset = ask_of(&ask_storage_offset, tensor)) == NULL) {
        is_beside = -1;
    }
    Py_DECREF(other);
    int failed = is_beside < 0;
    if (offset != NULL && PyLong_CheckExact(offset)) {
        PyObject *values[] = {SLOT(seen, Seen_row), SLOT(base, Seen_row), offset, ONE};
        failed = add_row(core->alias_rows, values, 4) < 0;
    }
    else if (!failed) {
        failed = note_alias_in_python(core, tensor, seen, asked->known, inputs) < 0;
    }
    Py_XDECREF(offset);
    Py_DECREF(base);
    return failed ? -1 : 0;
}

static int
note_tensor(
    Core *core, PyObject *seen, PyObject *tensor, Asked *asked, PyObject *place, PyObject *op, PyObject *node,
    long flags, PyObject *inputs)
{
    PyObject *tape = core->tape, *row = SLOT(seen, Seen_row);
    PyObject *layout = PyTuple_GET_ITEM(asked->layout, 0), *nbytes = PyTuple_GET_ITEM(asked->layout, 1);
    long long next = PyLong_AsLongLong(row);
    PyObject *all_flags = PyLong_FromLong(flags);
    if (all_flags == NULL || (next == -1 && PyErr_Occurred())) {
        Py_XDECREF(all_flags);
        return -1;
    }
    PyObject *values[] = {op, place, layout, node, all_flags, NONE_ROW};
    int failed = add_row(core->tensor_rows, values, 6) < 0 || set_number(tape, Tape_tensor_count, next + 1) < 0;
    Py_DECREF(all_flags);
    if (failed) {
        return -1;
    }
    long version = PyLong_AsLong(asked->version);
    if (version) {
        PyObject *field = PyLong_FromLong(VERSION_FIELD);
        if (field == NULL) {
            return -1;
        }
        set_slot(seen, Seen_first_version, asked->version);
        PyObject *change[] = {op, row, field, ZERO, asked->version};
        failed = add_row(core->changes, change, 5) < 0;
        Py_DECREF(field);
        if (failed) {
            return -1;
        }
    }
    if (asked->known != NULL && note_alias(core, tensor, seen, asked, inputs) < 0) {
        return -1;
    }
    set_slot(seen, Seen_storage, place);
    set_slot(seen, Seen_layout, layout);
    set_slot(seen, Seen_node, node);
    set_slot(seen, Seen_nbytes, nbytes);
    set_slot(seen, Seen_requires_grad, flags & REQUIRES_GRAD ? Py_True : Py_False);
    PyObject *key = id_of(tensor);
    if (key == NULL) {
        return -1;
    }
    set_slot(seen, Seen_key, key);
    failed = PyDict_SetItem(core->tensors, key, seen);
    Py_DECREF(key);
    if (!failed && flags & REQUIRES_GRAD && PyLong_AsLong(node) == NONE) {
        failed = PyDict_SetItem(SLOT(core->identity, Identity_leaves), row, seen);
    }
    return failed;
}

/* What is asked of a saved tensor that has no row: 1; 0: it is for Python to ask (an error may be set). */
static int
ask_saved(Core *core, PyObject *tensor, Asked *asked, PyObject **nbytes)
{
    int failed;
    PyObject *layout = ask_of(&ask_tensor_layout, tensor);
    int is_usual = layout == the_strided && is_so(&ask_is_nested, tensor) == 0;
    Py_XDECREF(layout);
    if (!is_usual || (*nbytes = ask_of(&ask_nbytes, tensor)) == NULL || !PyLong_CheckExact(*nbytes) ||
        (asked->storage = ask_of(&ask_untyped_storage, tensor)) == NULL) {
        return 0;
    }
    asked->known = known_by_id(core->storages, asked->storage, &failed);
    if (asked->known != NULL) {
        Py_INCREF(asked->known);
        return Py_TYPE(asked->known) == (PyTypeObject *)the_SeenStorage;
    }
    PyObject *dims = failed ? NULL : ask_of(&ask_dim, tensor);
    asked->has_dims = dims != NULL && PyLong_AsLong(dims) != 0;
    Py_XDECREF(dims);
    return dims != NULL && ask_new_storage(tensor, asked);
}

/* The storage of a saved tensor that has no row and its bytes (new references), the storage entered where it is new: 1,
 * or 0 where that is for Python to do, or -1 for an error. */
int
note_saved_storage(Core *core, PyObject *tensor, PyObject *op, PyObject **storage, PyObject **nbytes)
{
    Asked asked = {0};
    PyObject *reference = NULL;
    *storage = *nbytes = NULL;
    if (Py_TYPE(tensor) != (PyTypeObject *)the_Tensor) {
        return 0;
    }
    int outcome = ask_saved(core, tensor, &asked, nbytes);
    if (!outcome) {
        outcome = PyErr_Occurred() && !handed_over() ? -1 : 0;
    }
    else if (asked.known != NULL) {
        *storage = SLOT(asked.known, SeenStorage_row);
    }
    else if ((reference = new_reference(the_SeenStorage, asked.storage, core->entomb)) == NULL ||
             note_storage(core, reference, &asked, op, asked.has_dims ? 0 : EXTERNAL, Py_None) < 0) {
        outcome = -1;
    }
    else {
        *storage = SLOT(reference, SeenStorage_row);
    }
    Py_XINCREF(*storage);
    if (outcome != 1) {
        Py_CLEAR(*nbytes);
    }
    Py_XDECREF(reference);
    clear_asked(&asked);
    return outcome;
}

static PyObject *
add_in_python(Core *core, PyObject *tensor, PyObject *op, PyObject *node, long flags, PyObject *inputs)
{
    PyObject *number = PyLong_FromLong(flags);
    if (number == NULL) {
        return NULL;
    }
    PyObject *arguments[] = {core->identity, tensor, op, node, number, inputs};
    PyObject *seen = PyObject_Vectorcall(the_python_add, arguments, 6, NULL);
    Py_DECREF(number);
    return seen;
}

PyObject *
add_tensor(Core *core, PyObject *tensor, PyObject *op, PyObject *node, long flags, PyObject *inputs)
{
    Asked asked = {0};
    PyObject *seen = NULL, *reference = NULL, *place = NULL;
    if (Py_TYPE(tensor) != (PyTypeObject *)the_Tensor) {
        return add_in_python(core, tensor, op, node, flags, inputs);
    }
    if (!ask_tensor(core, tensor, &asked)) {
        clear_asked(&asked);
        if (PyErr_Occurred() && !handed_over()) {
            return NULL;
        }
        return add_in_python(core, tensor, op, node, flags, inputs);
    }
    /* Objects are made before rows are counted: to make one may run the garbage collector, and with it anything. */
    seen = new_reference(the_Seen, tensor, core->entomb);
    if (seen == NULL) {
        goto failed;
    }
    if (asked.known == NULL && (reference = new_reference(the_SeenStorage, asked.storage, core->entomb)) == NULL) {
        goto failed;
    }
    set_slot(seen, Seen_row, SLOT(core->tape, Tape_tensor_count));
    if (reference != NULL) {
        if (note_storage(core, reference, &asked, op, flags, seen) < 0) {
            goto failed;
        }
        place = SLOT(reference, SeenStorage_row);
    }
    else {
        place = SLOT(asked.known, SeenStorage_row);
        flags |= asked.is_view ? VIEW : 0;
    }
    Py_INCREF(place);
    if (note_tensor(core, seen, tensor, &asked, place, op, node, flags, inputs) < 0) {
        goto failed;
    }
    goto done;
failed:
    Py_CLEAR(seen);
done:
    Py_XDECREF(reference);
    Py_XDECREF(place);
    clear_asked(&asked);
    return seen;
}

static PyObject *
enter_in_python(
    Core *core, PyObject *tensor, PyObject *op, PyObject *since, int read_saved, long flags, PyObject *inputs)
{
    PyObject *number = PyLong_FromLong(flags);
    if (number == NULL) {
        return NULL;
    }
    PyObject *arguments[] = {core->states, tensor, op, since, read_saved ? Py_True : Py_False, number, inputs};
    PyObject *seen = PyObject_Vectorcall(the_python_enter, arguments, 7, NULL);
    Py_DECREF(number);
    return seen;
}

PyObject *
enter_tensor(Core *core, PyObject *tensor, PyObject *op, PyObject *since, int read_saved, long flags, PyObject *inputs)
{
    if (Py_TYPE(tensor) != (PyTypeObject *)the_Tensor) {
        return enter_in_python(core, tensor, op, since, read_saved, flags, inputs);
    }
    PyObject *requires_grad = ask_of(&ask_requires_grad, tensor), *grad_fn = NULL;
    if (requires_grad == Py_False) {
        Py_DECREF(requires_grad);
        PyObject *seen = add_tensor(core, tensor, op, NONE_ROW, flags | LEAF, inputs);
        if (seen == NULL || Py_TYPE(seen) != (PyTypeObject *)the_Seen || flags & EXTERNAL ||
            PyLong_AsLong(SLOT(seen, Seen_storage)) != NONE) {
            return seen;
        }
        static PyObject *name;
        if (name == NULL && (name = PyUnicode_InternFromString("_enter_inside")) == NULL) {
            return NULL;
        }
        PyObject *arguments[] = {core->states, tensor, op, since, read_saved ? Py_True : Py_False};
        PyObject *inside = PyObject_VectorcallMethod(name, arguments, 5, NULL);
        if (inside == NULL) {
            Py_DECREF(seen);
            return NULL;
        }
        Py_DECREF(inside);
        return seen;
    }
    if (requires_grad == Py_True) {
        grad_fn = ask_of(&ask_grad_fn, tensor);
    }
    Py_XDECREF(requires_grad);
    if (grad_fn == NULL) {
        if (PyErr_Occurred() && !handed_over()) {
            return NULL;
        }
        return enter_in_python(core, tensor, op, since, read_saved, flags, inputs);
    }
    if (grad_fn == Py_None) {
        Py_DECREF(grad_fn);
        return add_tensor(core, tensor, op, NONE_ROW, flags | LEAF | REQUIRES_GRAD, inputs);
    }
    PyObject *node = enter_node(core, grad_fn, op, since, read_saved, NONE_ROW, inputs);
    Py_DECREF(grad_fn);
    if (node == NULL) {
        return NULL;
    }
    PyObject *seen = add_tensor(core, tensor, op, node, flags | REQUIRES_GRAD, inputs);
    Py_DECREF(node);
    return seen;
}
