// Results that leave no addresses behind. What is freed keeps its bytes, and other things come to lie where a string of it lay:
// its old address would then look like one of theirs, and cost a proof (prove.hpp).
#pragma once

namespace mpg::debug::detail {

/// Empties strings and vectors, and what they are made of, too. For destructors.
template <class... T> void forget(T&... parts) noexcept {
    (T().swap(parts), ...);
    asm volatile("" : : : "memory"); // else these are stores into objects that end, and left out
}

} // namespace mpg::debug::detail
