// What a context handle points to. After Go's context/context.go.
//
// A context is a node of a tree whose edges are references from the child to its parent. A *cancel node* is a
// cancel_source; a *value node* carries one value and has the source of its nearest cancel node above.
//
//   state word  cancel_source's done flag; cause_ is written before it is set. quiet_ says that all that a
//               cancel() has to do is done, so that the next one, mostly that of the destructor, has nothing to do.
//   fast path   is_done: one load. A second cancel(): one load.
//   slow path   finish(): the first caller fixes the error and the cause, and fires the hooks, among them those of
//               the children, under this node's lock: the locks nest from the parent to the child. A cancel()
//               that lost waits for that lock, so it returns when all below is done, too.
//   the races   parent ends / child ends: the child's own end unsubscribes from the parent without holding
//               the child's lock; the parent's end has unlinked the hook before it fires it. Unlinking twice
//               does no harm. deadline / last reference: the timer's callback has no reference, and none is
//               dropped in it. The last reference disarms the timer, which waits for a callback that runs,
//               and unsubscribes from the parent, which waits for a hook that runs; only then the node is
//               freed. Nobody disarms while he holds a context's lock, which the callback takes.
//   costs       with_cancel: a block of the P and one lock of the parent. Being cancelled: one lock, one more for
//               each child and two for a parent. A deadline: 30 ns for the clock and the timer.
#pragma once

#include <mpg/base/atomic.hpp>
#include <mpg/base/clock.hpp>
#include <mpg/base/error.hpp>
#include <mpg/base/spinlock.hpp>
#include <mpg/chan/chan.hpp>
#include <mpg/sched/cancel.hpp>
#include <mpg/sched/recycled.hpp>
#include <mpg/sched/timer.hpp>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <typeinfo>
#include <utility>

namespace mpg::cancel {

class cancel_node;

/// What tells the keys of values from each other. Without RTTI: the address of something that each has, one in the process as far
/// as the linker makes it one. All parts of a program have it, or none.
#if defined(__cpp_rtti)
using key_id = const std::type_info&;
template <class K> key_id key_of() noexcept { return typeid(K); }
#else
using key_id = const void*;
template <class K> [[gnu::visibility("default")]] inline char key_place = 0; // not const: a linker may merge those
template <class K> key_id key_of() noexcept { return &key_place<K>; }
#endif

/// References are counted: handles and child nodes have one each.
struct node {
    base::atomic<std::uint32_t> refs{1};
    node* const parent;        // a reference; null below background
    cancel_node* const source; // this, or the nearest one above; null: never done

    node(node* p, cancel_node* s) noexcept : parent(p), source(s) {}
    node(const node&) = delete;
    node& operator=(const node&) = delete;
    virtual ~node() = default;

    /// The value of this node when it has one of that key.
    virtual const void* find(key_id) const noexcept { return nullptr; }
};

inline node* share(node* n) noexcept {
    if (n) n->refs.fetch_add(1, std::memory_order_relaxed);
    return n;
}
/// In a loop, so that a long chain of contexts does not need a deep stack.
inline void drop(node* n) noexcept {
    // acquire: pairs with the release of those who dropped theirs before. The only owner needs no read-modify-write:
    // nobody is left who could share.
    while (n && (n->refs.load(std::memory_order_acquire) == 1 ||
                 n->refs.fetch_sub(1, std::memory_order_acq_rel) == 1)) {
        node* above = n->parent;
        delete n;
        n = above;
    }
}

template <class K> class value_node final : public node {
  public:
    value_node(node* p, typename K::type&& v)
        : node(p, p ? p->source : nullptr), value_(std::move(v)) {}
    const void* find(key_id key) const noexcept override {
        return key == key_of<K>() ? std::addressof(value_) : nullptr;
    }

  private:
    const typename K::type value_;
};

class cancel_node final : public node, public sched::cancel_source, public sched::recycled {
  public:
    /// Takes a reference to the parent over, when it does not throw.
    cancel_node(node* p, base::nanos deadline) noexcept
        : node(p, this), above_(p ? p->source : nullptr),
          deadline_(above_ ? std::min(deadline, above_->deadline_) : deadline) {
        upward_.self = timer_.self = this;
        upward_.fire = [](sched::cancel_hook& h) noexcept { static_cast<link&>(h).self->inherit(); };
        timer_.fire = [](sched::timer_node& t) noexcept {
            static_cast<alarm&>(t).self->finish(errc::deadline_exceeded, nullptr);
        };
    }
    ~cancel_node() override {
        if (quiet_.load(std::memory_order_acquire)) return; // pairs with: cancel
        disarm();
        if (above_) above_->unsubscribe(upward_);
    }

