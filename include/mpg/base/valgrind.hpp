// Valgrind is told of stacks that are not threads' own: else it takes a switch for a huge push or pop, and what lies
// between for uninitialised. By its own header where that is installed (its requests are a few instructions that do
// nothing elsewhere); without it the program runs there, too, but the tools' reports on tasks may be wrong.
#pragma once

#include <cstddef>
#include <vector>

#if __has_include(<valgrind/valgrind.h>) && !defined(NVALGRIND)
#include <valgrind/valgrind.h>
#define MPG_HAVE_VALGRIND 1
#else
#include <cstdlib>
#include <cstring>
#endif

namespace mpg::base {

/// Does this process run under valgrind?
inline bool under_valgrind() noexcept {
#if defined(MPG_HAVE_VALGRIND)
    return RUNNING_ON_VALGRIND != 0;
#else
    const char* preload = std::getenv("LD_PRELOAD");
    return preload && (std::strstr(preload, "vgpreload") || std::strstr(preload, "valgrind"));
#endif
}

/// The stacks that valgrind was told of; it forgets them when this ends. Not thread-safe.
class valgrind_stacks {
  public:
    valgrind_stacks() = default;
    valgrind_stacks(const valgrind_stacks&) = delete;
    valgrind_stacks& operator=(const valgrind_stacks&) = delete;
    ~valgrind_stacks() {
#if defined(MPG_HAVE_VALGRIND)
        for (unsigned id : ids_) VALGRIND_STACK_DEREGISTER(id);
#endif
    }
    void add([[maybe_unused]] char* low, [[maybe_unused]] char* high) {
#if defined(MPG_HAVE_VALGRIND)
        if (RUNNING_ON_VALGRIND) ids_.push_back(static_cast<unsigned>(VALGRIND_STACK_REGISTER(low, high)));
#endif
    }

  private:
    std::vector<unsigned> ids_; // empty elsewhere
};

} // namespace mpg::base
