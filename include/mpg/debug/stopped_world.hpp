// All threads of this process at a standstill, registers included, for a look at its memory.
//
// A process of our own that shares this one's memory (clone with CLONE_VM, as leak checkers do) attaches to each thread by
// ptrace and stops it, runs what is to be run, and lets them go. So no signal is sent that a handler would see, a thread in
// a system call stays in it (as with a debugger, only those few fail with EINTR that do so after any stop, epoll_wait
// above all; ours goes on), and if that process dies, the kernel lets the others go on. Where ptrace is refused (a seccomp
// filter, a debugger that is attached already, a process that may not be dumped) nothing happens.
//
// What runs in there must neither allocate nor take a lock that another thread may hold: its owner stands still.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/sched/futex.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <elf.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace mpg::debug::detail {

/// Memory that is neither the heap's nor any other's: what was in it is gone with it. Hands out zeroed pieces.
class arena {
  public:
    explicit arena(std::size_t most) noexcept {
        for (; most >= 16u << 20; most /= 2) {
            void* at = ::mmap(nullptr, most, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (at == MAP_FAILED) continue;
            base_ = static_cast<std::byte*>(at);
            size_ = most;
            return;
        }
    }
    arena(const arena&) = delete;
    arena& operator=(const arena&) = delete;
    ~arena() {
        if (base_) ::munmap(base_, size_);
    }

    /// Null: there is no room.
    template <class T> T* make(std::size_t n) noexcept {
        const std::size_t bytes = (n * sizeof(T) + 63) / 64 * 64;
        if (bytes > size_ - used_) return nullptr;
        void* at = base_ + used_;
        used_ += bytes;
        return static_cast<T*>(at);
    }
    std::uint64_t low() const noexcept { return reinterpret_cast<std::uint64_t>(base_); }
    std::uint64_t high() const noexcept { return low() + size_; }
    std::size_t room() const noexcept { return size_ - used_; }

  private:
    std::byte* base_ = nullptr;
    std::size_t size_ = 0, used_ = 0;
};

/// An array in an arena. push is false when it is full.
template <class T> class arena_list {
  public:
    bool reserve(arena& a, std::size_t n) noexcept {
        at_ = a.make<T>(n);
        room_ = at_ ? n : 0;
        return at_ != nullptr;
    }
    bool push(const T& v) noexcept {
        if (size_ == room_) return false;
        at_[size_++] = v;
        return true;
    }
    T pop() noexcept { return at_[--size_]; }
    void resize(std::size_t n) noexcept { size_ = n; }
    std::size_t size() const noexcept { return size_; }
    T* begin() noexcept { return at_; }
    T* end() noexcept { return at_ + size_; }
    T& operator[](std::size_t i) noexcept { return at_[i]; }

  private:
    T* at_ = nullptr;
    std::size_t size_ = 0, room_ = 0;
};

/// A thread that stands still.
struct stopped_thread {
    int tid = 0;
    int signal = 0; // it is about to get
    bool in_syscall = false;
    std::uint64_t sp = 0;

    /// All its registers, up to `most` bytes; how many. 0: they could not be had.
    std::size_t registers(std::byte* into, std::size_t most) const noexcept {
        ::iovec io{into, most};
        if (::ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &io) != 0) return 0;
        std::size_t got = io.iov_len;
        // A pair of pointers may be on its way in a vector register.
#if defined(__x86_64__)
        constexpr int vectors[] = {NT_X86_XSTATE, NT_PRFPREG};
#else
        constexpr int vectors[] = {NT_ARM_SVE, NT_PRFPREG};
#endif
        for (int set : vectors) {
            io = {into + got, most - got};
            if (::ptrace(PTRACE_GETREGSET, tid, set, &io) == 0 && io.iov_len < most - got) return got + io.iov_len;
        }
        return 0;
    }
};

enum class stop_result : int { done, no_room, no_process, refused, late };

class world_stopper {
  public:
    /// Calls f(arena_list<stopped_thread>&), noexcept, in the other process, while all threads but the caller stand still.
    template <class F> static stop_result run(arena& memory, F& f) {
        world_stopper w(memory);
        w.call_ = [](void* g, arena_list<stopped_thread>& threads) { (*static_cast<F*>(g))(threads); };
        w.what_ = &f;
        return w.start();
    }

  private:
    static constexpr std::size_t stack_bytes = 256 << 10, most_threads = 16 << 10, list_bytes = 32 << 10;
    static constexpr base::nanos patience = 2'000'000'000;

    explicit world_stopper(arena& memory) noexcept : memory_(memory) {}

