// The seam through which a model checker replaces the atomics of the lock-free parts.
//
// MPG_MODEL_ATOMICS names a header that defines mpg::base::atomic and mpg::base::fence. Only the programs of tests/model
// set it; each is one translation unit and links with nothing else that includes mpg.
#pragma once

#include <atomic>

#if defined(MPG_MODEL_ATOMICS)
#include MPG_MODEL_ATOMICS
#else

namespace mpg::base {

template <class T> using atomic = std::atomic<T>;

inline void fence(std::memory_order order) noexcept { std::atomic_thread_fence(order); }

} // namespace mpg::base

#endif
