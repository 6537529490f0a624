/* The extension module: the type State, `setup`, and the addresses of the callbacks. */
#include "crossing.h"

#include <structmember.h>

Wasmtime wasmtime;
Helpers helpers;
PyObject *unfinished;

static PyObject *state_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    State *self = (State *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    PyObject **members[] = {&self->left,   &self->lowering, &self->waits,  &self->coroutine,
                            &self->wanted, &self->outcome,  &self->failure};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(members); i++)
        *members[i] = Py_NewRef(Py_None);
    self->may_leave = self->usable = 1;
    return (PyObject *)self;
}

/* An attribute that holds an address. NULL with an exception where it does not. */
static void *address_of(PyObject *owner, const char *name, PyObject **number)
{
    PyObject *found = PyObject_GetAttrString(owner, name);
    if (found == NULL)
        return NULL;
    void *address = PyLong_AsVoidPtr(found);
    if (address == NULL && !PyErr_Occurred())
        PyErr_Format(PyExc_ValueError, "%s is no address", name);
    if (address != NULL && number != NULL)
        Py_XSETREF(*number, Py_NewRef(found));
    Py_DECREF(found);
    return address;
}

static int take_arrays(Arrays *arrays, PyObject *owner)
{
    Py_XSETREF(arrays->owner, Py_NewRef(owner));
    arrays->args = address_of(owner, "args", &arrays->args_address);
    if (arrays->args == NULL)
        return -1;
    arrays->results = address_of(owner, "results", &arrays->results_address);
    if (arrays->results == NULL)
        return -1;
    arrays->out = address_of(owner, "trap", NULL);
    return arrays->out == NULL ? -1 : 0;
}

static int state_init(PyObject *object, PyObject *args, PyObject *keywords)
{
    State *self = (State *)object;
    static char *names[] = {"engine", "context", "begins", "arrays", "reallocation", NULL};
    PyObject *engine, *begins, *arrays, *reallocation;
    unsigned long long context;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "OKO!OO", names, &engine, &context, &PyTuple_Type, &begins,
                                     &arrays, &reallocation))
        return -1;
    if (wasmtime.call_async == NULL || context == 0) {
        PyErr_SetString(PyExc_RuntimeError, "the extension is not set up, or there is no store");
        return -1;
    }
    self->context = (void *)(uintptr_t)context;
    self->activity = address_of(engine, "activity_address", NULL);
    if (self->activity == NULL || take_arrays(&self->arrays, arrays) < 0 ||
        take_arrays(&self->reallocation, reallocation) < 0)
        return -1;
    PyObject *offered = PyDict_New();
    if (offered == NULL)
        return -1;
    Py_XSETREF(self->offered, offered);
    Py_XSETREF(self->engine, Py_NewRef(engine));
    Py_XSETREF(self->begins, Py_NewRef(begins));
    return 0;
}

static int state_traverse(PyObject *object, visitproc visit, void *arg)
{
    State *self = (State *)object;
    Py_VISIT(self->engine);
    Py_VISIT(self->begins);
    Py_VISIT(self->offered);
    Py_VISIT(self->left);
    Py_VISIT(self->lowering);
    Py_VISIT(self->waits);
    Py_VISIT(self->coroutine);
    Py_VISIT(self->wanted);
    Py_VISIT(self->outcome);
    Py_VISIT(self->failure);
    Py_VISIT(self->waiting);
    Py_VISIT(self->value);
    Py_VISIT(self->arrays.owner);
    Py_VISIT(self->reallocation.owner);
    return 0;
}

static int state_clear(PyObject *object)
{
    State *self = (State *)object;
    Py_CLEAR(self->begins);
    Py_CLEAR(self->offered);
    Py_CLEAR(self->left);
    Py_CLEAR(self->lowering);
    Py_CLEAR(self->waits);
    Py_CLEAR(self->coroutine);
    Py_CLEAR(self->wanted);
    Py_CLEAR(self->outcome);
    Py_CLEAR(self->failure);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->value);
    return 0;
}

static void state_dealloc(PyObject *object)
{
    State *self = (State *)object;
    PyObject_GC_UnTrack(object);
    state_clear(object);
    Py_CLEAR(self->engine);
    Py_CLEAR(self->arrays.owner);
    Py_CLEAR(self->arrays.args_address);
    Py_CLEAR(self->arrays.results_address);
    Py_CLEAR(self->reallocation.owner);
    Py_CLEAR(self->reallocation.args_address);
    Py_CLEAR(self->reallocation.results_address);
    Py_TYPE(object)->tp_free(object);
}

/* The coroutine is done and gave `value`; the guest goes on when it is polled. */
void state_resume(State *self, PyObject *value)
{
    Py_XSETREF(self->coroutine, Py_NewRef(Py_None));
    Py_XSETREF(self->wanted, Py_NewRef(Py_None));
    Py_XSETREF(self->value, Py_NewRef(value));
    self->answered = 1;
}

#define MEMBER(name, kind) {#name, kind, offsetof(State, name), 0, NULL}

