// Stacks of what runs: the thread copies its own, on request.
//
// A thread that computes gets a signal, whose handler copies its registers and its task's stack into a slot. A thread
// that the kernel holds in a system call is not disturbed (the call might fail with EINTR): its program counter and
// stack pointer stand in /proc/self/task/T/syscall, and its stack is at rest as long as that says the same.
//
// A slot belongs to one request; its word says who may write it:
//   free:      on the list of slots.
//   requested: the signal is on its way; the requester may take the slot back (then: free), the handler may take it
//              (then: filling). Both by compare-exchange, so a signal that comes late finds nothing to do.
//   filling:   the handler's. It does not wait for anybody.
//   filled:    the requester's.
// Slots are never freed: a late handler may still look at the word.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/debug/unwind.hpp>
#include <mpg/sched/fatal.hpp>
#include <mpg/sched/futex.hpp>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <new>
#include <mutex>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace mpg::debug::detail {

/// Copies memory that others may be writing. Not instrumented: that is no data race that matters here, for what was
/// copied while it changed is thrown away.
#if defined(__clang__)
__attribute__((no_sanitize("thread", "address", "undefined")))
#else
__attribute__((no_sanitize("thread"), no_sanitize("address"), no_sanitize("undefined"), noinline))
#endif
inline void
copy_racy(std::byte* to, const void* from, std::size_t n) noexcept {
    const auto* words = static_cast<const volatile std::uint64_t*>(from);
    for (std::size_t i = 0; i < n / 8; ++i) {
        std::uint64_t w = words[i];
        __builtin_memcpy(to + 8 * i, &w, 8);
    }
}

/// Copies what is mapped of [from, from + n), however wild from is. Async-signal-safe. How much.
inline std::size_t copy_mapped(std::byte* to, std::uint64_t from, std::size_t n) noexcept {
    ::iovec local{to, n}, remote{reinterpret_cast<void*>(from), n};
    int saved = errno;
    long got = ::syscall(SYS_process_vm_readv, ::getpid(), &local, 1ul, &remote, 1ul, 0ul);
    if (got <= 0 && n > 4096) { // not all of it is mapped: up to the end of the page at least
        local.iov_len = remote.iov_len = 4096 - from % 4096;
        got = ::syscall(SYS_process_vm_readv, ::getpid(), &local, 1ul, &remote, 1ul, 0ul);
    }
    errno = saved;
    return got > 0 ? static_cast<std::size_t>(got) : 0;
}

