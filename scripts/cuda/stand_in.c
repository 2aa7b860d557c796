/* A CUDA driver, cuBLAS and cuRAND for machines without a GPU: memory is the host's, copies copy, kernels and products do nothing but
 * count. What runs on it shows every call that a GPU would get, in order: operations without a GPU path, tensors on the wrong device,
 * kernels that a module does not have, copies that nobody meant. Numbers are zeros: it says nothing of what kernels compute.
 *
 *     scripts/cuda.sh stand-in          builds it; put its folder first in LD_LIBRARY_PATH
 *     STAND_IN_COUNTS=FILE              where the counts go when the process ends, a line each: count, tab, name
 */
#include <cuda.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 1024
static struct { char name[120]; uint64_t count; } counted[MOST];
static int names;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* One more of a name; returns its number. */
static void count(const char *name) {
  pthread_mutex_lock(&lock);
  int at = 0;
  while (at < names && strncmp(counted[at].name, name, sizeof counted[at].name - 1)) at++;
  if (at == names && names < MOST) {
    strncpy(counted[at].name, name, sizeof counted[at].name - 1);
    names++;
  }
  if (at < names) counted[at].count++;
  pthread_mutex_unlock(&lock);
}

__attribute__((destructor)) static void report(void) {
  const char *path = getenv("STAND_IN_COUNTS");
  FILE *file = path && names ? fopen(path, "w") : NULL; /* a process that asked for nothing leaves another's counts */
  if (!file) return;
  for (int at = 0; at < names; at++) fprintf(file, "%llu\t%s\n", (unsigned long long)counted[at].count, counted[at].name);
  fclose(file);
}

/* What is not here: said, and an error, so that nothing goes on as if it had worked. */
int stand_in_lacks(const char *name) {
  fprintf(stderr, "stand-in: %s is not there\n", name);
  return CUDA_ERROR_NOT_SUPPORTED;
}

/* ---- driver ---- */
static int context_object, stream_object;

CUresult cuInit(unsigned int flags) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { *version = 13000; return CUDA_SUCCESS; }
CUresult cuGetErrorName(CUresult error, const char **text) { *text = "STAND_IN_ERROR"; return CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **text) {
  *text = error == CUDA_ERROR_NOT_FOUND ? "the module has no kernel of this name" : "an error of the stand-in for a driver";
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int *devices) { *devices = 2; return CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  *device = ordinal;
  return ordinal < 2 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}
CUresult cuDeviceGetName(char *name, int length, CUdevice device) { strncpy(name, "stand-in", length); return CUDA_SUCCESS; }
CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) { *bytes = (size_t)16 << 30; return CUDA_SUCCESS; }
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = 1024; break;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED: *value = 1; break;
    default: *value = 65535;
  }
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { *context = (CUcontext)&context_object; return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext context) { return CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *context) { *context = (CUcontext)&context_object; return CUDA_SUCCESS; }
CUresult cuCtxSynchronize(void) { count("synchronize"); return CUDA_SUCCESS; }
CUresult cuStreamCreate(CUstream *stream, unsigned int flags) { *stream = (CUstream)&stream_object; return CUDA_SUCCESS; }
CUresult cuStreamDestroy(CUstream stream) { return CUDA_SUCCESS; }
CUresult cuStreamSynchronize(CUstream stream) { count("synchronize"); return CUDA_SUCCESS; }
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) { return CUDA_SUCCESS; }
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent *event, unsigned int flags) { *event = malloc(8); return CUDA_SUCCESS; }
CUresult cuEventRecord(CUevent event, CUstream stream) { return CUDA_SUCCESS; }
CUresult cuEventSynchronize(CUevent event) { return CUDA_SUCCESS; }
CUresult cuEventQuery(CUevent event) { return CUDA_SUCCESS; }
CUresult cuEventDestroy(CUevent event) { free(event); return CUDA_SUCCESS; }

static CUresult allocate(CUdeviceptr *pointer, size_t bytes) {
  count("allocate");
  *pointer = (CUdeviceptr)(uintptr_t)calloc(1, bytes ? bytes : 1);
  return *pointer ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}
