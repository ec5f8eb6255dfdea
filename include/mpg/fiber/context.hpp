// Making and switching stacks: the only file that jumps.
//
// Two implementations behind one interface, of the same layout: our own on x86-64 (1.0 ns a switch where
// jump_fcontext takes 3.5, and 51 when a sticky FP flag differs), Boost.Context's fcontext elsewhere or with
// MPG_USE_FCONTEXT. Neither touches the FP control words, errno or exception state: execution.hpp does.
#pragma once

#include <mpg/base/config.hpp>

#include <cstddef>
#include <cstdint>

#if !defined(__x86_64__) && !defined(MPG_USE_FCONTEXT)
#define MPG_USE_FCONTEXT 1
#endif

#if defined(MPG_USE_FCONTEXT)
#include <boost/context/detail/fcontext.hpp>
#endif

namespace mpg::fiber {

/// Where a suspended stack goes on. Own switch: sp points at {rip, rbp, 128 bytes of red zone}; a debugger finds the
/// frame's registers there (the compiler has saved the other callee-saved ones in the frame itself).
struct context {
    void* sp = nullptr;
};

#if defined(MPG_USE_FCONTEXT)

MPG_ALWAYS_INLINE void jump(context& from, context to) noexcept {
    auto back = boost::context::detail::jump_fcontext(to.sp, &from);
    static_cast<context*>(back.data)->sp = back.fctx;
}

/// Prepares a stack that ends (its high end) at top: the first jump to the result calls Entry, which must not return.
template <void (*Entry)() noexcept> context make(void* top, std::size_t size) noexcept {
    auto first = [](boost::context::detail::transfer_t from) {
        static_cast<context*>(from.data)->sp = from.fctx;
        Entry();
    };
    return {boost::context::detail::make_fcontext(top, size, first)};
}

#else

/// Leaves this stack, remembering it in `from`, for `to`. Returns when somebody jumps back.
MPG_ALWAYS_INLINE void jump(context& from, context to) noexcept {
    context* f = &from;
    void* t = to.sp;
    // The compiler saves what it needs of the clobbered registers around this; rsp, rbp and rip are ours. The 128
    // bytes keep clear of the red zone of the function that this is inlined into.
    asm volatile("subq $128, %%rsp\n\t"
                 "pushq %%rbp\n\t"
                 "leaq 1f(%%rip), %%rax\n\t"
                 "pushq %%rax\n\t"
                 "movq %%rsp, (%0)\n\t"
                 "movq %1, %%rsp\n\t"
                 "popq %%rax\n\t"
                 "popq %%rbp\n\t"
                 "jmp *%%rax\n"
                 "1:\n\t"
                 "endbr64\n\t"
                 "addq $128, %%rsp"
                 : "+D"(f), "+S"(t)
                 :
                 : "rax", "rbx", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                   "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
                   "xmm13", "xmm14", "xmm15",
#if defined(__AVX512F__)
                   "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26",
                   "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7",
#endif
                   "memory", "cc");
}

/// Where the first jump to a stack arrives. Who jumped has left his registers as they were, and the outermost frames here
/// would save them, for as long as they stand; they are cleared, since to a search for who knows what (debug/prove.hpp)
/// one task would seem to know of the other. The address of Entry stands on the stack.
[[gnu::naked]] inline void entrance() {
    asm volatile("endbr64\n\t"
                 "xorl %ebx, %ebx\n\t"
                 "xorl %r12d, %r12d\n\t"
                 "xorl %r13d, %r13d\n\t"
                 "xorl %r14d, %r14d\n\t"
                 "xorl %r15d, %r15d\n\t"
                 "popq %rax\n\t"
                 "jmp *%rax");
}

/// Prepares a stack that ends (its high end) at top: the first jump to the result calls Entry, which must not return.
template <void (*Entry)() noexcept> context make(void* top, std::size_t) noexcept {
    auto* sp = reinterpret_cast<std::uint64_t*>(reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t{15});
    *--sp = 0;
    *--sp = 0; // the return address of Entry: unwinders end here. rsp is 8 mod 16 as after a call.
    *--sp = 0;
    *--sp = reinterpret_cast<std::uint64_t>(Entry);
    *--sp = 0; // rbp: frame-pointer walks end here
    *--sp = reinterpret_cast<std::uint64_t>(&entrance);
    return {sp};
}

#endif

} // namespace mpg::fiber
