// The local run queue of a P: a ring of 256, pushed by its owner, popped by its owner and by thieves.
//
// Go's runq (src/runtime/proc.go). head_ is advanced by compare-exchange by whoever takes; tail_ is stored by the owner
// only. A slot between head_ and tail_ is written before tail_ is released and not overwritten before head_ has passed
// it, so a taker that wins its exchange on head_ has read valid slots; one that loses throws away what it read.
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
        if (tail - head_.load(std::memory_order_acquire) >= capacity) return false; // pairs with: pop, steal
        slots_[tail % capacity].store(t, std::memory_order_relaxed);
        tail_.store(tail + 1, std::memory_order_release); // pairs with: pop, take, size
        return true;
    }
    /// Owner only. alone: no other P exists, so nobody steals and a plain store does.
    task* pop(bool alone) noexcept {
        std::uint32_t head = head_.load(std::memory_order_relaxed);
        for (;;) {
            if (head == tail_.load(std::memory_order_relaxed)) return nullptr;
            task* t = slots_[head % capacity].load(std::memory_order_relaxed);
            if (alone) {
                head_.store(head + 1, std::memory_order_release);
                return t;
            }
            // release: the slot was read before it may be overwritten; pairs with: push.
            if (head_.compare_exchange_weak(head, head + 1, std::memory_order_acq_rel, std::memory_order_relaxed))
                return t;
        }
    }
    /// Owner only, of a full ring: takes the older half out. out must have room for capacity / 2.
    std::uint32_t take_half(task** out) noexcept { return take(out, capacity / 2); }
    /// Any thread: takes half of it, rounded up.
    std::uint32_t steal(task** out) noexcept { return take(out, capacity); }
    /// Any thread; a recent value.
    std::uint32_t size() const noexcept {
        std::uint32_t head = head_.load(std::memory_order_acquire);
        std::uint32_t tail = tail_.load(std::memory_order_acquire); // pairs with: push
        return tail - head <= capacity ? tail - head : 0;
    }
    std::uint32_t head() const noexcept { return head_.load(std::memory_order_relaxed); }

  private:
    std::uint32_t take(task** out, std::uint32_t most) noexcept {
        for (;;) {
            std::uint32_t head = head_.load(std::memory_order_acquire);
            std::uint32_t tail = tail_.load(std::memory_order_acquire); // pairs with: push
            std::uint32_t n = tail - head;
            if (n == 0) return 0;
            if (n > capacity) continue; // the two were read apart
            n -= n / 2;
            if (n > most) n = most;
            for (std::uint32_t i = 0; i < n; ++i)
                out[i] = slots_[(head + i) % capacity].load(std::memory_order_relaxed);
            // release: the slots were read before they may be overwritten; pairs with: push.
            if (head_.compare_exchange_strong(head, head + n, std::memory_order_acq_rel, std::memory_order_relaxed))
                return n;
        }
    }

    alignas(base::cache_line) base::atomic<std::uint32_t> head_{0}; // owner and thieves
    alignas(base::cache_line) base::atomic<std::uint32_t> tail_{0}; // the owner writes
    std::array<base::atomic<task*>, capacity> slots_{};
};

using run_queue = basic_run_queue<256>;

} // namespace mpg::sched