static CUresult release(CUdeviceptr pointer) { free((void *)(uintptr_t)pointer); return CUDA_SUCCESS; }
CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes) { return allocate(pointer, bytes); }
CUresult cuMemAllocAsync(CUdeviceptr *pointer, size_t bytes, CUstream stream) { return allocate(pointer, bytes); }
CUresult cuMemFree(CUdeviceptr pointer) { return release(pointer); }
CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream stream) { return release(pointer); }
CUresult cuMemGetInfo(size_t *free, size_t *total) { *free = *total = (size_t)16 << 30; return CUDA_SUCCESS; }
static CUresult copy(const char *name, uintptr_t to, uintptr_t from, size_t bytes) {
  count(name);
  memmove((void *)to, (void *)from, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t bytes, CUstream s) { return copy("copy to the GPU", to, (uintptr_t)from, bytes); }
CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) { return copy("copy to the GPU", to, (uintptr_t)from, bytes); }
CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t bytes, CUstream s) { return copy("copy from the GPU", (uintptr_t)to, from, bytes); }
CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) { return copy("copy from the GPU", (uintptr_t)to, from, bytes); }
CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream s) { return copy("copy on the GPU", to, from, bytes); }
CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t bytes) { return copy("copy on the GPU", to, from, bytes); }
CUresult cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t bytes, CUstream s) {
  count("memset");
  memset((void *)(uintptr_t)at, value, bytes);
  return CUDA_SUCCESS;
}
CUresult cuMemsetD8(CUdeviceptr at, unsigned char value, size_t bytes) { return cuMemsetD8Async(at, value, bytes, 0); }

/* A module is its PTX, a kernel a copy of its name. */
CUresult cuModuleLoadData(CUmodule *module, const void *image) { *module = (CUmodule)strdup(image); return CUDA_SUCCESS; }
CUresult cuModuleUnload(CUmodule module) { free(module); return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  char entry[200];
  snprintf(entry, sizeof entry, ".entry %s(", name);
  if (!strstr((const char *)module, entry)) {
    fprintf(stderr, "stand-in: no kernel %s in its module\n", name);
    return CUDA_ERROR_NOT_FOUND;
  }
  *function = (CUfunction)strdup(name); /* few, and kept by the caller for as long as the module */
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) { return CUDA_SUCCESS; }
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function) { *value = 1024; return CUDA_SUCCESS; }
CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, CUstream stream, void **arguments, void **extra) {
  char name[120];
  snprintf(name, sizeof name, "kernel %s", (const char *)function);
  count(name);
  if (!gx || !gy || !gz || !bx || !by || !bz || bx * by * bz > 1024 || gy > 65535 || gz > 65535) {
    fprintf(stderr, "stand-in: %s is launched as %u,%u,%u blocks of %u,%u,%u threads\n", name, gx, gy, gz, bx, by, bz);
    return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

/* ---- cuBLAS: 0 is success; a handle is any address ---- */
int cublasCreate_v2(void **handle) { *handle = &context_object; return 0; }
int cublasDestroy_v2(void *handle) { return 0; }
int cublasSetStream_v2(void *handle, void *stream) { return 0; }
int cublasSetMathMode(void *handle, int mode) { return 0; }
int cublasSetWorkspace_v2(void *handle, void *space, size_t bytes) { return 0; }
int cublasGemmEx(void) { count("product"); return 0; }
int cublasGemmStridedBatchedEx(void) { count("product"); return 0; }
int cublasSgemmStridedBatched(void) { count("product"); return 0; }
int cublasDgemmStridedBatched(void) { count("product"); return 0; }
int cublasSgemm_v2(void) { count("product"); return 0; }
int cublasDgemm_v2(void) { count("product"); return 0; }

/* ---- cuRAND ---- */
int curandCreateGenerator(void **generator, int kind) { *generator = &context_object; return 0; }
int curandDestroyGenerator(void *generator) { return 0; }
int curandSetStream(void *generator, void *stream) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *generator, unsigned long long seed) { return 0; }
int curandSetGeneratorOffset(void *generator, unsigned long long offset) { return 0; }
int curandGenerateUniform(void *generator, float *at, size_t values) { count("random"); return 0; }
int curandGenerateUniformDouble(void *generator, double *at, size_t values) { count("random"); return 0; }
int curandGenerateNormal(void *generator, float *at, size_t values, float mean, float deviation) { count("random"); return 0; }
int curandGenerateNormalDouble(void *generator, double *at, size_t values, double mean, double deviation) { count("random"); return 0; }
