/* libcuda.so.1 without a GPU, for the real pycuda: memory is the host's, work is done at once, every object is counted.

   It is strict where a driver is: an unknown or destroyed handle is refused, most calls need a current context (one
   stack per thread), memory outside of a live allocation is not touched, the last release of the primary context takes
   everything with it. Any one call can be made to fail: what makes something then makes nothing, what gives something
   back has done so. Functions that edgeseg does not cause pycuda to call are absent; calling one ends the process. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int CUresult;
enum { OK = 0, INVALID = 1, NO_MEMORY = 2, NOT_INITIALIZED = 3, NO_CONTEXT = 201, NOT_FOUND = 500, ILLEGAL = 700,
       DESTROYED = 709, HANDLE = 400, CAPTURING = 900, INVALIDATED = 901 };

typedef enum { HOST, DEVICE, STREAM, EVENT, MODULE, GRAPH, EXEC, KINDS } Kind;
typedef struct Node { int what; uint64_t to, from; size_t bytes; int kernel; void (*run)(void *); void *data; } Node;
typedef struct Thing {
    Kind kind;
    int alive;
    uint64_t address;
    size_t bytes;
    struct Thing *capture; /* of a stream: the graph in the making */
    int invalid;
    double at;
    Node *nodes;
    int count;
} Thing;

enum { MAX = 1 << 20, DEEP = 64 };
static Thing *things[MAX];
static int known;
static long alive[KINDS], lost[KINDS], retained, calls, fail_at = -1, misuses, pageable;
static int fail_code, initialised;
static char failed[64], misused[64];
static _Thread_local int depth;
static long pushed;
static _Thread_local Thing *capturing; /* thread-local capture mode */
static pthread_mutex_t lock;
static char context;

__attribute__((constructor)) static void begin(void) {
    pthread_mutexattr_t recursive;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &recursive);
}

static CUresult fails(const char *name) { /* counts every call */
    pthread_mutex_lock(&lock);
    int hit = calls++ == fail_at;
    if (hit) snprintf(failed, sizeof failed, "%s", name);
    pthread_mutex_unlock(&lock);
    return hit ? fail_code : OK;
}

static CUresult wrong(const char *name, CUresult code) { /* no driver would let it pass, and edgeseg must not do it */
    misuses++;
    snprintf(misused, sizeof misused, "%s: %d", name, code);
    return code;
}

#define CALL CUresult fault = fails(__func__)
#define MAKES do { if (fault) return fault; } while (0)
#define NEEDS_CONTEXT do { if (!initialised) return wrong(__func__, NOT_INITIALIZED); \
                           if (!depth) return wrong(__func__, NO_CONTEXT); \
                           if (!retained) return wrong(__func__, DESTROYED); } while (0)
#define UNSAFE do { if (capturing) { capturing->invalid = 1; return CAPTURING; } } while (0)

static Thing *make(Kind kind) {
    pthread_mutex_lock(&lock);
    Thing *thing = calloc(1, sizeof *thing); /* never given back: a stale handle stays recognisable */
    thing->kind = kind, thing->alive = 1;
    if (known == MAX) abort();
    things[known++] = thing;
    alive[kind]++;
    pthread_mutex_unlock(&lock);
    return thing;
}

static Thing *find(const void *handle, Kind kind) {
    for (int i = known - 1; i >= 0; i--)
        if (things[i] == handle) return things[i]->alive && things[i]->kind == kind ? things[i] : NULL;
    return NULL;
}

static Thing *at(uint64_t address, size_t bytes) { /* the live memory that holds a range */
    for (int i = known - 1; i >= 0; i--) {
        Thing *one = things[i];
        if (one->alive && one->kind <= DEVICE && address >= one->address && address + bytes <= one->address + one->bytes)
            return one;
    }
    return NULL;
}

static void end(Thing *thing) {
    if (thing->kind <= DEVICE) { memset((void *)thing->address, 0xDD, thing->bytes); free((void *)thing->address); }
    free(thing->nodes);
    thing->nodes = NULL, thing->alive = 0, alive[thing->kind]--;
}

static CUresult give_back(const void *handle, Kind kind, CUresult fault, const char *name) {
    pthread_mutex_lock(&lock);
    Thing *thing = find(handle, kind);
    if (thing) end(thing);
    pthread_mutex_unlock(&lock);
    return thing ? fault : wrong(name, HANDLE);
}

/* --- what tests ask and set */

