/* Nodes of autograd's graph: see recorder/state/graph_nodes.py, whose rules these are. */
#include "core.h"

static PyObject *sequence_name, *next_name, *variable_name, *append_name, *describe_name, *accumulator_name;
static PyObject *read_by_function_name, *note_saved_name, *add_name, *without_name, *older_row_name;

static int
have_names(void)
{
    static const struct {
        PyObject **name;
        const char *text;
    } names[] = {
        {&sequence_name, "_sequence_nr"},   {&next_name, "next_functions"},   {&variable_name, "variable"},
        {&append_name, "append"},           {&describe_name, "_describe"},    {&accumulator_name, "_accumulator"},
        {&note_saved_name, "_note_saved"},
        {&add_name, "add"},                 {&without_name, "_without_number"},    {&older_row_name, "_older_row"},
        {&read_by_function_name, "_read_saved"},
    };
    if (read_by_function_name != NULL) {
        return 0;
    }
    for (size_t place = 0; place < sizeof(names) / sizeof(names[0]); place++) {
        if ((*names[place].name = PyUnicode_InternFromString(names[place].text)) == NULL) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
call_graph(Core *core, PyObject *name, PyObject *first, PyObject *second, PyObject *third, PyObject *fourth)
{
    PyObject *arguments[] = {core->graph, first, second, third, fourth};
    size_t count = 1;
    while (count < 5 && arguments[count] != NULL) {
        count++;
    }
    return PyObject_VectorcallMethod(name, arguments, count, NULL);
}

static int
prepare_attribute(Ask *ask, PyTypeObject *type, PyObject *name)
{
    PyObject *attribute = PyObject_GetAttr((PyObject *)type, name);
    int failed = attribute == NULL || prepare_ask(ask, attribute) < 0;
    Py_XDECREF(attribute);
    return failed ? -1 : 0;
}

/* Enter a type that the table of types has: one of torch's own, whose attributes are in C. */
static int
learn_node_type(KnownNodeType *known, PyTypeObject *type, PyObject *description)
{
    known->type = NULL;
    PyObject *attributes = PyTuple_GET_ITEM(description, 1);
    Py_ssize_t count = PyTuple_CheckExact(attributes) ? PyTuple_GET_SIZE(attributes) : 0;
    known->saved_count = count < SAVED_ASKS ? count : SAVED_ASKS;
    if (prepare_attribute(&known->sequence, type, sequence_name) < 0 ||
        prepare_attribute(&known->edges, type, next_name) < 0) {
        return -1;
    }
    for (Py_ssize_t place = 0; place < known->saved_count; place++) {
        PyObject *name = PyTuple_GET_ITEM(PyTuple_GET_ITEM(attributes, place), 0);
        if (prepare_attribute(&known->saved[place], type, name) < 0) {
            return -1;
        }
    }
    if (known->edges.get == NULL) {
        return -1;
    }
    known->type = type;
    known->description = description;
    return 0;
}

/* NULL for one that is not known, or that is a Function's: it is asked as Python asks. */
static KnownNodeType *
known_type(Core *core, PyObject *node)
{
    PyTypeObject *type = Py_TYPE(node);
    KnownNodeType *known = &core->known_node_types[((size_t)type >> 4) % NODE_TYPES];
    if (known->type == type) {
        return known;
    }
    PyObject *description = PyDict_GetItemWithError(core->types, (PyObject *)type);
    if (description == NULL || learn_node_type(known, type, description) < 0) {
        PyErr_Clear();
        return NULL;
    }
    return known;
}

void
forget_node_types(Core *core)
{
    for (int at = 0; at < NODE_TYPES; at++) {
        KnownNodeType *known = &core->known_node_types[at];
        known->type = NULL;
        Py_CLEAR(known->sequence.callable);
        Py_CLEAR(known->edges.callable);
        for (int place = 0; place < SAVED_ASKS; place++) {
            Py_CLEAR(known->saved[place].callable);
        }
    }
}

/* Fails with -1 and an error set; else 0. */
static int
sequence_of(Core *core, PyObject *node, unsigned long long *sequence)
{
    KnownNodeType *known = known_type(core, node);
    PyObject *number = known == NULL ? PyObject_CallMethodNoArgs(node, sequence_name) : ask_of(&known->sequence, node);
    if (number == NULL) {
        return -1;
    }
    *sequence = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    return *sequence == (unsigned long long)-1 && PyErr_Occurred() ? -1 : 0;
}

/* A new reference to the row of a node by its number, NULL without an error where it is not known. */
static PyObject *
row_by_number(Core *core, unsigned long long sequence)
{
    PyObject *by_sequence = SLOT(core->graph, GraphNodes_by_sequence);
    long long first = number_in(core->graph, GraphNodes_first), position = (long long)sequence - first;
    if (first == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (position >= 0) {
        Py_ssize_t count = PySequence_Size(by_sequence);
        if (count < 0 || position >= count) {
            return NULL;
        }
        PyObject *row = PySequence_GetItem(by_sequence, (Py_ssize_t)position);
        if (row != NULL && PyLong_AsLong(row) == NONE) {
            Py_CLEAR(row);
        }
        return row;
    }
    PyObject *key = PyLong_FromUnsignedLongLong(sequence);
    PyObject *row = key == NULL ? NULL : PyDict_GetItemWithError(SLOT(core->graph, GraphNodes_older), key);
    Py_XINCREF(row);
    if (row == NULL && !PyErr_Occurred() && (long long)sequence >= number_in(core->graph, GraphNodes_begun)) {
        row = call_graph(core, older_row_name, key, NULL, NULL, NULL);
    }
    Py_XDECREF(key);
    if (row != NULL && PyLong_AsLong(row) == NONE) {
        Py_CLEAR(row);
    }
    return row;
}

/* Name of a node's type and the attributes in which it may keep tensors; a new reference. */
static PyObject *
description_of(Core *core, PyObject *node)
{
    KnownNodeType *known = known_type(core, node);
    if (known != NULL) {
        Py_INCREF(known->description);
        return known->description;
    }
    return call_graph(core, describe_name, node, NULL, NULL, NULL);
}

static int
append_to(PyObject *rows, PyObject *row)
{
    PyObject *done = PyObject_CallMethodOneArg(rows, append_name, row);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Know a new node by its number. */
static int
number_node(Core *core, PyObject *row, unsigned long long sequence)
{
    PyObject *by_sequence = SLOT(core->graph, GraphNodes_by_sequence);
    if (sequence >= NO_SEQUENCE) {
        PyObject *without = PyObject_GetAttr(core->graph, without_name);
        PyObject *done = without == NULL ? NULL : PyObject_CallMethodOneArg(without, add_name, row);
        Py_XDECREF(without);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    long long position = (long long)sequence - number_in(core->graph, GraphNodes_first);
    if (PyErr_Occurred()) {
        return -1;
    }
    if (position < 0) {
        PyObject *key = PyLong_FromUnsignedLongLong(sequence);
        int failed = key == NULL || PyDict_SetItem(SLOT(core->graph, GraphNodes_older), key, row) < 0;
        Py_XDECREF(key);
        return failed ? -1 : 0;
    }
    Py_ssize_t count = PySequence_Size(by_sequence);
    if (count < 0) {
        return -1;
    }
    if (position < count) {
        return PySequence_SetItem(by_sequence, (Py_ssize_t)position, row);
    }
    for (; count < position; count++) {
        if (append_to(by_sequence, NONE_ROW) < 0) {
            return -1;
        }
    }
    return append_to(by_sequence, row);
}

/* A new reference to the row that a node gets. */
static PyObject *
new_node(Core *core, PyObject *node, unsigned long long sequence, PyObject *op)
{
    PyObject *description = description_of(core, node);
    if (description == NULL) {
        return NULL;
    }
    PyObject *row = SLOT(core->tape, Tape_node_count);
    Py_INCREF(row);
    PyObject *values[] = {op, PyTuple_GET_ITEM(description, 0), NONE_ROW};
    long long next = PyLong_AsLongLong(row);
    int failed = (next == -1 && PyErr_Occurred()) || add_row(core->node_rows, values, 3) < 0 ||
                 set_number(core->tape, Tape_node_count, next + 1) < 0 || number_node(core, row, sequence) < 0;
    Py_DECREF(description);
    if (failed) {
        Py_CLEAR(row);
    }
    return row;
}

static int
holds_no_tensor(PyObject *value)
{
    if (PyLong_CheckExact(value) || PyFloat_CheckExact(value) || PyBool_Check(value) || PyUnicode_CheckExact(value)) {
        return 1;
    }
    if (!PyTuple_CheckExact(value)) {
        return 0;
    }
    for (Py_ssize_t place = 0; place < PyTuple_GET_SIZE(value); place++) {
        PyObject *item = PyTuple_GET_ITEM(value, place);
        if (!PyLong_CheckExact(item) && !PyBool_Check(item)) {
            return 0;
        }
    }
    return 1;
}

static int
note_all_saved(Core *core, PyObject *row, PyObject *text, PyObject *values, PyObject *op);

static int
note_saved(Core *core, PyObject *row, PyObject *text, PyObject *value, PyObject *op)
{
    int failed;
    PyObject *seen = known_by_id(core->tensors, value, &failed);
    if (failed) {
        return -1;
    }
    if (seen != NULL) {
        PyObject *values[] = {row, text, SLOT(seen, Seen_storage), SLOT(seen, Seen_row), SLOT(seen, Seen_nbytes)};
        return add_row(core->saved_rows, values, 5);
    }
    if (value == Py_None || holds_no_tensor(value)) {
        return 0;
    }
    if (PyTuple_CheckExact(value)) {
        return note_all_saved(core, row, text, value, op);
    }
    PyObject *storage, *nbytes;
    int known = note_saved_storage(core, value, op, &storage, &nbytes);
    if (known) {
        PyObject *values[] = {row, text, storage, NONE_ROW, nbytes};
        failed = known < 0 || add_row(core->saved_rows, values, 5) < 0;
        Py_XDECREF(storage);
        Py_XDECREF(nbytes);
        return failed ? -1 : 0;
    }
    PyObject *noted = call_graph(core, note_saved_name, row, text, value, op);
    Py_XDECREF(noted);
    return noted == NULL ? -1 : 0;
}

static int
note_all_saved(Core *core, PyObject *row, PyObject *text, PyObject *values, PyObject *op)
{
    int failed = 0;
    for (Py_ssize_t place = 0; !failed && place < PyTuple_GET_SIZE(values); place++) {
        failed = note_saved(core, row, text, PyTuple_GET_ITEM(values, place), op) < 0;
    }
    return failed ? -1 : 0;
}

static int
read_saved_of(Core *core, PyObject *node, PyObject *row, PyObject *op)
{
    PyObject *description = description_of(core, node);
    if (description == NULL) {
        return -1;
    }
    PyObject *attributes = PyTuple_GET_ITEM(description, 1);
    int failed = 0;
    if (attributes == Py_None) { /* a Function of the user's */
        PyObject *done = call_graph(core, read_by_function_name, node, row, op, NULL);
        failed = done == NULL;
        Py_XDECREF(done);
    }
    else {
        for (Py_ssize_t place = 0; !failed && place < PyTuple_GET_SIZE(attributes); place++) {
            PyObject *attribute = PyTuple_GET_ITEM(attributes, place);
            KnownNodeType *known = known_type(core, node); /* (asked anew: Python may run in between) */
            PyObject *value = known != NULL && place < known->saved_count
                                  ? ask_of(&known->saved[place], node)
                                  : PyObject_GetAttr(node, PyTuple_GET_ITEM(attribute, 0));
            if (value == NULL) {
                failed = !PyErr_ExceptionMatches(PyExc_RuntimeError);
                if (!failed) { /* freed already */
                    PyErr_Clear();
                }
                break;
            }
            failed = note_saved(core, row, PyTuple_GET_ITEM(attribute, 1), value, op) < 0;
            Py_DECREF(value);
        }
    }
    Py_DECREF(description);
    return failed ? -1 : 0;
}

/* Row of an AccumulateGrad by its leaf, or of another node without a number; NULL without an error: it is not known. */
static PyObject *
row_without_number(Core *core, PyObject *node, PyObject *op)
{
    int failed = 0;
    PyObject *variable = PyObject_GetAttr(node, variable_name), *row = NULL;
    if (variable == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
            return NULL;
        }
        PyErr_Clear();
    }
    else {
        PyObject *seen = known_by_id(core->tensors, variable, &failed);
        if (seen != NULL) {
            row = PyDict_GetItemWithError(SLOT(core->graph, GraphNodes_accumulators), SLOT(seen, Seen_row));
            Py_XINCREF(row);
            failed = row == NULL && PyErr_Occurred() != NULL;
        }
        Py_DECREF(variable);
    }
    if (row != NULL || failed) {
        return row;
    }
    row = call_graph(core, accumulator_name, node, op, NULL, NULL);
    if (row != NULL && PyLong_AsLong(row) == NONE) {
        Py_CLEAR(row);
    }
    return row;
}

/* One of those that were met in this walk and have neither number nor tensor; a new reference. */
static PyObject *
met_before(PyObject *unnumbered, PyObject *node)
{
    for (Py_ssize_t place = 0; place + 1 < PyList_GET_SIZE(unnumbered); place += 2) {
        if (PyList_GET_ITEM(unnumbered, place) == node) {
            PyObject *row = PyList_GET_ITEM(unnumbered, place + 1);
            Py_INCREF(row);
            return row;
        }
    }
    return NULL;
}

static int
put(PyObject *list, PyObject *node, PyObject *row)
{
    return PyList_Append(list, node) < 0 || PyList_Append(list, row) < 0 ? -1 : 0;
}

/* Enter an edge, and the node that it leads to where it is new: that one is to be looked at next. */
static int
enter_edge(Core *core, PyObject *row, PyObject *following, PyObject *op, PyObject *todo, PyObject *unnumbered)
{
    PyObject *target = NULL;
    int failed = 0;
    if (following == Py_None) {
        PyObject *values[] = {row, NONE_ROW};
        return add_row(core->edge_rows, values, 2);
    }
    unsigned long long number;
    if (sequence_of(core, following, &number) < 0) {
        return -1;
    }
    target = number >= NO_SEQUENCE ? row_without_number(core, following, op) : row_by_number(core, number);
    if (target == NULL && PyErr_Occurred()) {
        return -1;
    }
    if (target == NULL && number >= NO_SEQUENCE) { /* no tensor has it: edges of this graph lead to it */
        target = met_before(unnumbered, following);
    }
    if (target == NULL) {
        target = new_node(core, following, number, op);
        failed = target == NULL || put(todo, following, target) < 0 ||
                 (number >= NO_SEQUENCE && put(unnumbered, following, target) < 0);
    }
    if (!failed) {
        PyObject *values[] = {row, target};
        failed = add_row(core->edge_rows, values, 2) < 0;
    }
    Py_XDECREF(target);
    return failed ? -1 : 0;
}

static int
enter_edges(Core *core, PyObject *node, PyObject *row, PyObject *op, PyObject *todo, PyObject *unnumbered)
{
    KnownNodeType *known = known_type(core, node);
    PyObject *edges = known == NULL ? PyObject_GetAttr(node, next_name) : ask_of(&known->edges, node);
    if (edges == NULL) {
        return -1;
    }
    int failed = !PyTuple_Check(edges);
    if (failed) {
        PyErr_SetString(PyExc_TypeError, "the edges of a node are no tuple");
    }
    for (Py_ssize_t place = 0; !failed && place < PyTuple_GET_SIZE(edges); place++) {
        PyObject *edge = PyTuple_GET_ITEM(edges, place);
        failed = enter_edge(core, row, PyTuple_GET_ITEM(edge, 0), op, todo, unnumbered) < 0;
    }
    Py_DECREF(edges);
    return failed ? -1 : 0;
}

/* What is read of what a node saved: nothing, that of every node from a number on. */
typedef struct {
    int reads;
    unsigned long long from;
} Readable;

static int
may_be_read(Core *core, PyObject *node, unsigned long long sequence, Readable readable)
{
    if (!readable.reads) {
        return 0;
    }
    if (sequence >= readable.from) {
        return 1;
    }
    long long first = number_in(core->graph, GraphNodes_begun);
    if (first == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (sequence >= NO_SEQUENCE || (long long)sequence < first) {
        return 0;
    }
    PyObject *without = PyObject_CallOneArg(the_saves_without_hooks, node);
    int found = without == NULL ? -1 : PyObject_IsTrue(without);
    Py_XDECREF(without);
    return found;
}

/* Enter the edges of a new node and what it saved, and so on for every new node that it leads to. */
static int
complete(Core *core, PyObject *node, unsigned long long sequence, PyObject *row, PyObject *op, Readable readable)
{
    PyObject *todo = PyList_New(0), *unnumbered = PyList_New(0);
    int failed = todo == NULL || unnumbered == NULL;
    Py_INCREF(node);
    Py_INCREF(row);
    while (!failed) {
        failed = enter_edges(core, node, row, op, todo, unnumbered) < 0;
        if (!failed) {
            int reads = may_be_read(core, node, sequence, readable);
            failed = reads < 0 || (reads && read_saved_of(core, node, row, op) < 0);
        }
        Py_ssize_t count = failed ? 0 : PyList_GET_SIZE(todo);
        if (!count) {
            break;
        }
        Py_DECREF(node);
        Py_DECREF(row);
        node = PyList_GET_ITEM(todo, count - 2);
        row = PyList_GET_ITEM(todo, count - 1);
        Py_INCREF(node);
        Py_INCREF(row);
        failed = PyList_SetSlice(todo, count - 2, count, NULL) < 0 || sequence_of(core, node, &sequence) < 0;
    }
    Py_DECREF(node);
    Py_DECREF(row);
    Py_XDECREF(todo);
    Py_XDECREF(unnumbered);
    return failed ? -1 : 0;
}

static int
is_left_to_python(Core *core, int read_saved)
{
    if (PyDict_GET_SIZE(core->of_threads) != 1 || SLOT(core->graph, GraphNodes_foreign) != Py_None) {
        return 1;
    }
    if (!read_saved) {
        return 0;
    }
    PyObject *modes = ask_for(&ask_dispatch_modes); /* the program's: one would see an output that is unpacked */
    int any = modes == NULL ? -1 : PyObject_IsTrue(modes);
    Py_XDECREF(modes);
    return any;
}

PyObject *
enter_node(
    Core *core, PyObject *root, PyObject *op, PyObject *since, int read_saved, PyObject *known, PyObject *inputs)
{
    unsigned long long sequence = 0;
    if (have_names() < 0) {
        return NULL;
    }
    int is_left = is_left_to_python(core, read_saved);
    if (is_left < 0 || (!is_left && sequence_of(core, root, &sequence) < 0)) {
        return NULL;
    }
    Readable readable = {read_saved, PyLong_AsUnsignedLongLong(since)};
    if (readable.from == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    if (is_left || sequence >= NO_SEQUENCE) {
        PyObject *arguments[] = {core->graph, root, op, since, read_saved ? Py_True : Py_False, known, inputs};
        return PyObject_Vectorcall(the_python_nodes, arguments, 7, NULL);
    }
    PyObject *row = row_by_number(core, sequence);
    if (row != NULL || PyErr_Occurred()) {
        return row;
    }
    row = new_node(core, root, sequence, op);
    if (row != NULL && complete(core, root, sequence, row, op, readable) < 0) {
        Py_CLEAR(row);
    }
    return row;
}
