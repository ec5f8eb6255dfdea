// What belongs to a line of execution besides its stack, and the one function that switches between two.
//
// errno, the C++ exceptions in flight and the FP control words travel with the execution, not with the thread. All of
// it is exchanged *before* the jump: the thread is the same on both sides, so its anchors need not be found again by
// code whose compiler may remember the other thread's.
#pragma once

#include <mpg/base/config.hpp>
#include <mpg/fiber/context.hpp>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cxxabi.h>

#if defined(MPG_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(MPG_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace mpg::fiber {

/// The Itanium ABI's per-thread exception state: __cxa_eh_globals. Its two members are fixed by that ABI (the
/// 32-bit ARM one, which has a third, is not supported).
struct exception_state {
    void* caught = nullptr;
    unsigned int uncaught = 0;
};

/// Rounding mode, masks and precision: the control bits only. The sticky flags stay with the thread: writing MXCSR
/// with other flags costs 50 ns on some CPUs.
struct fp_control {
#if defined(__x86_64__)
    std::uint32_t word = 0x1f80; // MXCSR
    std::uint16_t x87 = 0x37f;   // x87 control word
#else
    std::uint32_t word = 0; // FPCR
#endif
};

/// Where this thread keeps its state. Found once, when the thread starts.
struct thread_anchor {
    exception_state* exceptions = nullptr;
    int* error = nullptr;

    MPG_NOINLINE static thread_anchor of_this_thread() noexcept {
        asm volatile("");
        return {reinterpret_cast<exception_state*>(abi::__cxa_get_globals()), &errno};
    }
};

/// What the sanitizers want to know of an execution; exists only in their builds.
struct sanitizer_state {
    void* fake_stack = nullptr;         // AddressSanitizer's, of the suspended execution
    const void* stack_bottom = nullptr; // lowest address
    std::size_t stack_bytes = 0;
    void* tsan_fiber = nullptr;
};

/// A task's or a scheduler's execution, while it does not run.
struct execution {
    context ctx; // null while it runs
    exception_state exceptions;
    int error = 0;
    fp_control fp;
    sanitizer_state* sanitizer = nullptr; // owned; null in ordinary builds
};

namespace detail {

#if defined(__x86_64__)
/// In one move, padding included: compilers make two of an assignment.
MPG_ALWAYS_INLINE void copy(exception_state& to, const exception_state& from) noexcept {
    static_assert(sizeof(exception_state) == 16);
    typedef long long whole __attribute__((vector_size(16), aligned(8), may_alias));
    reinterpret_cast<whole&>(to) = reinterpret_cast<const whole&>(from);
}
#else
MPG_ALWAYS_INLINE void copy(exception_state& to, const exception_state& from) noexcept { to = from; }
#endif

MPG_ALWAYS_INLINE void store_fp(fp_control& to) noexcept {
#if defined(__x86_64__)
    asm volatile("stmxcsr %0" : "=m"(to.word));
    asm volatile("fnstcw %0" : "=m"(to.x87));
#elif defined(__aarch64__)
    std::uint64_t now;
    asm volatile("mrs %0, fpcr" : "=r"(now));
    to.word = static_cast<std::uint32_t>(now);
#endif
}
MPG_ALWAYS_INLINE void exchange_fp(fp_control& from, const fp_control& to) noexcept {
    store_fp(from);
#if defined(__x86_64__)
    if ((from.word ^ to.word) & 0xffc0u) [[unlikely]] {
        asm volatile("ldmxcsr %0" ::"m"(to.word));
    }
    if (from.x87 != to.x87) [[unlikely]] {
        asm volatile("fldcw %0" ::"m"(to.x87));
    }
#elif defined(__aarch64__)
    if (from.word != to.word) asm volatile("msr fpcr, %0" ::"r"(static_cast<std::uint64_t>(to.word)));
#endif
}

} // namespace detail

#if defined(MPG_ASAN) || defined(MPG_TSAN)
inline void begin_sanitized(execution& self, const void* bottom, std::size_t bytes, [[maybe_unused]] bool thread) {
    self.sanitizer = new sanitizer_state{nullptr, bottom, bytes, nullptr};
#if defined(MPG_ASAN)
    // The last execution on this stack has never returned from its outermost frames: their red zones are still there.
    if (!thread) {
        const std::size_t outermost = bytes < 16 << 10 ? bytes : 16 << 10;
        __asan_unpoison_memory_region(static_cast<const char*>(bottom) + (bytes - outermost), outermost);
    }
#endif
#if defined(MPG_TSAN)
    self.sanitizer->tsan_fiber = thread ? __tsan_get_current_fiber() : __tsan_create_fiber(0);
#endif
}
inline void end_sanitized(execution& self, [[maybe_unused]] bool thread) noexcept {
#if defined(MPG_TSAN)
    if (!thread) __tsan_destroy_fiber(self.sanitizer->tsan_fiber);
#endif
    delete self.sanitizer;
    self.sanitizer = nullptr;
}
#endif

