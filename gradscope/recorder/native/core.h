/* What the files of the native core share.
 *
 * The core does what the Python of recorder/calls and recorder/state does for the usual call, on the very objects that
 * the Python works on: it reads and writes their slots. Whatever is unusual it leaves to that Python, before it has
 * changed anything. No code of Python's runs in between, so neither does a signal handler.
 */
#ifndef GRADSCOPE_CORE_H
#define GRADSCOPE_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <frameobject.h>
#include <stdint.h>

#ifdef Py_GIL_DISABLED
#error "relies on the lock of the interpreter; the Python is used instead"
/* whole.c */
Outcome whole_step(
    Core *core, PyObject *text, PyObject *versions, PyObject *states, PyObject *thread, PyObject *frame);
Outcome whole_cleared(Core *core, PyObject *text, PyObject *held, PyObject *thread, PyObject *frame);

#endif

#define INTERFACE 7 /* to be raised with every change of what the Python side gives or takes; see calls/core.py */

#define SLOT(object, offset) (*(PyObject **)((char *)(object) + (offset)))

/* What is set up once: each is given by name, from calls/core.py. */
#define OBJECTS(X)                                                                                                     \
    X(Tensor) X(Parameter) X(Seen) X(SeenStorage) X(Tape) X(Identity) X(GraphNodes) X(Observer) X(Site) X(Function)    \
    X(CallPlace) X(RecorderMode) X(boring) X(handle_code) X(module_calls) X(sets_mode) X(owner_user)                   \
    X(owner_torch) X(owner_library) X(python_handle) X(python_enter) X(python_add) X(python_bury) X(python_nodes)      \
    X(tensors_in) X(is_programs) X(share_warnings) X(is_copied_on_write) X(saves_without_hooks) X(innermost_saved_hooks)  \
    X(RunningPass) X(GradientLooks) X(strided) X(grad_of) X(version_of) X(written_version_of)

#define SLOTS(X)                                                                                                       \
    X(Seen, row) X(Seen, storage) X(Seen, layout) X(Seen, node) X(Seen, nbytes) X(Seen, requires_grad)                 \
    X(Seen, first_version) X(Seen, key)                                                                                \
    X(SeenStorage, row) X(SeenStorage, nbytes) X(SeenStorage, first) X(SeenStorage, key)                               \
    X(Tape, op_count) X(Tape, tensor_count) X(Tape, storage_count) X(Tape, node_count) X(Tape, flush_at)               \
    X(Tape, on_flush)                                                                                                  \
    X(Identity, leaves) X(Identity, alike_tensors) X(Identity, alike_storages) X(Identity, has_unsure)                                         \
    X(GraphNodes, begun) X(GraphNodes, first) X(GraphNodes, by_sequence) X(GraphNodes, older) X(GraphNodes, accumulators)                   \
    X(GraphNodes, foreign)                                                                                             \
    X(Observer, muted) X(Observer, full) X(Observer, lock) X(Observer, thread) X(Observer, values)                     \
    X(Site, span) X(Site, inner) X(Site, seen) X(Site, meets_unseen)                                                   \
    X(Function, code) X(Function, asked_by) X(Function, parameters) X(Function, text) X(Function, kind)                \
    X(Function, mutates) X(Function, ignored) X(Function, uncounted) X(Function, shares)                               \
    X(CallPlace, call) X(CallPlace, site) X(CallPlace, is_recorder) X(CallPlace, is_mode)                              \
    X(GradientLooks, passes) X(RunningPass, beside) X(RunningPass, is_beside_any)                                      \
    X(RecorderMode, core) X(RecorderMode, thread) X(RecorderMode, muted)

#define NUMBERS(X)                                                                                                     \
    X(REQUIRES_GRAD) X(LEAF) X(EXTERNAL) X(VIEW) X(VERSION_FIELD) X(GRAD) X(INFERENCE) X(AUTOCAST) X(BELOW)            \
    X(FULL_MATCHES) X(CALL) X(READ_GRAD) X(EXPORT) X(GRADIENT) X(CREATED)                                          \
    X(ACCUMULATED) X(UNTOUCHED) X(MISSING) X(BACKWARD) X(STEP) X(GROUP) X(GRAD_FIELD) X(FIRST_PASSES) X(IN_A_ROW) X(FIRST_OF_KIND)

