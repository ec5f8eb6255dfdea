// The seam through which a model checker replaces the atomics of the lock-free parts.
#pragma once

#include <atomic>

namespace mpg::base {

template <class T> using atomic = std::atomic<T>;

} // namespace mpg::base