void mock_counts(long *out) {
    for (int i = 0; i < KINDS; i++) out[i] = alive[i], out[KINDS + i] = lost[i];
    out[2 * KINDS] = retained, out[2 * KINDS + 1] = pushed, out[2 * KINDS + 2] = misuses, out[2 * KINDS + 3] = pageable;
}
long mock_calls(void) { return calls; }
void mock_fail(long after, int code) { fail_at = calls + after, fail_code = code, failed[0] = 0; }
const char *mock_failed(void) { return failed; }
const char *mock_misused(void) { return misused; }
int mock_holds(uint64_t address, size_t bytes) { return at(address, bytes) != NULL; }
int mock_depth(void) { return depth; }
int mock_capturing(void *stream) { Thing *one = find(stream, STREAM); return one && one->capture; }

/* --- device and contexts */

CUresult cuInit(unsigned flags) { CALL; MAKES; (void)flags; initialised = 1; return OK; }
CUresult cuDriverGetVersion(int *version) { CALL; MAKES; *version = 12090; return OK; }
CUresult cuDeviceGetCount(int *count) { CALL; MAKES; *count = 1; return OK; }
CUresult cuDeviceGet(int *device, int ordinal) { CALL; MAKES; *device = ordinal; return ordinal ? INVALID : OK; }
CUresult cuDeviceGetName(char *name, int bytes, int d) { CALL; MAKES; (void)d; snprintf(name, bytes, "Orin"); return OK; }
CUresult cuDeviceTotalMem_v2(size_t *bytes, int d) { CALL; MAKES; (void)d; *bytes = 7620UL << 20; return OK; }
CUresult cuDeviceComputeCapability(int *major, int *minor, int d) {
    CALL; MAKES; (void)d; *major = 8, *minor = 7; return OK;
}
CUresult cuDeviceGetAttribute(int *value, int attribute, int d) {
    CALL; MAKES; (void)d;
    *value = attribute == 16 ? 8 : attribute == 75 ? 8 : attribute == 76 ? 7 : 1;
    return OK;
}
CUresult cuDevicePrimaryCtxRetain(void **made, int d) { CALL; MAKES; (void)d; retained++; *made = &context; return OK; }
CUresult cuDevicePrimaryCtxRelease_v2(int d) {
    CALL; (void)d;
    if (!retained) return wrong(__func__, NO_CONTEXT);
    if (--retained == 0)
        for (int i = 0; i < known; i++)
            if (things[i]->alive) { lost[things[i]->kind]++; end(things[i]); }
    return fault;
}
CUresult cuCtxPushCurrent_v2(void *c) {
    CALL; MAKES;
    if (c != &context || !retained) return wrong(__func__, DESTROYED);
    if (depth == DEEP) abort();
    depth++, pushed++;
    return OK;
}
CUresult cuCtxPopCurrent_v2(void **c) {
    CALL; MAKES; /* it stays current: pycuda, too, believes so */
    if (!depth) return wrong(__func__, NO_CONTEXT);
    depth--, pushed--;
    if (c) *c = &context;
    return OK;
}
CUresult cuCtxGetCurrent(void **c) { CALL; MAKES; *c = depth ? &context : NULL; return OK; }
CUresult cuCtxGetDevice(int *device) { CALL; MAKES; NEEDS_CONTEXT; *device = 0; return OK; }

/* --- memory */

static CUresult allocate(Kind kind, uint64_t *address, size_t bytes) {
    if (!bytes) return INVALID;
    void *memory = aligned_alloc(512, (bytes + 511) / 512 * 512);
    if (!memory) return NO_MEMORY;
    memset(memory, 0xCD, bytes);
    Thing *thing = make(kind);
    thing->address = *address = (uint64_t)memory, thing->bytes = bytes;
    return OK;
}
static CUresult release(uint64_t address, Kind kind, CUresult fault, const char *name) {
    Thing *thing = at(address, 1);
    if (!thing || thing->address != address) return wrong(name, INVALID);
    return give_back(thing, kind, fault, name);
}
CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
    CALL; MAKES; NEEDS_CONTEXT; UNSAFE; (void)flags;
    return allocate(HOST, (uint64_t *)memory, bytes);
}
CUresult cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    CALL; MAKES; NEEDS_CONTEXT; UNSAFE;
    return allocate(DEVICE, address, bytes);
}
CUresult cuMemFreeHost(void *memory) { CALL; NEEDS_CONTEXT; return release((uint64_t)memory, HOST, fault, __func__); }
CUresult cuMemFree_v2(uint64_t address) { CALL; NEEDS_CONTEXT; return release(address, DEVICE, fault, __func__); }
CUresult cuMemHostGetDevicePointer_v2(uint64_t *address, void *memory, unsigned flags) {
    CALL; MAKES; NEEDS_CONTEXT; (void)flags;
    *address = (uint64_t)memory;
    return at(*address, 1) ? OK : wrong(__func__, INVALID);
}
CUresult cuMemGetInfo_v2(size_t *unused, size_t *total) {
    CALL; MAKES; NEEDS_CONTEXT; *unused = 4000UL << 20, *total = 7620UL << 20; return OK;
}