#define DECLARE(name) extern PyObject *the_##name;
OBJECTS(DECLARE)
#undef DECLARE
#define DECLARE(kind, name) extern Py_ssize_t kind##_##name;
SLOTS(DECLARE)
#undef DECLARE
#define DECLARE(name) extern long name;
NUMBERS(DECLARE)
#undef DECLARE

extern PyObject *NO_ARGUMENTS, *NONE_ROW, *ZERO, *ONE;

#define NO_SEQUENCE (1ULL << 63)
#define NONE (-1L)

/* Something that torch is asked for: a function, a method or an attribute that is written in C. */
typedef struct {
    PyObject *callable; /* what is called where it cannot be called directly */
    PyObject *self;     /* of a function */
    PyCFunction plain;
    PyCFunctionWithKeywords with_keywords;
    getter get;
    void *closure;
} Ask;

#define ASKS(X)                                                                                                        \
    X(requires_grad) X(grad_fn) X(untyped_storage) X(shape) X(stride) X(dtype) X(device) X(version) X(is_view)         \
    X(storage_nbytes) X(storage_data_ptr) X(is_leaf) X(retains_grad) X(grad) \
    X(base) X(storage_offset) X(nbytes) X(tensor_layout) X(is_nested) X(dim)                                                                          \
    X(numel) X(is_cpu) X(item) X(profiler) X(functorch)                                                               \
    X(is_grad_enabled) X(is_inference_mode) X(is_any_autocast) X(tracing_state) X(sequence_number) X(dispatch_modes)
#define DECLARE(name) extern Ask ask_##name;
ASKS(DECLARE)
#undef DECLARE

int prepare_ask(Ask *ask, PyObject *callable); /* one that is prepared again lets go of what it had */
PyObject *ask_of(Ask *ask, PyObject *object); /* a method without arguments, or an attribute */
PyObject *ask_for(Ask *ask);                  /* a function without arguments */
int saved_hooks_in_force(void);
int handed_over(void); /* whether the error that is set is one that Python may meet again; it is forgotten then */

/* The core of one recording. */
#define PLACES 512
#define OWNERS 512
#define LAYOUTS 256
typedef struct {
    PyObject *code; /* kept by the recording's table of owners */
    int lasti;
    PyObject *place;
} KnownPlace;
typedef struct {
    PyObject *code;
    PyObject *owner;
} KnownOwner;
typedef struct {
    PyObject *shape, *stride, *device;
    PyObject *dtype, *layout; /* kept by torch, and by the table of layouts */
} KnownLayout;
/* A type of nodes that torch has in C, with what its nodes are asked. */
#define NODE_TYPES 128
#define SAVED_ASKS 6
typedef struct {
    PyTypeObject *type;    /* kept by the table of types, as is */
    PyObject *description; /* what that knows of it */
    Ask sequence, edges, saved[SAVED_ASKS];
    Py_ssize_t saved_count;
} KnownNodeType;
typedef struct {
    PyObject_HEAD
    PyObject *observer, *observer_names, *states, *tape, *identity, *graph, *many;
    PyObject *functions, *places, *sites, *owners;
    PyObject *tensors, *storages, *dead, *entomb, *layouts;
    PyObject *ops, *tensor_rows, *storage_rows, *uses, *results, *changes, *tensor_deaths, *storage_deaths;
    PyObject *node_rows, *edge_rows, *saved_rows, *gradient_rows, *alias_rows, *of_threads, *types, *hooked;
    PyObject *passes, *looks, *kinds, *running, *foreign, *backward_rows;
    int is_asked_more;
    KnownPlace known_places[PLACES];
    KnownOwner known_owners[OWNERS];
    KnownLayout known_layouts[LAYOUTS];
    KnownNodeType known_node_types[NODE_TYPES];
} Core;

#define HELD(X)                                                                                                        \
    X(observer) X(observer_names) X(states) X(tape) X(identity) X(graph) X(many) X(functions) X(places) X(sites) X(owners)     \
    X(tensors) X(storages) X(dead) X(entomb) X(layouts) X(ops) X(tensor_rows) X(storage_rows) X(uses) X(results)       \
    X(changes) X(tensor_deaths) X(storage_deaths) X(node_rows) X(edge_rows) X(saved_rows) X(gradient_rows) X(alias_rows) X(of_threads) X(types)       \
    X(hooked) X(passes) X(looks) X(kinds) X(running) X(foreign) X(backward_rows)

