// The one clock of the library.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <ratio>
#include <time.h>
#include <type_traits>

namespace mpg {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
using duration = std::chrono::nanoseconds;

} // namespace mpg

namespace mpg::base {

/// Nanoseconds of the steady clock. never: a deadline that does not come.
using nanos = std::int64_t;
inline constexpr nanos never = std::numeric_limits<nanos>::max();

/// 20 ns (vDSO).
inline nanos now() noexcept {
#if defined(MPG_MODEL_ATOMICS) // the model checker repeats what it has seen: there time stands still
    return 0;
#else
    ::timespec t;
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<nanos>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
#endif
}

inline nanos to_nanos(time_point t) noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(t.time_since_epoch()).count();
}
inline time_point to_time_point(nanos n) noexcept { return time_point(std::chrono::nanoseconds(n)); }

/// A parameter that takes a duration of any kind: as nanoseconds, rounded up; what is too long for them is for ever.
struct any_duration {
    std::chrono::nanoseconds value;

    template <class Rep, class Period>
    constexpr any_duration(std::chrono::duration<Rep, Period> d) : value(of(d)) {} // implicit: it stands for one
    constexpr operator std::chrono::nanoseconds() const noexcept { return value; }

  private:
    template <class Rep, class Period>
    static constexpr std::chrono::nanoseconds of(std::chrono::duration<Rep, Period> d) {
        using std::chrono::nanoseconds;
        if constexpr (std::is_same_v<decltype(d), nanoseconds>) {
            return d;
        } else if constexpr (std::is_integral_v<Rep> && std::is_signed_v<Rep> && sizeof(Rep) <= 8 &&
                             std::ratio_greater_equal_v<Period, std::nano>) {
            using wide = std::chrono::duration<std::int64_t, Period>;
            if (wide(d) > std::chrono::duration_cast<wide>(nanoseconds::max())) return nanoseconds::max();
            if (wide(d) < std::chrono::duration_cast<wide>(nanoseconds::min())) return nanoseconds::min();
            return std::chrono::ceil<nanoseconds>(wide(d));
        } else {
            const long double seconds = std::chrono::duration<long double>(d).count();
            if (seconds <= -9.2e9L) return nanoseconds::min();
            if (!(seconds < 9.2e9L)) return nanoseconds::max();
            return std::chrono::ceil<nanoseconds>(d);
        }
    }
};

/// from + d without overflow; a d of nanoseconds::max() means never. A negative d is in the past.
inline nanos deadline_after(std::chrono::nanoseconds d, nanos from) noexcept {
    nanos result = 0;
    if (d == std::chrono::nanoseconds::max() || __builtin_add_overflow(from, d.count(), &result)) return never;
    return result;
}
inline nanos deadline_after(std::chrono::nanoseconds d) noexcept { return deadline_after(d, now()); }

} // namespace mpg::base
