// errno, for code that may wait between two uses of it.
//
// A task takes the value of errno along to another thread, but the C library declares the function behind the macro `const`:
// so a compiler asks once for the address and keeps it, within one function, over a wait; after that it is the address of
// another thread's errno. Here the macro calls the same function through a pointer that the compiler knows nothing of. (brpc
// does likewise.) The same object, the same type; 1 ns more where a function uses it several times.
//
// Define MPG_KEEP_ERRNO to keep the C library's macro; then read errno in the function that made the call.
#pragma once

#include <mpg/base/config.hpp>

#include <cerrno>

namespace mpg::base {

MPG_ALWAYS_INLINE int* errno_address() noexcept {
    int* (*address)() noexcept = &__errno_location;
    asm volatile("" : "+r"(address));
    return address();
}

} // namespace mpg::base

#if !defined(MPG_KEEP_ERRNO)
#undef errno
#define errno (*::mpg::base::errno_address())
#endif