    /// Joins the parent and starts the clock; now: the time, where there is a deadline. Once, before anybody else
    /// knows the node. Throws std::logic_error when it needs a timer and no runtime is alive.
    void start(base::nanos now) {
        if (above_ && !above_->subscribe(upward_)) {
            inherit();
            return;
        }
        if (deadline_ == base::never || (above_ && above_->deadline_ == deadline_)) return;
        if (deadline_ <= now) {
            finish(errc::deadline_exceeded, nullptr);
            return;
        }
        sched::arm(timer_, deadline_);
        armed_ = true;
    }

    /// The first call decides. When it returns, the node is done. Neither under a context's lock nor from a
    /// hook.
    void finish(std::error_code err, std::exception_ptr cause) noexcept {
        settle(err, std::move(cause));
        if (above_) above_->unsubscribe(upward_);
    }
    void cancel(std::exception_ptr cause) noexcept {
        if (quiet_.load(std::memory_order_acquire)) return; // pairs with: the store
        finish(errc::cancelled, std::move(cause));
        disarm();
        quiet_.store(true, std::memory_order_release); // pairs with: the load, ~cancel_node
    }

    /// Precondition: done. Null: none was given.
    const std::exception_ptr& given_cause() const noexcept { return cause_; }
    base::nanos deadline() const noexcept { return deadline_; }

    /// Made on first use: it costs an allocation, and most contexts are asked by other means.
    recv_chan<void> done_channel() {
        closer* made = closer_.load(std::memory_order_acquire); // pairs with: the exchange below
        if (!made) {
            auto mine = std::make_unique<closer>();
            if (!subscribe(*mine)) mine->close();
            if (closer_.compare_exchange_strong(made, mine.get(), std::memory_order_acq_rel)) {
                made = mine.get();
                closer_owner_ = std::move(mine);
            } else {
                unsubscribe(*mine);
            }
        }
        return made->channel;
    }

  private:
    struct link : sched::cancel_hook {
        cancel_node* self = nullptr;
    };
    struct alarm : sched::timer_node {
        cancel_node* self = nullptr;
    };
    /// Closes the channel of done(). Nobody else can: the others have a receiving view.
    struct closer : sched::cancel_hook {
        chan<void> channel;
        closer() {
            fire = [](sched::cancel_hook& h) noexcept { static_cast<closer&>(h).close(); };
        }
        void close() noexcept { channel.close(); }
    };

    // The parent is done: so is this, for the same reason. May run under the parent's lock.
    void inherit() noexcept { settle(above_->err(), above_->cause_); }

    void settle(std::error_code err, std::exception_ptr cause) noexcept {
        mark_done(err, [&] { cause_ = std::move(cause); });
    }
    // Several may do it at once. Afterwards no callback runs.
    void disarm() noexcept {
        if (armed_) sched::disarm(timer_);
    }

    cancel_node* const above_; // constant; kept alive by parent
    const base::nanos deadline_;
    link upward_;  // subscribed to above_
    alarm timer_;
    bool armed_ = false; // timer_ needs to be disarmed; constant once the node is known to others
    base::atomic<bool> quiet_{false}; // done, disarmed and unsubscribed
    std::exception_ptr cause_;        // written once, before the node is done
    base::atomic<closer*> closer_{nullptr};
    std::unique_ptr<closer> closer_owner_; // written once, by the one who set closer_
};

} // namespace mpg::cancel