/* --- streams, events, work */

enum { COPY, KERNEL, HOST_CALL };

static CUresult perform(const Node *node) {
    if (node->what == COPY) memcpy((void *)node->to, (void *)node->from, node->bytes);
    else if (node->what == HOST_CALL) node->run(node->data);
    else {
        size_t in = node->kernel ? 4 : 1, out = node->kernel ? 1 : 4;
        if (!at(node->from, in * node->bytes) || !at(node->to, out * node->bytes)) return wrong("kernel", ILLEGAL);
        for (size_t i = 0; i < node->bytes; i++)
            if (node->kernel) ((uint8_t *)node->to)[i] = (uint8_t)((int32_t *)node->from)[i];
            else ((float *)node->to)[i] = ((uint8_t *)node->from)[i];
    }
    return OK;
}
static CUresult queue(void *handle, Node node, const char *name) {
    Thing *stream = find(handle, STREAM);
    if (!stream) return wrong(name, HANDLE); /* the default stream, too: edgeseg uses its own */
    Thing *graph = stream->capture;
    if (!graph) return perform(&node);
    if (graph->invalid) return INVALIDATED;
    graph->nodes = realloc(graph->nodes, (graph->count + 1) * sizeof node);
    graph->nodes[graph->count++] = node;
    return OK;
}
CUresult cuStreamCreate(void **made, unsigned flags) {
    CALL; MAKES; NEEDS_CONTEXT;
    if (flags != 1) return wrong(__func__, INVALID); /* non-blocking */
    *made = make(STREAM);
    return OK;
}
CUresult cuStreamDestroy_v2(void *stream) {
    CALL; NEEDS_CONTEXT;
    Thing *one = find(stream, STREAM);
    if (one && one->capture) {
        if (capturing == one->capture) capturing = NULL;
        end(one->capture);
    }
    return give_back(stream, STREAM, fault, __func__);
}
CUresult cuStreamSynchronize(void *stream) {
    CALL; MAKES; NEEDS_CONTEXT;
    Thing *one = find(stream, STREAM);
    if (!one) return wrong(__func__, HANDLE);
    if (one->capture) { one->capture->invalid = 1; return CAPTURING; }
    return OK;
}
CUresult cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    CALL; MAKES; NEEDS_CONTEXT; (void)flags;
    return find(stream, STREAM) && find(event, EVENT) ? OK : wrong(__func__, HANDLE);
}
CUresult cuEventCreate(void **made, unsigned flags) { CALL; MAKES; NEEDS_CONTEXT; (void)flags; *made = make(EVENT); return OK; }
CUresult cuEventDestroy_v2(void *event) { CALL; NEEDS_CONTEXT; return give_back(event, EVENT, fault, __func__); }
CUresult cuEventRecord(void *event, void *stream) {
    CALL; MAKES; NEEDS_CONTEXT;
    Thing *one = find(event, EVENT);
    if (!one || !find(stream, STREAM)) return wrong(__func__, HANDLE);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    one->at = now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
    return OK;
}
CUresult cuEventSynchronize(void *event) {
    CALL; MAKES; NEEDS_CONTEXT; return find(event, EVENT) ? OK : wrong(__func__, HANDLE);
}
CUresult cuEventElapsedTime(float *ms, void *from, void *to) {
    CALL; MAKES; NEEDS_CONTEXT;
    Thing *first = find(from, EVENT), *last = find(to, EVENT);
    if (!first || !last || !first->at || !last->at) return wrong(__func__, HANDLE);
    *ms = (float)(last->at - first->at);
    return OK;
}
CUresult cuEventElapsedTime_v2(float *ms, void *from, void *to) { return cuEventElapsedTime(ms, from, to); }
static CUresult copy(uint64_t to, uint64_t from, uint64_t device, uint64_t host, size_t n, void *stream, const char *name) {
    if (!at(device, n)) return wrong(name, ILLEGAL);
    pageable += !at(host, n);
    return queue(stream, (Node){.what = COPY, .to = to, .from = from, .bytes = n}, name);
}
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *stream) {
    CALL; MAKES; NEEDS_CONTEXT; return copy(to, (uint64_t)from, to, (uint64_t)from, n, stream, __func__);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *stream) {
    CALL; MAKES; NEEDS_CONTEXT; return copy((uint64_t)to, from, from, (uint64_t)to, n, stream, __func__);
}
CUresult cuLaunchHostFunc(void *stream, void (*run)(void *), void *data) { /* for the fake TensorRT; not counted */
    NEEDS_CONTEXT; return queue(stream, (Node){.what = HOST_CALL, .run = run, .data = data}, __func__);
}