extern PyTypeObject CoreType;
extern PyMethodDef handle_method;

/* rows.c */
int holds_none(PyObject *value);
int add_row(PyObject *rows, PyObject *const *values, Py_ssize_t width);
long long number_in(PyObject *object, Py_ssize_t offset);
int set_number(PyObject *object, Py_ssize_t offset, long long value);
void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value);
PyObject *id_of(void *object);
PyObject *known_by_id(PyObject *known, PyObject *object, int *failed); /* borrowed */

/* identity.c */
int bury(Core *core);
PyObject *add_tensor(Core *core, PyObject *tensor, PyObject *op, PyObject *node, long flags, PyObject *inputs);
int note_saved_storage(Core *core, PyObject *tensor, PyObject *op, PyObject **storage, PyObject **nbytes);
PyObject *enter_tensor(
    Core *core, PyObject *tensor, PyObject *op, PyObject *since, int read_saved, long flags, PyObject *inputs);

/* references.c */
void keep_uncounted(PyTypeObject *type);

/* nodes.c */
void forget_node_types(Core *core);
PyObject *enter_node(
    Core *core, PyObject *root, PyObject *op, PyObject *since, int read_saved, PyObject *known, PyObject *inputs);

/* many.c: see the methods of ManyTensors that are named so */
PyObject *many_versions(Core *core, PyObject *tensors);
PyObject *many_updated(Core *core, PyObject *versions);
PyObject *many_held(Core *core, PyObject *parameters);
PyObject *many_cleared(Core *core, PyObject *held);
PyObject *many_before(Core *core, PyObject *rows);
PyObject *many_after(Core *core, PyObject *rows, PyObject *before, PyObject *op, int raised);
PyObject *many_note_changes(Core *core, PyObject *op, PyObject *field, PyObject *changes, PyObject *enter);
PyObject *many_enter_new(Core *core, PyObject *states, PyObject *op);

/* columns.c */
PyObject *packed_column(PyObject *module, PyObject *args);
PyObject *set_pairs(PyObject *module, PyObject *args);

/* places.c */
PyObject *place_of(Core *core, PyFrameObject *frame, PyCodeObject *code); /* borrowed; NULL where none is known (an error may be set) */
PyObject *site_around(Core *core, PyFrameObject *frame, int walks); /* borrowed; NULL where Python must look */
PyObject *user_site(Core *core, PyFrameObject *frame, PyFrameObject **user); /* borrowed; NULL where Python must look */

/* passes.c */
typedef struct {
    PyObject *seen, *node;     /* of the tensor that it starts from */
    PyObject *retain, *create; /* borrowed: True or False */
    PyObject *running;         /* among the passes in flight; NULL: it is not begun */
    PyObject *before;          /* what ManyTensors.before gave of the leaves */
} Pass;
int begin_pass(Core *core, PyObject *args, PyObject *kwargs, PyObject *thread, Pass *pass);
int finish_pass(Core *core, Pass *pass, PyObject *op, PyObject *result, PyObject *span);
PyObject *pass_for_python(Core *core, Pass *pass);
void clear_pass(Pass *pass);

/* observing.c */
typedef enum { FAILED = -1, DONE = 0, LEFT = 1 } Outcome;
long modes_in_force(void); /* -1 where Python must look (an error may be set) */
Outcome observe(
    Core *core, PyObject *info, PyObject *site, long below, PyObject *args, PyObject *kwargs, PyObject *result,
    PyObject *before, Pass *pass, PyObject *since, PyObject *thread);
PyObject *versions_before(PyObject *args, PyObject *kwargs); /* NULL where Python must look */

/* whole.c */
Outcome whole_step(
    Core *core, PyObject *text, PyObject *versions, PyObject *states, PyObject *thread, PyObject *frame);
Outcome whole_cleared(Core *core, PyObject *text, PyObject *held, PyObject *thread, PyObject *frame);

#endif