inline register_set registers_of(const ::ucontext_t& u) noexcept {
    register_set r;
#if defined(__x86_64__)
    const auto& g = u.uc_mcontext.gregs;
    constexpr int order[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    for (unsigned i = 0; i < 16; ++i) r.set(i, static_cast<std::uint64_t>(g[order[i]]));
    r.pc = static_cast<std::uint64_t>(g[REG_RIP]);
#else
    for (unsigned i = 0; i < 31; ++i) r.set(i, u.uc_mcontext.regs[i]);
    r.set(stack_register, u.uc_mcontext.sp);
    r.pc = u.uc_mcontext.pc;
#endif
    return r;
}

/// The caller's registers, where it stands, without a system call: those that its callers' frames may need.
MPG_ALWAYS_INLINE register_set registers_here() noexcept {
    register_set r;
#if defined(__x86_64__)
    std::uint64_t v[8];
    asm volatile("leaq 0(%%rip), %%rax\n\t"
                 "movq %%rax, 0(%0)\n\t"
                 "movq %%rsp, 8(%0)\n\t"
                 "movq %%rbx, 16(%0)\n\t"
                 "movq %%rbp, 24(%0)\n\t"
                 "movq %%r12, 32(%0)\n\t"
                 "movq %%r13, 40(%0)\n\t"
                 "movq %%r14, 48(%0)\n\t"
                 "movq %%r15, 56(%0)"
                 :
                 : "r"(v)
                 : "rax", "memory");
    r.pc = v[0];
    constexpr unsigned order[] = {7, 3, 6, 12, 13, 14, 15};
    for (unsigned i = 0; i < 7; ++i) r.set(order[i], v[i + 1]);
#else
    std::uint64_t v[14];
    asm volatile("adr x9, .\n\t"
                 "mov x10, sp\n\t"
                 "stp x9, x10, [%0]\n\t"
                 "stp x19, x20, [%0, 16]\n\t"
                 "stp x21, x22, [%0, 32]\n\t"
                 "stp x23, x24, [%0, 48]\n\t"
                 "stp x25, x26, [%0, 64]\n\t"
                 "stp x27, x28, [%0, 80]\n\t"
                 "stp x29, x30, [%0, 96]"
                 :
                 : "r"(v)
                 : "x9", "x10", "memory");
    r.pc = v[0];
    r.set(stack_register, v[1]);
    for (unsigned i = 0; i < 12; ++i) r.set(19 + i, v[i + 2]);
#endif
    return r;
}

/// Memory for copies of stacks: given back to the system, so that no such copy stays behind in the heap, where it would
/// look like something that knows what was on the stack (prove.hpp).
template <class T> struct scratch_allocator {
    using value_type = T;
    scratch_allocator() = default;
    template <class U> scratch_allocator(const scratch_allocator<U>&) noexcept {}
    T* allocate(std::size_t n) {
        void* at = ::mmap(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) throw std::bad_alloc();
        return static_cast<T*>(at);
    }
    void deallocate(T* at, std::size_t n) noexcept { ::munmap(at, n * sizeof(T)); }
    template <class U> bool operator==(const scratch_allocator<U>&) const noexcept { return true; }
};
template <class T> using scratch = std::vector<T, scratch_allocator<T>>;

/// A task's stack that ran.
struct capture {
    std::uint64_t task = 0; // id; 0: the thread ran no task
    register_set registers;
    std::uint64_t base = 0;
    scratch<std::byte> bytes;

    stack_copy stack() const noexcept { return {base, bytes.data(), bytes.size()}; }
};

inline constexpr std::size_t most_stack = 128 << 10;

struct capture_slot {
    static constexpr std::uint32_t free = 0, requested = 1, filling = 2, filled = 3;
    base::atomic<std::uint32_t> word{free};
    int thread = 0;
    std::uint64_t task = 0;
    register_set registers;
    std::uint64_t base = 0;
    std::size_t size = 0;
    capture_slot* next = nullptr;
    alignas(16) std::byte bytes[most_stack];
};

class capturer {
  public:
    static capturer& instance() {
        static capturer& c = *new capturer;
        return c;
    }

    /// The signal in use: the highest real-time one that nobody had taken.
    int signal_number() const noexcept { return signal_; }

    /// Asks thread `tid` of this process. Null: it cannot be asked.
    capture_slot* ask(int tid) {
        capture_slot* s = take();
        s->thread = tid;
        s->word.store(capture_slot::requested, std::memory_order_release); // pairs with: the handler
        ::siginfo_t info{};
        info.si_code = SI_QUEUE;
        info.si_pid = ::getpid();
        info.si_uid = ::getuid();
        info.si_value.sival_ptr = s;
        if (signal_ == 0 || ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), tid, signal_, &info) != 0) {
            s->word.store(capture_slot::free, std::memory_order_relaxed);
            give(s);
            return nullptr;
        }
        return s;
    }
    /// Waits for the answer until the steady time `until`. False: none came.
    bool await(capture_slot* s, base::nanos until, capture& out) {
        for (;;) {
            std::uint32_t w = s->word.load(std::memory_order_acquire); // pairs with: the handler
            if (w == capture_slot::filled) break;
            if (w == capture_slot::filling) { // not for long
                ::sched_yield();
                continue;
            }
            if (base::now() >= until) {
                if (!s->word.compare_exchange_strong(w, capture_slot::free, std::memory_order_acq_rel)) continue;
                give(s);
                return false;
            }
            sched::futex_wait(s->word, capture_slot::requested, until);
        }
        out.task = s->task;
        out.registers = s->registers;
        out.base = s->base;
        out.bytes.assign(s->bytes, s->bytes + s->size);
        std::memset(s->bytes, 0, s->size); // see scratch_allocator
        s->word.store(capture_slot::free, std::memory_order_relaxed);
        give(s);
        return true;
    }

  private:
    capturer() {
        for (int s = SIGRTMAX - 1; s > SIGRTMIN && signal_ == 0; --s) {
            struct ::sigaction old{};
            if (::sigaction(s, nullptr, &old) != 0 || old.sa_handler != SIG_DFL || old.sa_flags & SA_SIGINFO) continue;
            struct ::sigaction action{};
            action.sa_sigaction = &capturer::handle;
            action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
            ::sigfillset(&action.sa_mask);
            if (::sigaction(s, &action, nullptr) == 0) signal_ = s;
        }
    }

    static void handle(int, ::siginfo_t* info, void* context) noexcept {
        if (info->si_code != SI_QUEUE || info->si_pid != ::getpid() || !info->si_value.sival_ptr) return;
        int saved = errno;
        fill(*static_cast<capture_slot*>(info->si_value.sival_ptr), *static_cast<::ucontext_t*>(context));
        errno = saved;
    }
    static void fill(capture_slot& s, const ::ucontext_t& context) noexcept {
        std::uint32_t w = s.word.load(std::memory_order_acquire); // pairs with: ask
        if (w != capture_slot::requested || s.thread != static_cast<int>(::syscall(SYS_gettid))) return;
        if (!s.word.compare_exchange_strong(w, capture_slot::filling, std::memory_order_acq_rel)) return;
        s.registers = registers_of(context);
        s.base = s.registers.sp() & ~std::uint64_t{7};
        s.task = 0;
        s.size = 0;
        sched::machine* m = sched::this_machine();
        sched::task* t = m ? m->cur : nullptr;
        if (t && t->rt && t->stack) {
            s.task = t->id;
            auto top = reinterpret_cast<std::uint64_t>(t->rt->stacks.top(t->stack));
            if (s.base >= reinterpret_cast<std::uint64_t>(t->stack) && s.base < top) {
                s.size = std::min<std::size_t>(top - s.base, most_stack);
                copy_racy(s.bytes, reinterpret_cast<const void*>(s.base), s.size);
            }
        }
        s.word.store(capture_slot::filled, std::memory_order_release); // pairs with: await
        sched::futex_wake(s.word);
    }

    capture_slot* take() {
        {
            std::lock_guard hold(lock_);
            if (capture_slot* s = slots_) {
                slots_ = s->next;
                return s;
            }
        }
        return new capture_slot;
    }
    void give(capture_slot* s) noexcept {
        std::lock_guard hold(lock_);
        s->next = slots_;
        slots_ = s;
    }

    int signal_ = 0;
    base::spinlock lock_;
    capture_slot* slots_ = nullptr; // lock_
};

