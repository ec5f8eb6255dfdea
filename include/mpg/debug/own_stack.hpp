// The stack of whoever asks, as profiles want it: from the function that calls the library on.
#pragma once

#include <mpg/debug/capture.hpp>
#include <mpg/sched/machine.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mpg::debug::detail {

/// Unwinds the calling thread's stack from a copy: the stack itself has redzones of AddressSanitizer. One caller at a time;
/// it remembers the rows of the tables.
class own_stack {
  public:
    /// From the function that `caller` is in on: a return address, that of the library's outermost function. Good until the
    /// next call. A task's stack is copied as it is, another one as far as it is mapped.
    const call_stack& from(const void* caller, const register_set& here) {
        const std::uint64_t base = here.sp() & ~std::uint64_t{7};
        std::size_t size = task_stack_above(base);
        if (size != 0) {
            size = std::min(size, most_bytes);
            copy_racy(bytes_, reinterpret_cast<const void*>(base), size);
        } else {
            size = copy_mapped(bytes_, base, most_bytes);
        }
        (void)unwind_.unwind(here, {base, bytes_, size}, frames_);
        std::memset(bytes_, 0, size); // see scratch_allocator
        auto at = std::find(frames_.begin(), frames_.end(), reinterpret_cast<std::uint64_t>(caller) - 1);
        if (at != frames_.end()) frames_.erase(frames_.begin(), at);
        return frames_;
    }

  private:
    static constexpr std::size_t most_bytes = 16 << 10;

    /// 0: that is no task's stack.
    static std::size_t task_stack_above(std::uint64_t sp) noexcept {
        sched::machine* m = sched::this_machine();
        sched::task* t = m ? m->cur : nullptr;
        if (!t || !t->rt || !t->stack) return 0;
        const auto top = reinterpret_cast<std::uint64_t>(t->rt->stacks.top(t->stack));
        if (sp < reinterpret_cast<std::uint64_t>(t->stack) || sp >= top) return 0;
        return static_cast<std::size_t>(top - sp) & ~std::size_t{7};
    }

    unwinder unwind_;
    call_stack frames_;
    alignas(8) std::byte bytes_[most_bytes];
};

} // namespace mpg::debug::detail
