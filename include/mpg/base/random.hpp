// A small fast generator for victim order and select's start; not for cryptography.
#pragma once

#include <cstdint>

namespace mpg::base {

/// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
class random {
  public:
    explicit random(std::uint64_t seed) noexcept : state_(seed) {}
    std::uint64_t next() noexcept {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    /// Uniform in [0, n) up to 2^-32 (multiply-shift). Precondition: n > 0.
    std::uint32_t below(std::uint32_t n) noexcept { return below(n, next()); }
    /// The same of bits that next() has given.
    static std::uint32_t below(std::uint32_t n, std::uint64_t bits) noexcept {
        return static_cast<std::uint32_t>(((bits >> 32) * n) >> 32);
    }

  private:
    std::uint64_t state_;
};

} // namespace mpg::base
