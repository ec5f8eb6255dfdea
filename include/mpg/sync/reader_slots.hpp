// Readers counted on one cache line a P.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>
#include <mpg/sched/wait.hpp>

#include <cstdint>
#include <memory>
#include <new>

namespace mpg::sync {

/// A count in several places, which can be closed. Who enters adds one where he is, who leaves takes one away
/// where he is by then, and that may be elsewhere: so a place may be negative, and only the sum means
/// something. In a closed place both do nothing and say so. Made closed. After Linux's percpu_rw_semaphore.
///
///   a place     count << 1 | closed. Changed by compare-exchange and not by addition, so that nothing has to
///   be undone
///               where it turns out to be closed: what close() takes is exact.
///   who may     enter, leave: everybody, always. close, open: one at a time.
///   orders      leave releases and close acquires: who has closed sees what those did who have left. open
///   releases and
///               enter acquires: who has entered sees what was before open.
class reader_slots {
  public:
    /// One place for each P; null: no memory.
    static std::unique_ptr<reader_slots> make() noexcept {
        std::unique_ptr<reader_slots> s(new (std::nothrow) reader_slots);
        if (!s) return s;
        s->size_ = sched::places();
        s->slots_.reset(new (std::nothrow) slot[s->size_]);
        if (!s->slots_) s.reset();
        return s;
    }

    /// False: closed.
    bool enter() noexcept { return change<2>(std::memory_order_acquire); }  // pairs with: open
    bool leave() noexcept { return change<-2>(std::memory_order_release); } // pairs with: close

    void open() noexcept {
        for (unsigned i = 0; i != size_; ++i)
            slots_[i].count.store(0, std::memory_order_release); // pairs with: enter
    }
    /// How many more have entered than have left. Precondition: open.
    std::int64_t close() noexcept {
        std::int64_t sum = 0;
        for (unsigned i = 0; i != size_; ++i)
            sum += slots_[i].count.exchange(closed, std::memory_order_acquire) / 2; // pairs with: leave
        return sum;
    }

  private:
    static constexpr std::int64_t closed = 1;
    struct alignas(base::cache_line) slot {
        base::atomic<std::int64_t> count{closed};
    };

    template <std::int64_t By> bool change(std::memory_order order) noexcept {
        auto& count = slots_[sched::place() % size_].count;
        std::int64_t old = count.load(std::memory_order_relaxed);
        do {
            if (old & closed) [[unlikely]]
                return false;
        } while (!count.compare_exchange_weak(old, old + By, order, std::memory_order_relaxed));
        return true;
    }

    std::unique_ptr<slot[]> slots_;
    unsigned size_ = 0;
};

} // namespace mpg::sync