/// When an execution gets its stack, and after it has left it for ever; when a thread becomes a scheduler, and before
/// it ends. Sanitizer builds note it, ordinary ones do nothing.
inline void begin_execution([[maybe_unused]] execution& self, [[maybe_unused]] const void* bottom,
                            [[maybe_unused]] std::size_t bytes) {
#if defined(MPG_ASAN) || defined(MPG_TSAN)
    begin_sanitized(self, bottom, bytes, false);
#endif
}
inline void end_execution([[maybe_unused]] execution& self) noexcept {
#if defined(MPG_ASAN) || defined(MPG_TSAN)
    end_sanitized(self, false);
#endif
}
inline void begin_scheduler([[maybe_unused]] execution& self, [[maybe_unused]] const void* bottom,
                            [[maybe_unused]] std::size_t bytes) {
#if defined(MPG_ASAN) || defined(MPG_TSAN)
    begin_sanitized(self, bottom, bytes, true);
#endif
}
inline void end_scheduler([[maybe_unused]] execution& self) noexcept {
#if defined(MPG_ASAN) || defined(MPG_TSAN)
    end_sanitized(self, true);
#endif
}

/// Must be called first thing by code that a switch has just started or resumed. `self`: the execution that runs now.
MPG_ALWAYS_INLINE void arrived([[maybe_unused]] execution& self) noexcept {
#if defined(MPG_USE_FCONTEXT) // its jump has loaded what there was when this one left, or when the stack was made
    fp_control left;
    detail::exchange_fp(left, self.fp);
#endif
#if defined(MPG_ASAN)
    __sanitizer_finish_switch_fiber(self.sanitizer->fake_stack, nullptr, nullptr);
#endif
}

/// The execution that runs has ended, and a new one goes on in its place, on its stack. No exception is in flight.
MPG_ALWAYS_INLINE void start_over(const thread_anchor& anchor) noexcept {
    *anchor.error = 0;
    fp_control left;
    detail::exchange_fp(left, fp_control{});
}

/// What of a thread belongs to the execution that runs on it.
struct thread_state {
    exception_state exceptions;
    int error = 0;
    fp_control fp;
};
/// A call that is an execution of its own begins on the stack of another, whose state is kept meanwhile; and ends, maybe
/// on another thread: the caller has looked up the anchor afresh, and keeps nothing else of the thread.
MPG_ALWAYS_INLINE void begin_nested(thread_state& kept, const thread_anchor& anchor) noexcept {
    detail::copy(kept.exceptions, *anchor.exceptions);
    detail::copy(*anchor.exceptions, exception_state{});
    kept.error = *anchor.error;
    *anchor.error = 0;
    detail::exchange_fp(kept.fp, fp_control{});
}
MPG_ALWAYS_INLINE void end_nested(const thread_state& kept, const thread_anchor& anchor) noexcept {
    detail::copy(*anchor.exceptions, kept.exceptions);
    *anchor.error = kept.error;
    fp_control left;
    detail::exchange_fp(left, kept.fp);
}

/// Suspends `from`, which runs on the thread of `anchor`, and resumes `to`. `ends`: from will never be resumed.
/// Returns when from is resumed, maybe on another thread: the caller must look up anything of the thread afresh, and
/// must not be inlined into code that could remember something of it.
MPG_ALWAYS_INLINE void switch_here(execution& from, execution& to, const thread_anchor& anchor,
                                   [[maybe_unused]] bool ends = false) noexcept {
    detail::copy(from.exceptions, *anchor.exceptions);
    detail::copy(*anchor.exceptions, to.exceptions);
    int& error = *anchor.error;
    from.error = error;
    error = to.error;
#if defined(MPG_USE_FCONTEXT)
    detail::store_fp(from.fp); // to be loaded where it arrives: on x86-64 this jump saves and loads them, too
#else
    detail::exchange_fp(from.fp, to.fp);
#endif
#if defined(MPG_ASAN)
    __sanitizer_start_switch_fiber(ends ? nullptr : &from.sanitizer->fake_stack, to.sanitizer->stack_bottom,
                                   to.sanitizer->stack_bytes);
#endif
#if defined(MPG_TSAN)
    __tsan_switch_to_fiber(to.sanitizer->tsan_fiber, 0);
#endif
    // Who runs has no saved context: a dump that copies the stack of a task at rest sees by this that it has moved.
    context target = to.ctx;
    to.ctx.sp = nullptr;
    jump(from.ctx, target);
    arrived(from);
}
/// The same, out of line.
MPG_NOINLINE inline void switch_execution(execution& from, execution& to, const thread_anchor& anchor,
                                          bool ends = false) noexcept {
    switch_here(from, to, anchor, ends);
}

} // namespace mpg::fiber
