// What a node asks the system for, as far as the harness has a lever for it: the time of day, and syncs of the log.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000LL

// The harness writes these to a file; levers.rs knows their order.
struct levers {
    _Atomic int64_t clock_offset_ns;
    _Atomic int64_t sync_delay_us;
    _Atomic int64_t failing_syncs;
};
static struct levers *levers;

__attribute__((constructor)) static void take_levers(void) {
    const char *path = getenv("JEPSEN_LEVERS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *levers, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) levers = shared;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    long done = syscall(SYS_clock_gettime, clock, at);
    if (done != 0 || !levers || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return (int)done;
    int64_t now = at->tv_sec * SECOND_NS + at->tv_nsec + atomic_load(&levers->clock_offset_ns);
    at->tv_sec = now / SECOND_NS;
    at->tv_nsec = now % SECOND_NS;
    return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

static int is_of_log(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/lanes/") && strstr(path, ".log");
}

// Whether this sync is one of those that are to fail.
static int fails(int file) {
    if (atomic_load(&levers->failing_syncs) <= 0 || !is_of_log(file)) return 0;
    return atomic_fetch_sub(&levers->failing_syncs, 1) > 0;
}

static int sync_through(long call, int file) {
    if (levers) {
        int64_t delay = atomic_load(&levers->sync_delay_us);
        if (delay > 0) usleep((useconds_t)delay);
        if (fails(file)) {
            errno = EIO;
            return -1;
        }
    }
    return (int)syscall(call, file);
}

int fsync(int file) { return sync_through(SYS_fsync, file); }
int fdatasync(int file) { return sync_through(SYS_fdatasync, file); }
