// The local run queue of a P: a ring of 1024, pushed by its owner, popped by its owner and by thieves.
//
// Go's runq (src/runtime/proc.go). head_ is advanced by compare-exchange by whoever takes; tail_ is stored by the owner
// only. A slot between head_ and tail_ is written before tail_ is released and not overwritten before head_ has passed
// it, so a taker that wins its exchange on head_ has read valid slots; one that loses throws away what it read.
//
// The owner may take a task out again that it has pushed lately (take_back). In its lower half head_ has a turn and a
// busy bit: while it is set nobody takes, and a thief that has read head_ before fails, for the turn is another one.
// (The index is above, where it may run over.)
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/config.hpp>

#include <array>
#include <cstdint>

namespace mpg::sched {

struct task;

/// Capacity: a power of two. The model checker tries small ones.
template <std::uint32_t Capacity> class basic_run_queue {
  public:
    static constexpr std::uint32_t capacity = Capacity;
    static_assert(capacity >= 2 && (capacity & (capacity - 1)) == 0);

    /// Owner only. False: full.
    bool push(task* t) noexcept {
        std::uint32_t tail = tail_.load(std::memory_order_relaxed);
        if (tail - index(head_.load(std::memory_order_acquire)) >= capacity) return false; // pairs with: pop, steal
        slots_[tail % capacity].store(t, std::memory_order_relaxed);
        tail_.store(tail + 1, std::memory_order_release); // pairs with: pop, take, size
        return true;
    }
    /// Owner only. alone: no other P exists, so nobody steals and a plain store does.
    MPG_ALWAYS_INLINE task* pop(bool alone) noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        for (;;) {
            if (index(head) == tail_.load(std::memory_order_relaxed)) return nullptr;
            task* t = slots_[index(head) % capacity].load(std::memory_order_relaxed);
            if (alone) {
                head_.store(advanced(head, 1), std::memory_order_release);
                return t;
            }
            // release: the slot was read before it may be overwritten; pairs with: push.
            if (head_.compare_exchange_weak(head, advanced(head, 1), std::memory_order_acq_rel,
                                            std::memory_order_relaxed))
                return t;
        }
    }
    /// Owner only. Where the ring begins and ends, as long as nobody takes and the owner does nothing.
    struct ends {
        std::uint64_t head;
        std::uint32_t tail;
        bool empty() const noexcept { return index(head) == tail; }
    };
    ends now() const noexcept {
        return {head_.load(std::memory_order_relaxed), tail_.load(std::memory_order_relaxed)};
    }
    /// Of a ring from which nobody steals, which is not empty: its oldest.
    task* front(ends e) const noexcept { return slots_[index(e.head) % capacity].load(std::memory_order_relaxed); }
    /// The same: its oldest goes, and t comes to the back.
    void rotate(ends e, task* t) noexcept {
        // release pairs with: size. Nobody takes, so the freed slot may be written at once.
        head_.store(advanced(e.head, 1), std::memory_order_release);
        slots_[e.tail % capacity].store(t, std::memory_order_relaxed);
        tail_.store(e.tail + 1, std::memory_order_release); // pairs with: size
    }
    /// Owner only: takes t out again if it is among those pushed last. What was pushed after it moves up.
    bool take_back(const task* t, bool alone) noexcept {
        const std::uint32_t tail = tail_.load(std::memory_order_relaxed);
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        const std::uint32_t size = tail - index(head), most = size < look_back ? size : look_back;
        std::uint32_t back = 1; // how far from the tail
        while (back <= most && slots_[(tail - back) % capacity].load(std::memory_order_relaxed) != t) ++back;
        if (back > most) return false;
        if (!alone)
            // acquire: what follows comes after it. From here on nobody else changes head_.
            while (!head_.compare_exchange_weak(head, head | busy, std::memory_order_acquire,
                                                std::memory_order_relaxed))
                if (tail - index(head) < back) return false; // it was taken meanwhile
        for (; back > 1; --back)
            slots_[(tail - back) % capacity].store(
                slots_[(tail - back + 1) % capacity].load(std::memory_order_relaxed), std::memory_order_relaxed);
        tail_.store(tail - 1, std::memory_order_relaxed);
        if (!alone) head_.store(next_turn(head), std::memory_order_release); // pairs with: take, size
        return true;
    }
    /// Owner only, of a full ring: takes the oldest out, at most half of it, and at most `most`.
    std::uint32_t take_oldest(task** out, std::uint32_t most) noexcept { return take(out, most); }
    /// Any thread: takes half of it, rounded up.
    std::uint32_t steal(task** out) noexcept { return take(out, capacity); }
    /// Any thread; a recent value.
    std::uint32_t size() const noexcept {
        std::uint32_t head = index(head_.load(std::memory_order_acquire));
        std::uint32_t tail = tail_.load(std::memory_order_acquire); // pairs with: push
        return tail - head <= capacity ? tail - head : 0;
    }
    /// Any thread: another value than before, when something was taken out since, at either end. Never ~0.
    std::uint64_t mark() const noexcept { return head_.load(std::memory_order_relaxed) & ~busy; }

  private:
    static constexpr std::uint64_t busy = 1, turn = 2;
    static constexpr std::uint32_t look_back = 16;
    static std::uint32_t index(std::uint64_t head) noexcept { return static_cast<std::uint32_t>(head >> 32); }
    static std::uint64_t advanced(std::uint64_t head, std::uint32_t n) noexcept { return head + (std::uint64_t{n} << 32); }
    static std::uint64_t next_turn(std::uint64_t head) noexcept {
        return (std::uint64_t{index(head)} << 32) | static_cast<std::uint32_t>(head + turn);
    }

    std::uint32_t take(task** out, std::uint32_t most) noexcept {
        for (;;) {
            std::uint64_t head = head_.load(std::memory_order_acquire); // pairs with: take_back
            if (head & busy) return 0;
            std::uint32_t tail = tail_.load(std::memory_order_acquire); // pairs with: push
            std::uint32_t n = tail - index(head);
            if (n == 0 || n > capacity) return 0; // more: the two were read apart, so the owner is at it
            n -= n / 2;
            if (n > most) n = most;
            for (std::uint32_t i = 0; i < n; ++i)
                out[i] = slots_[(index(head) + i) % capacity].load(std::memory_order_relaxed);
            // release: the slots were read before they may be overwritten; pairs with: push.
            if (head_.compare_exchange_strong(head, advanced(head, n), std::memory_order_acq_rel,
                                              std::memory_order_relaxed))
                return n;
        }
    }

    alignas(base::cache_line) base::atomic<std::uint64_t> head_{0}; // index, turns, busy; owner and thieves
    alignas(base::cache_line) base::atomic<std::uint32_t> tail_{0}; // the owner writes
    std::array<base::atomic<task*>, capacity> slots_{};
};

using run_queue = basic_run_queue<1024>;

} // namespace mpg::sched
