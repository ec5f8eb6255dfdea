// Memory that goes back to the allocator without what stood in it.
#pragma once

#include <cstddef>

namespace mpg::base {

/// Zeroes, also where the compiler sees that nobody will read it. What is freed keeps its bytes, and the next owner of the stacks,
/// closures and records to which they lead would seem to be reached from there (debug/prove.hpp).
inline void wipe(void* at, std::size_t bytes) noexcept {
    __builtin_memset(at, 0, bytes);
    asm volatile("" : : "r"(at) : "memory");
}

} // namespace mpg::base
