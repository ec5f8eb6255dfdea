// Cancels of operations on other Ps' pollers, handed to the kernel together.
#pragma once

#include <mpg/sched/machine.hpp>
#include <mpg/sched/poller.hpp>

#include <utility>

namespace mpg::sched {

/// What the hooks of a source begin at pollers of other Ps: handed to the kernel together when all have fired, instead
/// of by a system call for each operation. Of nested ones (contexts below contexts) the outermost counts. Lives on the
/// stack of one who does not suspend meanwhile.
class cancel_batch {
  public:
    cancel_batch() noexcept : on_(inside_.m) {
        if (on_ && !on_->cancels)
            on_->cancels = this;
        else
            on_ = nullptr;
    }
    ~cancel_batch() {
        if (!on_) return;
        on_->cancels = nullptr;
        while (poller* p = first_) {
            first_ = p->next_unsent; // before flush: then it may be in another batch
            p->flush();
        }
    }
    cancel_batch(const cancel_batch&) = delete;
    cancel_batch& operator=(const cancel_batch&) = delete;

    /// Under p's own lock, and once until its flush: it is a poller of the runtime that this thread works for, and so
    /// outlives the batch.
    void add(poller& p) noexcept { p.next_unsent = std::exchange(first_, &p); }

  private:
    runtime_section inside_; // others leave their cancels to a batch: so who has one is not frozen
    machine* on_;            // null: somebody else collects, or it is a plain thread that has never waited
    poller* first_ = nullptr;
};

} // namespace mpg::sched