/// The calling task's stack, from the caller's frame on.
MPG_NOINLINE inline capture capture_self(const sched::task& t) {
    capture c;
    ::ucontext_t here;
    if (::getcontext(&here) != 0) return c;
    c.task = t.id;
    c.registers = registers_of(here);
    c.base = c.registers.sp() & ~std::uint64_t{7};
    c.bytes.resize(std::min<std::size_t>(reinterpret_cast<std::uint64_t>(t.rt->stacks.top(t.stack)) - c.base, most_stack));
    copy_racy(c.bytes.data(), reinterpret_cast<const void*>(c.base), c.bytes.size());
    return c;
}

/// What the kernel says of a thread: "running", or the system call, ending with stack pointer and pc; "" when it says
/// nothing.
inline std::string syscall_line(int tid) {
    char path[64], text[256];
    std::snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    ::ssize_t n = ::read(fd, text, sizeof text);
    ::close(fd);
    return std::string(text, n > 0 ? static_cast<std::size_t>(n) : 0);
}

/// The current task of a machine whose thread waits in a system call. False: it does not, or it moved meanwhile.
inline bool capture_in_syscall(sched::machine& m, int tid, capture& out) {
    std::string before = syscall_line(tid);
    if (before.empty() || before.front() < '0' || before.front() > '9') return false;
    std::size_t pc_at = before.rfind(' ');
    std::size_t sp_at = pc_at == std::string::npos || pc_at == 0 ? std::string::npos : before.rfind(' ', pc_at - 1);
    if (sp_at == std::string::npos) return false;
    std::uint64_t sp = std::strtoull(before.c_str() + sp_at, nullptr, 16);
    std::uint64_t pc = std::strtoull(before.c_str() + pc_at, nullptr, 16);
    sched::task* t = sched::read_racy(m.cur);
    char* low = t ? sched::read_racy(t->stack) : nullptr;
    if (!low) return false;
    // m's runtime is t's; t->rt would be written meanwhile where the record is taken anew.
    auto top = reinterpret_cast<std::uint64_t>(m.rt->stacks.top(low));
    if (sp < reinterpret_cast<std::uint64_t>(low) || sp >= top || sp % 8 != 0) return false;
    out.task = sched::read_racy(t->id);
    out.registers = {};
    out.registers.pc = pc;
    out.registers.set(stack_register, sp);
    out.base = sp;
    out.bytes.resize(std::min<std::size_t>(top - sp, most_stack));
    copy_racy(out.bytes.data(), reinterpret_cast<const void*>(sp), out.bytes.size());
    return syscall_line(tid) == before && sched::read_racy(m.cur) == t && sched::read_racy(t->id) == out.task;
}

} // namespace mpg::debug::detail