    stop_result start() {
        auto* stack = memory_.make<std::byte>(stack_bytes);
        list_ = memory_.make<char>(list_bytes);
        if (!stack || !list_ || !threads_.reserve(memory_, most_threads)) return stop_result::no_room;
        pid_ = ::getpid();
        me_ = static_cast<int>(::syscall(SYS_gettid));
        ::sigset_t all, before;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before); // the other process runs none of our handlers
        // No signal at its end, and only who asks with __WALL reaps it. Its descriptors are copies.
        const int tracer = ::clone(&world_stopper::main, stack + stack_bytes, CLONE_VM | CLONE_FS | CLONE_UNTRACED, this);
        if (tracer > 0) {
            const bool yama = restricted();
            if (yama) ::prctl(PR_SET_PTRACER, tracer, 0, 0, 0);
            go_.store(1, std::memory_order_release); // pairs with: main
            sched::futex_wake(go_);
            int status = 0;
            while (::waitpid(tracer, &status, __WALL) < 0 && errno == EINTR) {
            }
            if (yama) ::prctl(PR_SET_PTRACER, 0, 0, 0, 0);
        } else {
            result_ = stop_result::no_process;
        }
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
        return result_;
    }
    // Does the kernel let only a parent trace?
    static bool restricted() noexcept {
        char c = '0';
        if (int fd = ::open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC); fd >= 0) {
            if (::read(fd, &c, 1) != 1) c = '0';
            ::close(fd);
        }
        return c != '0';
    }

    // From here on in the other process. It shares the caller's thread-locals, errno too; the caller waits.
    static int main(void* arg) {
        auto& w = *static_cast<world_stopper*>(arg);
        while (w.go_.load(std::memory_order_acquire) == 0) sched::futex_wait(w.go_, 0); // pairs with: start
        w.result_ = w.stop_all();
        if (w.result_ == stop_result::done) w.call_(w.what_, w.threads_);
        for (stopped_thread& t : w.threads_) ::ptrace(PTRACE_DETACH, t.tid, nullptr, static_cast<long>(t.signal));
        return 0;
    }
    stop_result stop_all() noexcept {
        const base::nanos until = base::now() + patience;
        // A thread that runs may start others: until a look finds none that runs.
        for (bool more = true; more;) {
            more = false;
            if (base::now() >= until) return stop_result::late;
            char path[40];
            std::snprintf(path, sizeof path, "/proc/%d/task", pid_);
            const int dir = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (dir < 0) return stop_result::refused;
            for (long n; (n = ::syscall(SYS_getdents64, dir, list_, list_bytes)) > 0;)
                for (long at = 0; at < n;) {
                    unsigned short length;
                    std::memcpy(&length, list_ + at + 16, sizeof length);
                    const int tid = std::atoi(list_ + at + 19);
                    at += length;
                    if (tid <= 0 || tid == me_ || known(tid)) continue;
                    more = true;
                    if (const stop_result r = stop(tid, until); r != stop_result::done) return ::close(dir), r;
                }
            ::close(dir);
        }
        return stop_result::done;
    }
    bool known(int tid) noexcept {
        for (stopped_thread& t : threads_)
            if (t.tid == tid) return true;
        return false;
    }
    stop_result stop(int tid, base::nanos until) noexcept {
        stopped_thread t;
        t.tid = tid;
        if (::ptrace(PTRACE_SEIZE, tid, nullptr, nullptr) != 0) return errno == ESRCH ? stop_result::done : stop_result::refused;
        if (::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr) != 0 && errno != ESRCH) return stop_result::refused;
        for (;;) {
            int status = 0;
            const int got = ::waitpid(tid, &status, __WALL | WNOHANG);
            if (got < 0 && errno != EINTR) return stop_result::done; // it has ended
            if (got == tid) {
                if (!WIFSTOPPED(status)) return stop_result::done;
                if (status >> 16 == 0) t.signal = WSTOPSIG(status); // else a stop of ours, or of the whole process
                break;
            }
            if (base::now() >= until) return stop_result::late;
            constexpr ::timespec moment{0, 20'000};
            ::nanosleep(&moment, nullptr);
        }
        read_registers(t);
        return threads_.push(t) ? stop_result::done : stop_result::no_room;
    }
    static void read_registers(stopped_thread& t) noexcept {
#if defined(__x86_64__)
        ::user_regs_struct r{};
#else
        ::user_pt_regs r{};
#endif
        ::iovec io{&r, sizeof r};
        if (::ptrace(PTRACE_GETREGSET, t.tid, NT_PRSTATUS, &io) != 0) return;
#if defined(__x86_64__)
        t.sp = r.rsp;
        t.in_syscall = static_cast<long long>(r.orig_rax) >= 0;
#else
        t.sp = r.sp;
#endif
    }

    arena& memory_;
    void (*call_)(void*, arena_list<stopped_thread>&) = nullptr;
    void* what_ = nullptr;
    int pid_ = 0, me_ = 0;
    char* list_ = nullptr;
    arena_list<stopped_thread> threads_;
    base::atomic<std::uint32_t> go_{0};
    stop_result result_ = stop_result::no_process; // the other process's, until it has ended
};

} // namespace mpg::debug::detail