/* --- modules and kernels: a function is one of two numbers */

static char functions[2];
CUresult cuModuleLoadDataEx(void **made, const void *image, unsigned n, void *options, void *values) {
    CALL; MAKES; NEEDS_CONTEXT; UNSAFE; (void)n, (void)options, (void)values;
    if (!strstr(image, ".entry")) return wrong(__func__, 200);
    *made = make(MODULE);
    return OK;
}
CUresult cuModuleUnload(void *module) { CALL; NEEDS_CONTEXT; return give_back(module, MODULE, fault, __func__); }
CUresult cuModuleGetFunction(void **function, void *module, const char *name) {
    CALL; MAKES; NEEDS_CONTEXT;
    if (!find(module, MODULE)) return wrong(__func__, HANDLE);
    int which = !strcmp(name, "uint8_to_float32") ? 0 : !strcmp(name, "int32_to_uint8") ? 1 : -1;
    if (which < 0) return NOT_FOUND;
    *function = &functions[which];
    return OK;
}
CUresult cuFuncGetAttribute(int *value, int attribute, void *f) { CALL; MAKES; (void)attribute, (void)f; *value = 1; return OK; }
CUresult cuFuncSetBlockShape(void *f, int x, int y, int z) { CALL; MAKES; (void)f, (void)x, (void)y, (void)z; return OK; }
CUresult cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, void *stream, void **parameters, void **extra) {
    CALL; MAKES; NEEDS_CONTEXT; (void)shared, (void)parameters;
    if (alive[MODULE] == 0) return wrong(__func__, HANDLE); /* a function does not keep its module */
    const char *packed = NULL;
    size_t bytes = 0;
    for (int i = 0; extra && extra[i]; i += 2) {
        if (extra[i] == (void *)1) packed = extra[i + 1];
        if (extra[i] == (void *)2) bytes = *(size_t *)extra[i + 1];
    }
    if (!packed || bytes < 20) return wrong(__func__, INVALID);
    uint32_t count;
    Node node = {.what = KERNEL, .kernel = f == &functions[1]};
    memcpy(&node.from, packed, 8), memcpy(&node.to, packed + 8, 8), memcpy(&count, packed + 16, 4);
    if ((uint64_t)gx * gy * gz * bx * by * bz < count) return wrong(__func__, INVALID);
    node.bytes = count;
    return queue(stream, node, __func__);
}

/* --- graphs */

CUresult cuStreamBeginCapture_v2(void *stream, int mode) {
    CALL; MAKES; NEEDS_CONTEXT;
    Thing *one = find(stream, STREAM);
    if (!one || one->capture || mode != 1) return wrong(__func__, HANDLE);
    one->capture = capturing = make(GRAPH);
    return OK;
}
CUresult cuStreamEndCapture(void *stream, void **graph) {
    CALL; NEEDS_CONTEXT;
    Thing *one = find(stream, STREAM);
    *graph = NULL;
    if (!one || !one->capture) return wrong(__func__, HANDLE);
    Thing *made = one->capture;
    one->capture = capturing = NULL;
    if (fault || made->invalid) { end(made); return fault ? fault : INVALIDATED; }
    *graph = made;
    return OK;
}
CUresult cuGraphInstantiateWithFlags(void **made, void *graph, unsigned long long flags) {
    CALL; MAKES; NEEDS_CONTEXT;
    Thing *from = find(graph, GRAPH);
    if (!from || flags) return wrong(__func__, INVALID);
    Thing *exec = make(EXEC);
    exec->count = from->count, exec->nodes = malloc((from->count + 1) * sizeof(Node));
    if (from->count) memcpy(exec->nodes, from->nodes, from->count * sizeof(Node));
    *made = exec;
    return OK;
}
CUresult cuGraphLaunch(void *exec, void *stream) {
    CALL; MAKES; NEEDS_CONTEXT;
    Thing *one = find(exec, EXEC);
    if (!one) return wrong(__func__, HANDLE);
    for (int i = 0; i < one->count; i++) {
        CUresult done = queue(stream, one->nodes[i], __func__);
        if (done) return done;
    }
    return OK;
}
CUresult cuGraphExecDestroy(void *exec) { CALL; return give_back(exec, EXEC, fault, __func__); }
CUresult cuGraphDestroy(void *graph) { CALL; return give_back(graph, GRAPH, fault, __func__); }

CUresult cuGetErrorString(int code, const char **text) {
    static _Thread_local char words[32];
    snprintf(words, sizeof words, "mock error %d", code);
    *text = words;
    return OK;
}