static PyMemberDef state_members[] = {
    MEMBER(left, T_OBJECT_EX),      MEMBER(lowering, T_OBJECT_EX), MEMBER(waits, T_OBJECT_EX),
    MEMBER(coroutine, T_OBJECT_EX), MEMBER(wanted, T_OBJECT_EX),   MEMBER(outcome, T_OBJECT_EX),
    MEMBER(failure, T_OBJECT_EX),   MEMBER(depth, T_INT),          MEMBER(may_leave, T_BOOL),
    MEMBER(usable, T_BOOL),         MEMBER(busy, T_BOOL),          MEMBER(misfit, T_BOOL),
    {"engine", T_OBJECT_EX, offsetof(State, engine), READONLY, NULL},
    {"offered", T_OBJECT_EX, offsetof(State, offered), READONLY, NULL},
    {"context", T_ULONGLONG, offsetof(State, context), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef state_methods[] = {
    {"offer", state_offer, METH_VARARGS, NULL},
    {"driven", (PyCFunction)(void (*)(void))state_driven, METH_FASTCALL, NULL},
    {"poll", state_poll, METH_O, NULL},
    {"enter", (PyCFunction)(void (*)(void))state_enter, METH_FASTCALL, NULL},
    {"call_at_once", (PyCFunction)(void (*)(void))state_call_at_once, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

PyTypeObject StateType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "perdure.component._crossing.State",
    .tp_doc = "As reference.State.",
    .tp_basicsize = sizeof(State),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = state_new,
    .tp_init = state_init,
    .tp_dealloc = state_dealloc,
    .tp_traverse = state_traverse,
    .tp_clear = state_clear,
    .tp_members = state_members,
    .tp_methods = state_methods,
};

/* setup(functions, helpers): addresses of wasmtime's call_async, future_poll, future_delete, trap_new; Python's
 * check_may_leave, settle, proceed, begin_waiting, go_on. Before the first State; once. */
static PyObject *setup(PyObject *module, PyObject *args)
{
    unsigned long long call, poll, delete, trap;
    PyObject *functions[5];
    (void)module;
    if (!PyArg_ParseTuple(args, "(KKKK)(OOOOO)", &call, &poll, &delete, &trap, &functions[0], &functions[1],
                          &functions[2], &functions[3], &functions[4]))
        return NULL;
    if (wasmtime.call_async != NULL || !call || !poll || !delete || !trap) {
        PyErr_SetString(PyExc_RuntimeError, "set up already, or a function without an address");
        return NULL;
    }
    PyObject **wanted[] = {&helpers.check_may_leave, &helpers.settle, &helpers.proceed, &helpers.begin_waiting,
                           &helpers.go_on};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(wanted); i++)
        *wanted[i] = Py_NewRef(functions[i]);
    wasmtime.future_poll = (bool (*)(void *))(uintptr_t)poll;
    wasmtime.future_delete = (void (*)(void *))(uintptr_t)delete;
    wasmtime.trap_new = (void *(*)(const char *, size_t))(uintptr_t)trap;
    wasmtime.call_async =
        (void *(*)(void *, void *, Val *, size_t, Val *, size_t, void **, void **))(uintptr_t)call;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"setup", setup, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_crossing", .m_size = -1, .m_methods = functions};

static int add_all(PyObject *module)
{
    PyObject *structs = Py_BuildValue("{snsnsnsn}", "val", (Py_ssize_t)sizeof(Val), "val.of",
                                      (Py_ssize_t)offsetof(Val, of), "raw", (Py_ssize_t)sizeof(Raw), "continuation",
                                      (Py_ssize_t)sizeof(Continuation));
    int failed = structs == NULL || PyModule_AddObjectRef(module, "STRUCTS", structs) < 0;
    Py_XDECREF(structs);
    const struct {
        const char *name;
        uintptr_t address;
    } callbacks[] = {{"BEGIN", (uintptr_t)crossing_begin}, {"NEXT", (uintptr_t)crossing_next},
                     {"WAIT", (uintptr_t)crossing_wait}};
    for (size_t i = 0; !failed && i < Py_ARRAY_LENGTH(callbacks); i++) {
        PyObject *address = PyLong_FromUnsignedLongLong(callbacks[i].address);
        failed = address == NULL || PyModule_AddObjectRef(module, callbacks[i].name, address) < 0;
        Py_XDECREF(address);
    }
    return failed || PyModule_AddObjectRef(module, "State", (PyObject *)&StateType) < 0 ||
                   PyModule_AddObjectRef(module, "UNFINISHED", unfinished) < 0
               ? -1
               : 0;
}

PyMODINIT_FUNC PyInit__crossing(void)
{
    if (PyType_Ready(&StateType) < 0 || PyType_Ready(&DriveType) < 0 || PyType_Ready(&OfferType) < 0)
        return NULL;
    if (unfinished == NULL && (unfinished = PyObject_CallNoArgs((PyObject *)&PyBaseObject_Type)) == NULL)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && add_all(module) < 0)
        Py_CLEAR(module);
    return module;
}
