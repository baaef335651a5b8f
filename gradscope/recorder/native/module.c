/* The module: what it is set up with, and the core of one recording. */
#include "core.h"

#include <structmember.h>

#define DEFINE(name) PyObject *the_##name;
OBJECTS(DEFINE)
#undef DEFINE
#define DEFINE(kind, name) Py_ssize_t kind##_##name;
SLOTS(DEFINE)
#undef DEFINE
#define DEFINE(name) long name;
NUMBERS(DEFINE)
#undef DEFINE
#define DEFINE(name) Ask ask_##name;
ASKS(DEFINE)
#undef DEFINE

PyObject *NO_ARGUMENTS, *NONE_ROW, *ZERO, *ONE;
static int is_set_up;

static PyObject *
given(PyObject *things, const char *name)
{
    PyObject *thing = PyDict_GetItemString(things, name);
    if (thing == NULL) {
        PyErr_Format(PyExc_KeyError, "%s was not given", name);
    }
    return thing;
}

/* Where a slot of a class lies in its objects; private ones are named with an underscore. */
static int
find_slot(PyObject *kind, const char *name, Py_ssize_t *offset)
{
    PyObject *slot = PyObject_GetAttrString(kind, name);
    if (slot == NULL) {
        PyErr_Clear();
        PyObject *private = PyUnicode_FromFormat("_%s", name);
        slot = private == NULL ? NULL : PyObject_GetAttr(kind, private);
        Py_XDECREF(private);
        if (slot == NULL) {
            return -1;
        }
    }
    int is_slot = Py_IS_TYPE(slot, &PyMemberDescr_Type) && PyType_Check(kind);
    if (is_slot) {
        PyMemberDef *member = ((PyMemberDescrObject *)slot)->d_member;
        is_slot = member->type == T_OBJECT_EX; /* as in __slots__ */
        *offset = member->offset;
    }
    Py_DECREF(slot);
    if (!is_slot) {
        PyErr_Format(PyExc_TypeError, "%s of %R is no slot", name, kind);
        return -1;
    }
    return 0;
}

