// The global queue: overflow of the rings, tasks from foreign threads, handed-off work.
//
// moodycamel's ConcurrentQueue carries it. That queue is not linearizable: try_dequeue may fail although something is
// in it. So count_ has the say: incremented before an enqueue, decremented after a dequeue; nobody may sleep while
// it is not zero.
//
// It reuses its blocks by fences: who pops says by a fence and relaxed stores that a block is empty, and who pushes into it
// acquires by a fence after relaxed loads. ThreadSanitizer does not know fences: there a push would seem to race with the
// reads of elements that were popped before. So it is told to overlook plain reads while one pops; atomics it still sees.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/concurrentqueue.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/sched/task.hpp>

#include <cstddef>
#include <mutex>

#if defined(MPG_TSAN)
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}
#endif

namespace mpg::sched {

[[noreturn]] void no_memory(const char* what, std::uint64_t id = 0) noexcept;

class global_queue {
  public:
    using queue = moodycamel::ConcurrentQueue<task*>;
    /// One for each P.
    struct tokens {
        explicit tokens(global_queue& q) : producer(q.queue_), consumer(q.queue_) {}
        moodycamel::ProducerToken producer;
        moodycamel::ConsumerToken consumer;
    };

    global_queue() : queue_(1024), foreign_(queue_) {}

    /// From a machine that holds the P of these tokens. Without memory for it the process ends: the task would be lost.
    void push(tokens& of, task* const* tasks, std::size_t n) noexcept {
        count_.fetch_add(n, std::memory_order_seq_cst);
        if (!queue_.enqueue_bulk(of.producer, tasks, n)) no_memory("the queue of runnable tasks");
    }
    /// From anybody.
    void push(task* t) noexcept {
        std::lock_guard hold(foreign_lock_);
        count_.fetch_add(1, std::memory_order_seq_cst);
        if (!queue_.enqueue(foreign_, t)) no_memory("the queue of runnable tasks");
        foreign_came_.store(true, std::memory_order_relaxed);
    }
    /// As pop, of those only that push(task*) has brought.
    std::size_t pop_foreign(task** out, std::size_t most) noexcept {
        if (!foreign_came() || size() == 0) return 0;
        foreign_came_.store(false, std::memory_order_relaxed);
        overlook_reads(true);
        std::size_t n = queue_.try_dequeue_bulk_from_producer(foreign_, out, most);
        overlook_reads(false);
        if (n != 0) count_.fetch_sub(n, std::memory_order_seq_cst);
        if (n == most) foreign_came_.store(true, std::memory_order_relaxed);
        return n;
    }
    /// A hint: may there be such?
    bool foreign_came() const noexcept { return foreign_came_.load(std::memory_order_relaxed); }
    /// Takes up to most. 0 although size() > 0 is possible: try again.
    std::size_t pop(tokens& of, task** out, std::size_t most) noexcept {
        if (size() == 0) return 0;
        overlook_reads(true);
        std::size_t n = queue_.try_dequeue_bulk(of.consumer, out, most);
        overlook_reads(false);
        if (n != 0) count_.fetch_sub(n, std::memory_order_seq_cst);
        return n;
    }
    std::size_t size() const noexcept { return count_.load(std::memory_order_seq_cst); }

  private:
    static void overlook_reads([[maybe_unused]] bool on) noexcept {
#if defined(MPG_TSAN)
        on ? AnnotateIgnoreReadsBegin(__FILE__, __LINE__) : AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#endif
    }

    alignas(base::cache_line) base::atomic<std::size_t> count_{0};
    queue queue_;
    base::spinlock foreign_lock_; // guards foreign_
    moodycamel::ProducerToken foreign_;
    base::atomic<bool> foreign_came_{false};
};

} // namespace mpg::sched
