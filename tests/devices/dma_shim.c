/* Loaded before all libraries (LD_PRELOAD) on machines whose kernel has neither udmabuf nor dma-heaps: answers those who
 * ask for shared picture buffers (libcamera's DmaBufAllocator, picamera2's DmaHeap) with anonymous files in memory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* linux/udmabuf.h and linux/dma-heap.h, repeated because old headers lack them */
struct udmabuf_create { uint32_t memfd, flags; uint64_t offset, size; };
struct dma_heap_allocation_data { uint64_t len; uint32_t fd, fd_flags; uint64_t heap_flags; };
#define UDMABUF_CREATE _IOW('u', 0x42, struct udmabuf_create)
#define DMA_HEAP_IOCTL_ALLOC _IOWR('H', 0x0, struct dma_heap_allocation_data)

static int is_provider(const char *path)
{
    return path && (!strcmp(path, "/dev/udmabuf") || !strcmp(path, "/dev/dma_heap/vidbuf_cached"));
}

#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...)                              \
    {                                                                       \
        static int (*next)(const char *, int, ...);                         \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        int mode = va_arg(rest, int);                                       \
        va_end(rest);                                                       \
        if (is_provider(path))                                              \
            return memfd_create("dma-provider", MFD_CLOEXEC);               \
        if (!next)                                                          \
            next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        return next(path, flags, mode);                                     \
    }
OPEN(open)
OPEN(open64)

static int allocate(struct dma_heap_allocation_data *asked)
{
    int fd = memfd_create("dma-buffer", MFD_CLOEXEC);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (asked->len + 4095) & ~4095UL)) {
        close(fd);
        return -1;
    }
    asked->fd = fd;
    return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int, unsigned long, ...);
    va_list rest;
    va_start(rest, request);
    void *data = va_arg(rest, void *);
    va_end(rest);
    switch ((uint32_t)request) {
    case (uint32_t)UDMABUF_CREATE:
        return fcntl(((struct udmabuf_create *)data)->memfd, F_DUPFD_CLOEXEC, 3);
    case (uint32_t)DMA_HEAP_IOCTL_ALLOC:
        return allocate(data);
    }
    /* DMA_BUF_IOCTL_SYNC and DMA_BUF_SET_NAME: memory of this kind is always in sync and needs no name. */
    if (_IOC_TYPE(request) == 'b' && _IOC_NR(request) <= 1 && _IOC_SIZE(request) <= sizeof(uint64_t))
        return 0;
    if (!next)
        next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    return next(fd, request, data);
}