static int
set_up_all(PyObject *things)
{
    PyObject *thing;
#define SET_UP(name)                                                                                                   \
    if ((thing = given(things, #name)) == NULL) {                                                                      \
        return -1;                                                                                                     \
    }                                                                                                                  \
    Py_INCREF(thing);                                                                                                  \
    Py_XSETREF(the_##name, thing);
    OBJECTS(SET_UP)
#undef SET_UP
#define SET_UP(kind, name)                                                                                             \
    if (find_slot(the_##kind, #name, &kind##_##name) < 0) {                                                            \
        return -1;                                                                                                     \
    }
    SLOTS(SET_UP)
#undef SET_UP
#define SET_UP(name)                                                                                                   \
    if ((thing = given(things, #name)) == NULL) {                                                                      \
        return -1;                                                                                                     \
    }                                                                                                                  \
    name = PyLong_AsLong(thing);                                                                                       \
    if (name == -1 && PyErr_Occurred()) {                                                                              \
        return -1;                                                                                                     \
    }
    NUMBERS(SET_UP)
#undef SET_UP
#define SET_UP(name)                                                                                                   \
    if ((thing = given(things, "ask_" #name)) == NULL || prepare_ask(&ask_##name, thing) < 0) {                        \
        return -1;                                                                                                     \
    }
    ASKS(SET_UP)
#undef SET_UP
    return PyType_Check(the_Tensor) && PyAnySet_Check(the_boring) && PyAnySet_Check(the_module_calls) &&
                   PyAnySet_Check(the_sets_mode)
               ? 0
               : -1;
}

static PyObject *
set_up(PyObject *module, PyObject *things)
{
    (void)module;
    if (!PyDict_Check(things)) {
        PyErr_SetString(PyExc_TypeError, "takes a dict");
        return NULL;
    }
    is_set_up = 0;
    if (set_up_all(things) < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "something that was given is of another type");
        }
        return NULL;
    }
    keep_uncounted((PyTypeObject *)the_Seen);
    keep_uncounted((PyTypeObject *)the_SeenStorage);
    is_set_up = 1;
    return PyDescr_NewMethod((PyTypeObject *)the_RecorderMode, &handle_method);
}

static int
core_traverse(Core *core, visitproc visit, void *arg)
{
#define VISIT(name) Py_VISIT(core->name);
    HELD(VISIT)
#undef VISIT
    for (int at = 0; at < PLACES; at++) {
        Py_VISIT(core->known_places[at].place);
    }
    return 0;
}

static int
core_clear(Core *core)
{
#define CLEAR(name) Py_CLEAR(core->name);
    HELD(CLEAR)
#undef CLEAR
    for (int at = 0; at < PLACES; at++) {
        core->known_places[at].code = NULL;
        Py_CLEAR(core->known_places[at].place);
    }
    forget_node_types(core);
    for (int at = 0; at < LAYOUTS; at++) {
        core->known_layouts[at].layout = NULL;
        Py_CLEAR(core->known_layouts[at].shape);
        Py_CLEAR(core->known_layouts[at].stride);
        Py_CLEAR(core->known_layouts[at].device);
    }
    return 0;
}

static void
core_dealloc(Core *core)
{
    PyObject_GC_UnTrack(core);
    core_clear(core);
    Py_TYPE(core)->tp_free((PyObject *)core);
}

static int
hold(PyObject *object, const char *name, PyObject **held, PyTypeObject *kind)
{
    *held = PyObject_GetAttrString(object, name);
    if (*held != NULL && kind != NULL && !Py_IS_TYPE(*held, kind)) {
        PyErr_Format(PyExc_TypeError, "%s is of another type", name);
        return -1;
    }
    return *held == NULL ? -1 : 0;
}

static int
hold_rows(PyObject *pending, const char *name, PyObject **held)
{
    *held = PyDict_GetItemString(pending, name);
    if (*held == NULL || !PyList_CheckExact(*held)) {
        *held = NULL;
        PyErr_Format(PyExc_TypeError, "no pending rows of %s", name);
        return -1;
    }
    Py_INCREF(*held);
    return 0;
}

static int
is_a(PyObject *object, PyObject *kind)
{
    if (Py_TYPE(object) == (PyTypeObject *)kind) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "%R is no %R", object, kind);
    return 0;
}

static int
hold_all(Core *core, PyObject *observer)
{
    PyObject *pending = NULL, *sites = NULL, *owners = NULL, *asked = NULL, *in_flight = NULL;
    Py_INCREF(observer);
    core->observer = observer;
    int failed =
        !is_a(observer, the_Observer) || hold(observer, "__dict__", &core->observer_names, &PyDict_Type) < 0 ||
        hold(observer, "states", &core->states, NULL) < 0 || hold(observer, "tape", &core->tape, NULL) < 0 ||
        hold(observer, "identity", &core->identity, NULL) < 0 || hold(core->states, "graph", &core->graph, NULL) < 0 ||
        hold(observer, "many", &core->many, NULL) < 0 ||
        hold(observer, "functions", &core->functions, &PyDict_Type) < 0 || hold(observer, "sites", &sites, NULL) < 0 ||
        hold(sites, "places", &core->places, &PyDict_Type) < 0 ||
        hold(sites, "_sites", &core->sites, &PyDict_Type) < 0 || hold(sites, "owners", &owners, NULL) < 0 ||
        hold(owners, "known", &core->owners, &PyDict_Type) < 0 ||
        hold(observer, "_hooked", &core->hooked, &PySet_Type) < 0 ||
        hold(observer, "_is_asked_more", &asked, NULL) < 0 || !is_a(core->tape, the_Tape) ||
        !is_a(core->identity, the_Identity) || !is_a(core->graph, the_GraphNodes) ||
        hold(core->identity, "tensors", &core->tensors, &PyDict_Type) < 0 ||
        hold(core->identity, "storages", &core->storages, &PyDict_Type) < 0 ||
        hold(core->identity, "dead", &core->dead, &PyList_Type) < 0 ||
        hold(core->identity, "_entomb", &core->entomb, NULL) < 0 ||
        hold(core->identity, "_layouts", &core->layouts, &PyDict_Type) < 0 ||
        hold(core->tape, "tensor_deaths", &core->tensor_deaths, &PyList_Type) < 0 ||
        hold(core->tape, "storage_deaths", &core->storage_deaths, &PyList_Type) < 0 ||
        hold(observer, "passes", &core->passes, NULL) < 0 || hold(observer, "foreign", &core->foreign, NULL) < 0 ||
        hold(core->passes, "looks", &core->looks, NULL) < 0 || !is_a(core->looks, the_GradientLooks) ||
        hold(core->looks, "_kinds", &core->kinds, &PyDict_Type) < 0 ||
        hold(core->passes, "in_flight", &in_flight, NULL) < 0 ||
        hold(in_flight, "_running", &core->running, &PyList_Type) < 0 ||
        hold(core->graph, "_of_threads", &core->of_threads, &PyDict_Type) < 0 ||
        hold(core->graph, "_types", &core->types, &PyDict_Type) < 0 ||
        hold(core->tape, "pending", &pending, &PyDict_Type) < 0 || hold_rows(pending, "ops", &core->ops) < 0 ||
        hold_rows(pending, "tensors", &core->tensor_rows) < 0 ||
        hold_rows(pending, "storages", &core->storage_rows) < 0 || hold_rows(pending, "uses", &core->uses) < 0 ||
        hold_rows(pending, "results", &core->results) < 0 || hold_rows(pending, "changes", &core->changes) < 0 ||
        hold_rows(pending, "nodes", &core->node_rows) < 0 || hold_rows(pending, "edges", &core->edge_rows) < 0 ||
        hold_rows(pending, "saved", &core->saved_rows) < 0 ||
        hold_rows(pending, "gradients", &core->gradient_rows) < 0 ||
        hold_rows(pending, "backwards", &core->backward_rows) < 0 ||
        hold_rows(pending, "aliases", &core->alias_rows) < 0;
    if (!failed) {
        core->is_asked_more = PyObject_IsTrue(asked);
        failed = core->is_asked_more < 0;
    }
    Py_XDECREF(pending);
    Py_XDECREF(sites);
    Py_XDECREF(owners);
    Py_XDECREF(asked);
    Py_XDECREF(in_flight);
    return failed ? -1 : 0;
}

static PyObject *
core_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *observer;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "takes no arguments by name");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O", &observer)) {
        return NULL;
    }
    if (!is_set_up) {
        PyErr_SetString(PyExc_RuntimeError, "not set up");
        return NULL;
    }
    Core *core = (Core *)type->tp_alloc(type, 0);
    if (core != NULL && hold_all(core, observer) < 0) {
        Py_CLEAR(core);
    }
    return (PyObject *)core;
}

static int
enough(Py_ssize_t given, Py_ssize_t least, Py_ssize_t most)
{
    if (given >= least && given <= most) {
        return 1;
    }
    PyErr_SetString(PyExc_TypeError, "another number of arguments is needed");
    return 0;
}

static PyObject *
core_bury(Core *core, PyObject *unused)
{
    (void)unused;
    if (bury(core) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
core_enter(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    if (!enough(count, 6, 6)) {
        return NULL;
    }
    int read_saved = PyObject_IsTrue(argv[3]);
    long flags = PyLong_AsLong(argv[4]);
    if (read_saved < 0 || (flags == -1 && PyErr_Occurred())) {
        return NULL;
    }
    return enter_tensor(core, argv[0], argv[1], argv[2], read_saved, flags, argv[5]);
}

static PyObject *
core_add(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    if (!enough(count, 5, 5)) {
        return NULL;
    }
    long flags = PyLong_AsLong(argv[3]);
    if (flags == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return add_tensor(core, argv[0], argv[1], argv[2], flags, argv[4]);
}

static PyObject *
core_enter_node(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    if (!enough(count, 4, 6)) {
        return NULL;
    }
    int read_saved = PyObject_IsTrue(argv[3]);
    if (read_saved < 0) {
        return NULL;
    }
    PyObject *known = count > 4 ? argv[4] : NONE_ROW, *inputs = count > 5 ? argv[5] : NO_ARGUMENTS;
    return enter_node(core, argv[0], argv[1], argv[2], read_saved, known, inputs);
}

static PyObject *
core_after(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    if (!enough(count, 4, 4)) {
        return NULL;
    }
    int raised = PyObject_IsTrue(argv[3]);
    return raised < 0 ? NULL : many_after(core, argv[0], argv[1], argv[2], raised);
}

static PyObject *
core_note_changes(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    return enough(count, 4, 4) ? many_note_changes(core, argv[0], argv[1], argv[2], argv[3]) : NULL;
}

static PyObject *
core_enter_new(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    return enough(count, 2, 2) ? many_enter_new(core, argv[0], argv[1]) : NULL;
}

static PyObject *
is_done(Outcome outcome)
{
    return outcome == FAILED ? NULL : PyBool_FromLong(outcome == DONE);
}

static PyObject *
core_step(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    return enough(count, 5, 5) ? is_done(whole_step(core, argv[0], argv[1], argv[2], argv[3], argv[4])) : NULL;
}

static PyObject *
core_zero_grad(Core *core, PyObject *const *argv, Py_ssize_t count)
{
    return enough(count, 4, 4) ? is_done(whole_cleared(core, argv[0], argv[1], argv[2], argv[3])) : NULL;
}

#define FAST(function) (PyCFunction)(void (*)(void))function
static PyMethodDef core_methods[] = {
    {"bury", (PyCFunction)core_bury, METH_NOARGS, "See Identity.bury."},
    {"add", FAST(core_add), METH_FASTCALL, "See Identity.add."},
    {"enter", FAST(core_enter), METH_FASTCALL, "See TensorStates.enter."},
    {"enter_node", FAST(core_enter_node), METH_FASTCALL, "See GraphNodes.enter."},
    {"versions", (PyCFunction)many_versions, METH_O, "See ManyTensors.versions."},
    {"updated", (PyCFunction)many_updated, METH_O, "See ManyTensors.updated."},
    {"held", (PyCFunction)many_held, METH_O, "See ManyTensors.held."},
    {"cleared", (PyCFunction)many_cleared, METH_O, "See ManyTensors.cleared."},
    {"before", (PyCFunction)many_before, METH_O, "See ManyTensors.before."},
    {"after", FAST(core_after), METH_FASTCALL, "See ManyTensors.after."},
    {"note_changes", FAST(core_note_changes), METH_FASTCALL, "See ManyTensors.note_changes."},
    {"enter_new", FAST(core_enter_new), METH_FASTCALL, "See ManyTensors.enter_new."},
    {"has_noted_step", FAST(core_step), METH_FASTCALL, "See WholeCalls.observe_step."},
    {"has_noted_cleared", FAST(core_zero_grad), METH_FASTCALL, "See WholeCalls.observe_cleared."},
    {NULL, NULL, 0, NULL},
};

PyTypeObject CoreType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "gradscope.recorder.native._core.Core",
    .tp_doc = "What records the usual calls of one recording, for an observer.",
    .tp_basicsize = sizeof(Core),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = core_new,
    .tp_dealloc = (destructor)core_dealloc,
    .tp_traverse = (traverseproc)core_traverse,
    .tp_clear = (inquiry)core_clear,
    .tp_methods = core_methods,
};

static PyMethodDef functions[] = {
    {"set_up", set_up, METH_O, "Take what is worked with; returns what is to be the mode's __torch_function__."},
    {"packed_column", packed_column, METH_VARARGS, "See Table.extend_flat."},
    {"set_pairs", set_pairs, METH_VARARGS, "See Tape.set_pairs."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The usual path of a call of a torch function, in C.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    NO_ARGUMENTS = PyTuple_New(0);
    NONE_ROW = PyLong_FromLong(NONE);
    ZERO = PyLong_FromLong(0);
    ONE = PyLong_FromLong(1);
    if (!NO_ARGUMENTS || !NONE_ROW || !ZERO || !ONE || PyType_Ready(&CoreType) < 0) {
        return NULL;
    }
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) {
        return NULL;
    }
    Py_INCREF(&CoreType);
    if (PyModule_AddObject(module, "Core", (PyObject *)&CoreType) < 0) {
        Py_DECREF(&CoreType);
        Py_DECREF(module);
        return NULL;
    }
    if (PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
