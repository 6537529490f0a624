/* The boundary between guest and host in C: see boundary.py and reference.py, which does the same through ctypes.
 *
 * No header of wasmtime's and no linking against it: wasmtime-py brings the library, boundary.py gives the functions'
 * addresses, and compares the sizes of the structs below with those that wasmtime-py declares.
 */
#ifndef PERDURE_CROSSING_H
#define PERDURE_CROSSING_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* wasmtime_val_t, wasmtime_val_raw_t, wasmtime_async_continuation_t. */
typedef struct {
    uint8_t kind;
    union {
        int32_t i32;
        uint64_t words[3];
    } of;
} Val;

typedef union {
    uint32_t u32;
    uint64_t words[2];
} Raw;

typedef struct {
    bool (*callback)(void *);
    void *env;
    void (*finalizer)(void *);
} Continuation;

enum { KIND_I32 = 0 };
enum { FINISHED = 0, ALLOCATE = 1, WAITS = 2 };        /* the first value of an outcome: crossing.py */
enum { LOWERING = 0, RUNNING = 1, CLEANING = 2 };      /* how far a call came: lifted.py */

/* engine.py: Engine.activity. */
typedef struct {
    int64_t running, ran, parked, ticks, turn;
} Activity;

/* entry.py: Arrays. `out`: a trap's and an error's address. */
typedef struct {
    PyObject *owner, *args_address, *results_address;
    Val *args, *results;
    void **out;
} Arrays;

typedef struct {
    PyObject_HEAD
    Activity *activity;
    void *context;
    PyObject *engine, *begins, *offered, *left;
    PyObject *lowering, *waits, *coroutine, *wanted, *outcome, *failure;
    PyObject *waiting, *value;                         /* crossing.Waiting, and what its coroutine returned */
    Arrays arrays, reallocation;
    int depth;
    char may_leave, usable, busy, misfit;
    uint8_t answered;                                  /* whether what the fiber waits for is there */
} State;

/* wasmtime's functions, and Python functions of crossing.py and fiber.py. */
typedef struct {
    void *(*call_async)(void *, void *, Val *, size_t, Val *, size_t, void **, void **);
    bool (*future_poll)(void *);
    void (*future_delete)(void *);
    void *(*trap_new)(const char *, size_t);
} Wasmtime;

typedef struct {
    PyObject *check_may_leave, *settle, *proceed, *begin_waiting, *go_on;
} Helpers;

extern Wasmtime wasmtime;
extern Helpers helpers;
extern PyObject *unfinished;
extern PyTypeObject StateType, DriveType, OfferType;

/* Whether a member is there: tp_clear leaves NULL, everything else None. */
static inline bool there(PyObject *member) { return member != NULL && member != Py_None; }

/* callbacks.c: what wasmtime calls, on the guest's fiber. */
void *crossing_begin(void *number, void *caller, Raw *values, size_t count);
void *crossing_next(void *env, void *caller, Raw *values, size_t count);
void crossing_wait(void *env, void *caller, const Val *args, size_t nargs, Val *results, size_t nresults, void **trap,
                   Continuation *continuation);
int crossing_poll(State *self, void *future);
PyObject *crossing_take_exception(void);

/* calls.c: entries into the guest. */
PyObject *state_offer(PyObject *self, PyObject *args);
PyObject *state_poll(PyObject *self, PyObject *future);
PyObject *state_enter(PyObject *self, PyObject *const *args, Py_ssize_t count);
PyObject *state_call_at_once(PyObject *self, PyObject *const *args, Py_ssize_t count);

/* module.c: `resume(value)`, which cannot fail. */
void state_resume(State *self, PyObject *value);

/* drive.c: an awaitable of steps. */
PyObject *state_driven(PyObject *self, PyObject *const *args, Py_ssize_t count);

#endif
