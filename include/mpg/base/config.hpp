// Compiler and sanitizer facts that the other rooms need. Nothing here changes a type's layout.
#pragma once

#include <cstddef>

#if !defined(__linux__) || !(defined(__x86_64__) || defined(__aarch64__))
#error "mpg needs Linux on x86-64 or aarch64"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define MPG_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define MPG_TSAN 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(MPG_ASAN)
#define MPG_ASAN 1
#endif
#if __has_feature(thread_sanitizer) && !defined(MPG_TSAN)
#define MPG_TSAN 1
#endif
#endif

#if defined(MPG_GDB_SCRIPT)
// gdb loads that file with the program (see "The .debug_gdb_scripts section" in its manual): a type byte, 1 for a Python
// script, and its name; the linker keeps one of equal entries. Nothing of it is loaded when the program runs.
__asm__(".pushsection \".debug_gdb_scripts\", \"MS\", %progbits, 1\n"
        ".byte 1\n"
        ".asciz \"" MPG_GDB_SCRIPT "\"\n"
        ".popsection\n");
#endif

#define MPG_NOINLINE [[gnu::noinline]]
#define MPG_ALWAYS_INLINE [[gnu::always_inline]] inline

namespace mpg::base {

#if defined(MPG_ASAN)
inline constexpr bool asan = true;
#else
inline constexpr bool asan = false;
#endif
#if defined(MPG_TSAN)
inline constexpr bool tsan = true;
#else
inline constexpr bool tsan = false;
#endif

/// Two adjacent lines are fetched together on current x86, but 64 keeps records small; fields that different
/// threads write stand this far apart.
inline constexpr std::size_t cache_line = 64;

/// Tells the CPU that this is a spin loop.
MPG_ALWAYS_INLINE void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    asm volatile("yield" ::: "memory");
#endif
}

} // namespace mpg::base
