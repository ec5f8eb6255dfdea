// Blocks of the calling machine's P.
#pragma once

#include <mpg/sched/processor.hpp>
#include <mpg/sched/recycled.hpp>

namespace mpg::sched {

inline void* take_block(std::size_t bytes) {
#if !defined(MPG_ASAN) && !defined(MPG_TSAN)
    if (bytes <= block_cache::largest) [[likely]] {
        {
            runtime_section here;
            if (here.m && here.m->p) [[likely]]
                if (void* b = here.m->p->blocks.take(bytes)) [[likely]]
                    return b;
        }
        return ::operator new(block_cache::rounded(bytes));
    }
#endif
    return ::operator new(bytes);
}

inline void give_block(void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if !defined(MPG_ASAN) && !defined(MPG_TSAN)
    if (bytes <= block_cache::largest) [[likely]] {
        runtime_section here;
        if (here.m && here.m->p && here.m->p->blocks.give(memory, bytes)) [[likely]]
            return;
    }
#endif
    ::operator delete(memory);
}

} // namespace mpg::sched
